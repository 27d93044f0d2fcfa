from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bitproof.approx import catalogue, short_name
from bitproof.approx.naming import component, multiplier_of
from bitproof.core.errors import SpecError

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


@pytest.mark.parametrize("multiplier", [*catalogue(signed=False), *catalogue(signed=True)])
def test_short_names_are_understood(multiplier: Any) -> None:
    assert multiplier_of(short_name(multiplier)) == multiplier


@pytest.mark.parametrize(
    "name",
    ["mul8s_1L2H", "mul8s_1KV8@v2022", "swapped:drum:width=5", "table:path=a.csv,signed=true"],
)
def test_other_names_are_understood(name: str) -> None:
    assert short_name(multiplier_of(name)) == name


def test_components_read_values_as_toml() -> None:
    assert component("drum:width=6") == {"kind": "drum", "width": 6}
    with pytest.raises(SpecError, match="KIND:field=value"):
        component("drum:width")


def test_list_tells_what_is_built_in(call: Call) -> None:
    outcome = call("multipliers", "list")
    assert (outcome.code, outcome.err) == (0, "")
    for signed in (False, True):
        for multiplier in catalogue(signed=signed):
            assert f"│ {short_name(multiplier)} " in outcome.out
    assert "EvoApproxLib is not listed" in outcome.out


@pytest.mark.slow
def test_list_tells_the_library_with_its_cost(call: Call, data_dir: Path) -> None:
    outcome = call("multipliers", "list", "--data-dir", data_dir)
    (row,) = [line for line in outcome.out.splitlines() if "│ mul8s_1L2H@v1.1 " in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[1:] == [
        *("53.334", "0.326", "4.412", "255", "74.61"),
        *("0.75", "558.9", "0.301", "1.36"),
    ]
    assert sum("│ mul8" in line for line in outcome.out.splitlines()) == 99


def test_show_tells_figures_and_draws_the_map(call: Call) -> None:
    outcome = call("multipliers", "show", "truncated:columns=3,signed=true")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    facts = dict(line.split("  ", 1) for line in lines if "  " in line and "|" not in line)
    assert facts["bias"].strip() == "-4.25"
    assert facts["operands commute"].strip() == "yes"
    assert facts["cost"].strip() == "not published"
    assert sum(line.startswith("|") for line in lines) == 32


def test_show_tells_of_a_circuit_what_was_published_and_what_equals_it(
    call: Call, data_dir: Path
) -> None:
    out = call("multipliers", "show", "mul8s_1KR6", "--data-dir", data_dir).out
    assert "swapped:broken_array:columns=3,rows=1,signed=true" in out
    assert "635 um2" in out
    assert "EvoApproxLib v1.1" in out
    assert "3; of its errors 3" in out


def test_plot_writes_a_picture(call: Call, tmp_path: Path) -> None:
    outcome = call("multipliers", "plot", "drum:width=3", "--out", "maps/drum.png")
    assert (outcome.code, outcome.out) == (0, "maps/drum.png: written\n")
    with Image.open(tmp_path / "maps" / "drum.png") as image:
        assert image.format == "PNG"


def test_check_tells_totals_and_reasons(call: Call, data_dir: Path) -> None:
    outcome = call("multipliers", "check", "--data-dir", data_dir)
    assert (outcome.code, outcome.err) == (0, "")
    assert "786 of 792 published figures agree" in outcome.out
    assert "99 of 99" in outcome.out
    assert "worked out from the distance as printed, 1.2" in outcome.out
    assert "35 names are second names" in outcome.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "drumm"), "multipliers: no kind 'drumm'. Did you mean 'drum'?"),
        (("show", "drum:width=9"), "drum.width: should be less than or equal to 8, got 9"),
        (("plot", "drum", "--out", "a.jpg"), "--out: wanted a file that ends in .png, got 'a.jpg'"),
        (("show", "swapped:drumm"), "multipliers: no kind 'drumm'. Did you mean 'drum'?"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], said: str, call: Call) -> None:
    assert call("multipliers", *words) == (2, "", f"bitproof: {said}\n")


@pytest.mark.parametrize("words", [("check",), ("show", "mul8s_1L2H")])
def test_a_missing_library_is_one_line(words: tuple[str, ...], call: Call) -> None:
    outcome = call("multipliers", *words)
    assert outcome.code == 2
    (line,) = outcome.problems
    assert line.startswith(
        "bitproof: evoapprox: wanted evoapprox8.npz, no data folder; get it with"
    )


def test_a_name_with_two_meanings_asks_for_the_release(call: Call) -> None:
    (line,) = call("multipliers", "show", "mul8s_1KV8").problems
    assert line.endswith("mul8s_1KV8 means two circuits: wanted release v1.1 or v2022")
