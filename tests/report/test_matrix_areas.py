from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bitproof.report.matrix import Matrix, matrix_of
from bitproof.report.matrix_areas import area, has_area
from bitproof.report.run import read_run
from bitproof.stats.results import Row, read_results, write_results
from tests.report.matrix_runs import THREATS, counted, measure

BY_NAME = {one.name: one for one in THREATS}


@pytest.fixture(scope="module")
def matrix(finished_matrix: Path) -> Matrix:
    return matrix_of(read_run(finished_matrix))


def test_only_threats_with_several_levels_have_an_area(matrix: Matrix) -> None:
    found = [one.threat for one in matrix.columns if has_area(matrix, one)]
    assert found == ["flips", "bfa", "pgd"]


@pytest.mark.parametrize(("name", "place"), [("flips", np.log10), ("bfa", np.asarray)])
def test_an_area_is_the_mean_over_trials_of_the_trapezoid_of_each(
    name: str, place: np.ufunc, matrix: Matrix
) -> None:
    threat = BY_NAME[name]
    column = next(one for one in matrix.columns if one.threat == name)
    levels = place(np.array(threat.levels))
    for network in ("baseline", "randbet"):
        lines = measure(network, threat)
        curves = np.array([counted(lines, level) for level in threat.levels])
        areas = np.trapezoid(curves, levels, axis=0) / (levels[-1] - levels[0])
        ends = scipy_stats.ttest_1samp(areas, 0.0).confidence_interval(0.95)
        found = area(matrix, network, column)
        assert found is not None
        assert found.value == pytest.approx(areas.mean(), abs=1e-8)
        assert (found.ci_low, found.ci_high) == pytest.approx((ends.low, ends.high), abs=1e-8)
        assert found.n == threat.trials


def test_no_interval_is_made_up_where_images_are_the_unit(matrix: Matrix) -> None:
    column = next(one for one in matrix.columns if one.threat == "pgd")
    found = area(matrix, "at", column)
    assert found is not None
    assert found.interval is None
    values = [counted(measure("at", BY_NAME["pgd"]), level)[0] for level in BY_NAME["pgd"].levels]
    assert found.value == pytest.approx(sum(values) / 2, abs=1e-9)


def test_the_area_of_the_evaluation_is_taken_as_it_is(matrix_dir: Path) -> None:
    told = Row("s1", "flips", None, "auc_fr", 0.123, 0.1, 0.2, 6)
    path = matrix_dir / "results.csv"
    write_results([*read_results(path), told], path)
    matrix = matrix_of(read_run(matrix_dir))
    column = next(one for one in matrix.columns if one.threat == "flips")
    assert area(matrix, "s1", column) == told


def test_a_curve_with_a_gap_has_no_area(matrix_dir: Path) -> None:
    path = matrix_dir / "results.csv"
    rows = [
        row
        for row in read_results(path)
        if (row.variant, row.threat, row.level) != ("s1", "bfa", 5.0)
    ]
    write_results(rows, path)
    matrix = matrix_of(read_run(matrix_dir))
    column = next(one for one in matrix.columns if one.threat == "bfa")
    assert area(matrix, "s1", column) is None
    assert area(matrix, "at", column) is not None


def test_without_counts_an_area_has_no_interval(matrix_dir: Path) -> None:
    (matrix_dir / "tallies.jsonl").unlink()
    matrix = matrix_of(read_run(matrix_dir))
    column = next(one for one in matrix.columns if one.threat == "bfa")
    found = area(matrix, "s1", column)
    assert found is not None
    assert found.interval is None
