import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.recipe import read_recipe, run

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
TOY = Path(__file__).parents[1] / "recipe" / "toy.toml"

SECDED = """
[[evaluation.threats]]
kind = "memory_faults"
name = "protected"
levels = [1e-5, 1e-3, 1e-2]
chips = 3
images = 20
protections = [{ kind = "secded" }]
"""


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a toy run with three rates; tests only read it."""
    folder = tmp_path_factory.mktemp("energy")
    text = TOY.read_text().replace(
        "levels = [1e-2]\nchips = 2", "levels = [1e-5, 1e-3, 1e-2]\nchips = 3"
    )
    assert "1e-5" in text
    text = text.replace('"float", "baseline", "s1+s2+s3"', '"float", "baseline"')
    text += SECDED
    recipe = folder / "toy.toml"
    recipe.write_text(text)
    run(read_recipe(recipe), folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture
def copied(measured: Path, tmp_path: Path) -> Path:
    """Return a copy of the run without its manifest, to be changed."""
    copy = Path(shutil.copytree(measured, tmp_path / "copy"))
    (copy / "bitproof-manifest.json").unlink()
    return copy


def lines_of(folder: Path) -> list[str]:
    return (folder / "tallies.jsonl").read_text().splitlines(keepends=True)


def test_every_network_has_its_line(call: Call, measured: Path, tmp_path: Path) -> None:
    asked = ["--threat", "random_flips", "--max-drop", 5]
    outcome = call("energy", measured, *asked, "--json", tmp_path / "told.json")
    assert (outcome.code, outcome.err) == (0, "")
    first, *lines = outcome.out.splitlines()
    assert first.startswith("loss of mean accuracy: at most 5 points from its own without faults")
    assert [line.split(":")[0] for line in lines[:2]] == ["float", "baseline"]
    assert re.search(r"baseline: .*[01]\.\d{3} V/Vmin.* % energy saved", lines[1])
    assert "14 nm" in outcome.out
    assert "note: chips" not in outcome.out  # clean accuracy is known on the images of the chips
    told = json.loads((tmp_path / "told.json").read_text())
    assert [point["variant"] for point in told["points"]] == ["float", "baseline"]
    assert told["max_drop"] == 0.05
    assert told["points"][1]["bits"] == 8


def test_clean_accuracy_on_other_images_is_told(call: Call, copied: Path) -> None:
    kept = [line for line in lines_of(copied) if '"reference"' not in line]
    assert len(kept) < len(lines_of(copied))
    (copied / "tallies.jsonl").write_text("".join(kept))
    told = call("energy", copied, "--threat", "random_flips").out
    assert "note: chips classified 20 images, the clean network 40" in told


def test_the_same_call_gives_the_same_words(call: Call, measured: Path) -> None:
    assert call("energy", measured).out == call("energy", measured).out


def test_a_network_that_loses_nothing_is_only_bounded(call: Call, measured: Path) -> None:
    outcome = call("energy", measured, "--max-drop", 100, "--weight-traffic")
    assert (
        "baseline random_flips: at most 0.835 V/Vmin (0.835 to 0.835), at least 30.2 %"
        in outcome.out
    )
    assert "the highest measured" in outcome.out
    assert "energy per weight, in 8-bit words" in outcome.out


def test_a_memory_of_ones_own_gives_other_voltages(
    call: Call, measured: Path, tmp_path: Path
) -> None:
    table = tmp_path / "own.csv"
    table.write_text("voltage,ber,energy\n0.5,1e-2,0.2\n1,0,1\n")
    outcome = call("energy", measured, "--max-drop", 100, "--table", table)
    assert (
        "baseline random_flips: at most 0.500 V/Vmin (0.500 to 0.500), at least 80.0 %"
        in outcome.out
    )
    assert f"voltages: {table}" in outcome.out


def test_check_bits_cost_energy_and_break(call: Call, measured: Path) -> None:
    outcome = call("energy", measured, "--max-drop", 100, "--decoder", 0.1)
    # At BER 1 %: an access takes 0.698, with check bits 1.125 times that, and the decoder's 0.1.
    assert (
        "baseline protected: at most 0.835 V/Vmin (0.835 to 0.835), at least 11.5 %" in outcome.out
    )
    assert "16.2 % of code words beyond repair" in outcome.out
    assert "note: what protections store is charged, and 0.1 for each decoding" in outcome.out


def test_an_unfinished_run_answers_for_what_it_has(call: Call, copied: Path) -> None:
    for name in ("results.csv", "report.html"):
        (copied / name).unlink()
    lines = lines_of(copied)
    (copied / "tallies.jsonl").write_text("".join(lines[:-2]))
    outcome = call("energy", copied)
    assert outcome.code == 0
    assert re.search(r"baseline \w+: not yet, 2 of 9 counts are missing", outcome.out)
    (copied / "tallies.jsonl").write_text("".join(lines[:3]))
    outcome = call("energy", copied)
    assert (outcome.code, outcome.out) == (2, "")
    (problem,) = outcome.problems
    assert "no network is measured under memory faults yet; float: " in problem


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--against", "basline"], "no network 'basline'. Did you mean 'baseline'?"),
        (["--threat", "random_flip"], "no memory fault 'random_flip'. Did you mean"),
        (["--max-drop", "-1"], "--max-drop: wanted percentage points from 0 to 100, got -1"),
        (["--max-drop", "nan"], "--max-drop: wanted percentage points from 0 to 100, got nan"),
        (["--decoder", "-1"], "decoder: wanted an energy of 0 or more"),
        (["--table", "nowhere.csv"], "nowhere.csv: wanted a table of voltages"),
    ],
)
def test_a_wrong_question_is_one_line(
    words: list[str], problem: str, call: Call, measured: Path
) -> None:
    outcome = call("energy", measured, *words)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.problems
    assert problem in line


def test_a_table_in_per_cent_is_one_line(call: Call, measured: Path, tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("voltage,ber,energy\n0.8,20,0.6\n1,0,1\n")
    outcome = call("energy", measured, "--table", table)
    assert outcome.code == 2
    assert outcome.problems == [
        f"bitproof: {table}: bers: wanted fractions up to 0.5, not per cent, got 20"
    ]


def test_a_folder_without_run_is_one_line(call: Call, tmp_path: Path) -> None:
    outcome = call("energy", tmp_path)
    assert outcome.code == 2
    assert "wanted a run directory" in outcome.problems[0]


def test_a_run_without_memory_faults_is_one_line(call: Call, copied: Path) -> None:
    recipe = copied / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('kind = "memory_faults"', 'kind = "other"'))
    outcome = call("energy", copied)
    assert outcome.code == 2
    (line,) = outcome.problems
    assert "wanted a run with memory faults by bit error rate, got threats: clean, random" in line


def test_the_answer_needs_no_torch(measured: Path) -> None:
    script = (
        f"import sys; sys.argv = ['bitproof', 'energy', {str(measured)!r}]\n"
        "from bitproof.cli import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    print(left.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 False"
