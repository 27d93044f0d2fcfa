from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bitproof.report.matrix import (
    ATTACKS,
    FAULTS,
    THREATENING,
    Effort,
    Matrix,
    MatrixCell,
    anchors,
    matrix_of,
    power_share,
)
from bitproof.report.run import read_run
from bitproof.stats.intervals import tango
from bitproof.stats.results import Row
from tests.report.matrix_runs import (
    CLEAN,
    NETWORKS,
    THREATS,
    Threatened,
    counted,
    measure,
    write_matrix_run,
)

INTEGERS = NETWORKS[1:]
BY_NAME = {one.name: one for one in THREATS}


@pytest.fixture(scope="module")
def matrix(finished_matrix: Path) -> Matrix:
    return matrix_of(read_run(finished_matrix))


def cell(matrix: Matrix, network: str, threat: str) -> MatrixCell:
    found = matrix.find(network, threat)
    assert found is not None
    return found


def middle(threat: Threatened) -> float:
    return threat.levels[len(threat.levels) // 2]


def test_columns_stand_by_family_at_middle_levels(matrix: Matrix) -> None:
    assert [one.threat for one in matrix.columns] == [
        *("clean", "flips", "registers", "bfa", "pgd", "apgd", "one_multiplier", "pgd_on_chip")
    ]
    for one in matrix.columns:
        assert one.level == pytest.approx(middle(BY_NAME[one.threat]), rel=1e-9)
        assert one.unit == BY_NAME[one.threat].unit
    assert matrix.networks == INTEGERS
    assert matrix.first == "baseline"


def test_values_and_intervals_are_those_of_the_counts(matrix: Matrix) -> None:
    for threat in THREATS:
        for network in INTEGERS:
            found = matrix.find(network, threat.name)
            if network in threat.lacking:
                assert found is None
                continue
            assert found is not None
            accs = counted(measure(network, threat), middle(threat))
            assert found.row.value == pytest.approx(accs.mean(), abs=1e-9)
            assert found.row.ci_low is not None
            if threat.unit != "image":
                ends = scipy_stats.ttest_1samp(accs, 0.0).confidence_interval(0.95)
                assert found.row.ci_low == pytest.approx(max(ends.low, 0), abs=1e-9)
                assert found.row.ci_high == pytest.approx(min(ends.high, 1), abs=1e-9)


def test_differences_by_trial_are_students_t_of_pairs(matrix: Matrix) -> None:
    checked = 0
    for threat in THREATS:
        if threat.unit == "image":
            continue
        before = counted(measure("baseline", threat), middle(threat))
        for network in set(INTEGERS) - {"baseline", *threat.lacking}:
            after = counted(measure(network, threat), middle(threat))
            moved = cell(matrix, network, threat.name).change
            assert moved is not None
            assert moved.paired
            assert moved.value == pytest.approx((after - before).mean(), abs=1e-9)
            if np.ptp(after - before) > 1e-9:
                ends = scipy_stats.ttest_rel(after, before).confidence_interval(0.95)
                assert (moved.low, moved.high) == pytest.approx((ends.low, ends.high), abs=1e-6)
                checked += 1
    assert checked > 10


@pytest.mark.parametrize("threat", ["clean", "pgd", "apgd"])
def test_differences_by_image_look_at_the_images_that_differ(matrix: Matrix, threat: str) -> None:
    # Radii such as 4/255 have more digits in the log of counts than in the table.
    run, column = matrix.run, cell(matrix, "at", threat).column
    right = {
        name: np.frombuffer(run.trials[name, threat, column.level][0].right or b"", np.int8)
        for name in ("baseline", "at")
    }
    gained = int((right["at"] > right["baseline"]).sum())
    lost = int((right["at"] < right["baseline"]).sum())
    assert gained + lost > 3
    moved = cell(matrix, "at", threat).change
    assert moved is not None
    assert moved.paired
    assert (moved.low, moved.value, moved.high) == pytest.approx(tango(gained, lost, 200))


def test_the_first_network_has_no_difference(matrix: Matrix) -> None:
    assert all(matrix.cells["baseline", one.threat].change is None for one in matrix.columns)


@pytest.mark.parametrize("families", [FAULTS, ATTACKS, THREATENING])
def test_a_worst_case_is_the_lowest_cell_of_what_every_network_met(
    matrix: Matrix, families: Any
) -> None:
    for network in INTEGERS:
        values = {
            threat.name: counted(measure(network, threat), middle(threat)).mean()
            for threat in THREATS
            if threat.family in families and threat.name != "registers"
        }
        found = matrix.worst(network, families)
        assert found is not None
        assert found.row.value == pytest.approx(min(values.values()), abs=1e-9)
        assert values[found.column.threat] == pytest.approx(min(values.values()))
        assert matrix.is_worst(found)
    assert [one.threat for one in matrix.uncounted()] == ["registers"]
    assert matrix.unmet(matrix.uncounted()[0]) == ("mul", "all+mul")


def test_a_low_cell_that_some_network_lacks_is_no_worst_case(tmp_path: Path) -> None:
    deadly = replace(BY_NAME["registers"], harm=5.0)
    threats = [CLEAN, BY_NAME["flips"], deadly]
    whole = matrix_of(read_run(write_matrix_run(tmp_path / "all", threats=threats)))
    exact = matrix_of(
        read_run(write_matrix_run(tmp_path / "some", threats=threats, networks=INTEGERS[:4]))
    )
    assert {whole.worst(n, FAULTS).column.threat for n in INTEGERS} == {"flips"}  # type: ignore[union-attr]
    assert {exact.worst(n, FAULTS).column.threat for n in INTEGERS[:4]} == {"registers"}  # type: ignore[union-attr]


def test_the_best_come_with_all_that_cannot_be_told_from_them(matrix: Matrix) -> None:
    cells = {name: cell(matrix, name, "flips") for name in INTEGERS}
    best, *others = matrix.best_of(cells.values())
    assert best.row.value == max(one.row.value for one in cells.values())
    close = {one.network for one in others}
    for name, one in cells.items():
        moved = matrix.compared(one, best)
        assert moved is not None
        assert (name in close) == (name != best.network and (moved.low or 0.0) <= 0)


def test_cells_of_two_threats_are_compared_as_if_measured_apart(matrix: Matrix) -> None:
    moved = matrix.compared(cell(matrix, "s1", "bfa"), cell(matrix, "at", "apgd"))
    assert moved is not None
    assert not moved.paired
    assert moved.value == pytest.approx(
        cell(matrix, "at", "apgd").row.value - cell(matrix, "s1", "bfa").row.value
    )


def test_effort_is_the_time_of_all_levels(matrix: Matrix) -> None:
    effort = matrix.effort("s1", "flips")
    assert effort == Effort(trials=18, seconds=18 * 0.25)
    assert matrix.effort("mul", "registers") == Effort(0, None)


def test_the_unit_of_old_runs_is_told_from_the_family(make_run: Any) -> None:
    matrix = matrix_of(read_run(make_run()))
    units: Mapping[str, str] = {one.threat: one.unit for one in matrix.columns}
    assert units == {"clean": "image", "random_flips": "chip", "linf_pgd": "image"}


def test_a_threat_without_a_family_is_shown_and_counts_for_nothing(make_run: Any) -> None:
    rows = [
        Row(name, threat, level, "acc", value, value - 0.01, value + 0.01, 100)
        for name in ("baseline", "s1")
        for threat, level, value in (("clean", 0.0, 0.9), ("odd", 3.0, 0.1))
    ]
    matrix = matrix_of(read_run(make_run(rows=rows, facts={"threats": {}})))
    assert [one.threat for one in matrix.columns] == ["clean", "odd"]
    assert matrix.worst("s1", THREATENING) is None


@pytest.mark.parametrize("variants", [[], ["float"], ["s1"]])
def test_runs_without_much_have_a_matrix(variants: list[str], make_run: Any) -> None:
    matrix = matrix_of(read_run(make_run(variants=variants, facts={"variants": variants})))
    assert matrix.networks == tuple(name for name in variants if name != "float")
    assert matrix.first == (matrix.networks or ("",))[0]


def test_power_is_known_for_exact_products_and_for_multipliers_that_tell_it(
    tmp_path: Path,
) -> None:
    stages = {"chosen": {"kind": "approximate"}}
    multipliers = {"mul": {"power_share": 0.45}, "odd": {"label": "of unknown power"}}
    folder = write_matrix_run(
        tmp_path / "run",
        networks=["baseline"],
        threats=[CLEAN],
        facts={"stages": stages, "multipliers": multipliers},
    )
    run = read_run(folder)
    shares = [power_share(run, one) for one in ("baseline", "s1+mul", "odd", "chosen")]
    assert shares == [1.0, 0.45, None, None]


def test_anchors_differ_whatever_threats_are_called() -> None:
    names = ["a_b", "a-b", "A B", "ä", "ö", "a_b_2"]
    places = anchors(names)
    assert len(set(places.values())) == len(names)
    assert all(place.startswith("threat-") for place in places.values())
