import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.approx import Arithmetic
from bitproof.attacks import LinfAPGD
from bitproof.core.errors import DataError, RecipeError
from bitproof.data import DATA
from bitproof.evaluation import THREATS, AdversarialExamples, OnMultiplier
from bitproof.recipe.matrix_threats import MatrixThreats, read_choice
from bitproof.recipe.stored_networks import find_networks

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
SMALL = ("--ber", "1e-2", "--images", 6, "--chips", 1, "--epsilon", 0.1)
TWO = """
recipe = 1
name = "two"
model = { kind = "digits_cnn", width = 4 }
data = { kind = "digits", train_size = 64, test_size = 40 }
variants = ["baseline", "finer"]
[train]
epochs = 1
[stages.finer]
kind = "requantize"
scheme = { preset = "accurate" }
[[evaluation.threats]]
kind = "clean"
[[evaluation.threats]]
kind = "memory_faults"
levels = [1e-3, 1e-2]
chips = 5
images = 20
[[evaluation.threats]]
kind = "adversarial_examples"
attack = { kind = "linf_apgd", epsilon = 0.1, steps = 2, targets = 1 }
levels = [0.1]
images = 20
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Return a recipe of two networks under three threats."""
    path = tmp_path / "two.toml"
    path.write_text(TWO)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_recipe_gives_one_table_one_page_and_what_to_choose(
    call: Call, two: Path, tmp_path: Path
) -> None:
    outcome = call("matrix", two, "--out", "m", "--json", "m.json")
    assert outcome.code == 0, outcome.err
    for text in ("random_flips BER 1e-2", "linf_apgd eps 0.1", "worst fault", "matrix: m/matrix"):
        assert text in outcome.out
    found = json.loads((tmp_path / "m.json").read_text())
    measured = {
        (r["variant"], r["threat"], r["level"]): r
        for r in rows_of(tmp_path / "m/results.csv")
        if r["metric"] == "acc"
    }
    told = {(row["network"], row["threat"]): row for row in found["rows"] if row["level"] == 1e-2}
    for name in ("baseline", "finer"):
        row = measured[name, "random_flips", "0.01"]
        assert told[name, "random_flips"]["value"] == pytest.approx(float(row["value"]))
    assert "http" not in (tmp_path / "m/matrix.html").read_text().replace("http-equiv", "")
    assert call("matrix", two, "--out", "m").code == 2
    again = call("matrix", two, "--out", "m", "--resume")
    assert again.code == 0
    shown = [line for line in outcome.out.splitlines() if "│" in line or line.startswith("Where")]
    assert [line for line in again.out.splitlines() if line in shown] == shown


@pytest.mark.slow
def test_networks_that_are_there_meet_the_default_list(
    call: Call, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "a")
    names = ("a/networks/s1+s2+s3", "a/networks/baseline")
    outcome = call("matrix", *names, *SMALL, "--data", "digits", "--out", "m")
    assert outcome.code == 0, outcome.err
    rows = rows_of(tmp_path / "m/results.csv")
    assert {row["variant"] for row in rows} == {"s1+s2+s3", "baseline"}
    titles = {row["threat"] for row in rows}
    assert titles >= {"clean", "flips_everywhere", "linf_apgd", "one_multiplier"}
    told = {line.split(":")[1].strip() for line in outcome.err.splitlines() if "left out" in line}
    every = {THREATS.build(table).title for table in MatrixThreats().tables()}
    assert titles | told == every
    assert not titles & told
    facts = json.loads((tmp_path / "m/run.json").read_text())
    assert facts["baseline"] == "s1+s2+s3"  # what comes first is what others are compared with


def test_a_threat_that_data_rule_out_is_left_out_and_said() -> None:
    tokens = DATA.build("digits").load().test
    tokens = type(tokens)("tokens", (255 * tokens.images).long().flatten(1), tokens.labels, 10)
    evaluation, left = MatrixThreats().evaluation(tokens)
    kept = {threat.kind for threat in evaluation.threats}
    assert "adversarial_examples" not in kept
    assert "memory_faults" in kept
    assert all(line.startswith("left out: ") for line in left)
    assert len(left) == 4


def test_few_classes_get_the_losses_that_they_allow() -> None:
    digits = DATA.build("digits").load().test
    for classes, wanted in ((2, ("cross_entropy",)), (3, ("cross_entropy", "dlr"))):
        few = type(digits)("few", digits.images, digits.labels % classes, classes)
        for which in ("default", "full"):
            threats = MatrixThreats(which=which).evaluation(few)[0].threats
            attacks = [one.attack for one in threats if isinstance(one, AdversarialExamples)]
            assert [one.kind for one in attacks] == ["linf_pgd", "linf_apgd"]
            assert isinstance(attacks[1], LinfAPGD)
            assert attacks[1].losses == wanted


def test_the_choice_of_a_search_is_one_more_threat(tmp_path: Path) -> None:
    drum = {"kind": "drum", "width": 4, "signed": True}
    choice = Arithmetic.model_validate({"layers": {"fc": drum}})
    (tmp_path / "chosen.json").write_text(choice.model_dump_json())
    assert read_choice(tmp_path) == read_choice(tmp_path / "chosen.json") == choice
    tables = MatrixThreats(choice=choice).tables()
    (made,) = (one for one in tables if one.get("name") == "chosen_multipliers")
    threat = THREATS.build(made)
    assert isinstance(threat, OnMultiplier)
    assert threat.arithmetic == choice
    (tmp_path / "chosen.json").write_text("{}1")
    with pytest.raises(DataError, match=r"chosen.json: "):
        read_choice(tmp_path)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("two.toml", "other.toml"), "wanted one recipe, or networks, got 2"),
        (("two.toml", "--epsilon", 0.1), "--epsilon: wanted it for networks"),
        (("a/networks/finer", "--threats", "ful"), "no list 'ful'. Did you mean 'full'"),
        (("a/networks/finer", "--ber", "2"), "--ber: wanted fractions up to 1"),
        (("a/networks/finer", "--epsilon", "0.1,0.2"), "--epsilon: wanted one radius"),
        (("a/networks/finer", "--data", "digits", "--choice", "none"), "none: wanted the choice"),
        (("nowhere", "--data", "digits"), "nowhere"),
        (("nowhere",), "data: wanted a data set"),
    ],
)
def test_words_that_do_not_go_together_get_one_line(
    call: Call, two: Path, words: tuple[object, ...], wanted: str
) -> None:
    outcome = call("matrix", *words)
    assert outcome.code == 2
    assert wanted in outcome.problems[-1]
    assert len(outcome.problems) == 1


def test_a_network_named_twice_is_refused(finished: Path) -> None:
    with pytest.raises(RecipeError, match="wanted each network once"):
        find_networks([finished, finished / "networks/baseline.json"])
