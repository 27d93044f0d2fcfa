"""The real library: needs `evoapprox8.npz` and `evoapprox8.csv` in the data folder."""

import csv
from pathlib import Path

import pytest

from bitproof.approx import (
    check_library,
    error_figures,
    exact_rank,
    library_path,
    read_circuits,
    read_tables,
)
from bitproof.approx.published import FIGURES, Check, printed_unit


@pytest.fixture(scope="module")
def check(data_dir: Path) -> Check:
    return check_library(data_dir)


def test_786_of_792_figures_come_out(check: Check) -> None:
    assert len(check.comparisons) == 99 * len(FIGURES) == 792
    assert {(each.circuit.title, each.figure.column) for each in check.disagreements} == {
        ("mul8s_1KVA@v1.1", "mae_pct"),
        ("mul8s_1KV8@v2022", "mae_pct"),
        ("mul8s_1KVB@v1.1", "mae_pct"),
        ("mul8s_1KV9@v2022", "mae_pct"),
        ("mul8s_1KRC@v1.1", "mae"),
        ("mul8s_1KVQ@v2022", "mae"),
    }


def test_every_disagreement_is_explained(check: Check) -> None:
    reasons = [each.explanation for each in check.disagreements]
    assert sum("distance as printed" in reason for reason in reasons) == 4
    assert sum("rounded to the wrong side" in reason for reason in reasons) == 2
    assert not any(each.explanation for each in check.comparisons if each.agrees)


def test_other_conventions_fit_less(check: Check) -> None:
    assert list(check.other_conventions.values()) == [27, 26, 93]


def test_traps_are_counted(check: Check) -> None:
    assert len(check.second_names) == 99 - 64
    assert check.second_names["mul8s_1KV8@v2022"] == "mul8s_1KVA@v1.1"
    names = {name.partition("@")[0].removeprefix("mul8u_") for name in check.nonzero_for_zero}
    assert names == {"2AC", "2P7", "2HH", "1SX", "27Y", "0AB", "2V0"}
    assert "mul8u_1446@v1.1" in check.transposed
    assert not any(name.startswith("mul8s") for name in check.transposed)


def test_the_figures_that_others_worked_out_come_out(data_dir: Path) -> None:
    with (data_dir / "evoapprox8.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    path = library_path(data_dir)
    circuits = read_circuits(path)
    for row, circuit, table in zip(rows, circuits, read_tables(path, circuits), strict=True):
        figures = error_figures(table)
        assert (circuit.name, circuit.release) == (row["circuit"], row["releases"])
        assert figures.med == float(row["calc_mae"])
        assert figures.wce == int(row["calc_wce"])
        assert figures.mse == float(row["calc_mse"])
        assert figures.bias == float(row["calc_mean_err"])
        assert figures.ep == pytest.approx(float(row["calc_ep_pct"]) / 100, abs=1e-12)
        # That column has all 65,536 pairs in the count, the published one 65,025.
        relative = float(row["calc_mre_nonzero_pct"]) / 100 * 65536 / 65025
        assert figures.mred == pytest.approx(relative, rel=1e-9)


@pytest.mark.parametrize("sign", ["mul8s", pytest.param("mul8u", marks=pytest.mark.slow)])
def test_ranks_are_those_that_others_worked_out(sign: str, data_dir: Path) -> None:
    with (data_dir / "evoapprox8.csv").open(newline="") as file:
        ranks = {row["lut"]: (row["rank_lut"], row["rank_err"]) for row in csv.DictReader(file)}
    path = library_path(data_dir)
    every = {each.key: each for each in read_circuits(path) if each.name.startswith(sign)}
    circuits = list(every.values())
    assert len(circuits) == {"mul8s": 13, "mul8u": 51}[sign]
    for circuit, table in zip(circuits, read_tables(path, circuits), strict=True):
        assert (exact_rank(table.products), exact_rank(table.errors)) == tuple(
            map(int, ranks[circuit.key])
        )


@pytest.mark.parametrize(
    ("value", "in_per_cent", "unit"),
    [
        (0.0, True, 0.0),
        (98.05, True, 0.01),
        (0.0076, True, 0.0001),
        (0.0031, True, 0.0001),
        (16256.25, False, 1.0),
        (0.90625, False, 0.01),
        (999_999.0, False, 1.0),
        (7282910.25, False, 0.1),
    ],
)
def test_figures_are_printed_to_so_many_digits(
    value: float, in_per_cent: bool, unit: float
) -> None:
    assert printed_unit(value, in_per_cent=in_per_cent) == unit
