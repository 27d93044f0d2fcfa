import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.report.findings import asymmetry, change, focus_level, gain, matrix
from bitproof.report.run import read_run
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]
RATES = st.tuples(*[st.floats(0, 1)] * 3).map(sorted)


def measured(
    variant: str, threat: str, level: float, value: float, half: float | None = 0.01
) -> Row:
    low, high = (None, None) if half is None else (value - half, value + half)
    return Row(variant, threat, level, "acc", value, low, high, 100)


@settings(max_examples=60, deadline=None)
@given(before=RATES, after=RATES)
def test_a_change_lies_inside_its_interval_and_turns_with_its_sides(
    before: list[float], after: list[float]
) -> None:
    first = Row("a", "none", 0.0, "acc", before[1], before[0], before[2])
    second = Row("b", "none", 0.0, "acc", after[1], after[0], after[2])
    there, back = change(first, second), change(second, first)
    assert there is not None
    assert back is not None
    assert there.low is not None
    assert there.high is not None
    assert there.low <= there.value <= there.high
    assert there.value == -back.value
    assert (there.low, there.high) == (-(back.high or 0.0), -(back.low or 0.0))
    assert there.sign == -back.sign


def wilson(variant: str, right: int, n: int) -> Row:
    z, share = 1.959964, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Row(variant, "none", 0.0, "acc", share, middle - half, middle + half, n)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((48, 80), (56, 70), 0.0524, 0.3339), ((3, 10), (9, 10), 0.1705, 0.8090)],
)
def test_intervals_of_differences_match_the_table_of_newcombe(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    # Newcombe 1998, table II, method 10, columns (a) and (b).
    found = change(wilson("a", *first), wilson("b", *second))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_without_intervals_nothing_is_clear() -> None:
    found = change(measured("a", "none", 0.0, 0.1, None), measured("b", "none", 0.0, 0.9, None))
    assert found is not None
    assert (found.low, found.high, found.sign) == (None, None, 0)


def test_a_missing_side_gives_no_change() -> None:
    assert change(None, measured("a", "none", 0.0, 0.5)) is None


@settings(max_examples=40, deadline=None)
@given(levels=st.lists(st.floats(1e-6, 1), unique=True, min_size=1, max_size=9))
def test_the_focus_is_a_measured_level_with_as_many_on_each_side(levels: list[float]) -> None:
    focus = focus_level([0.0, *levels])
    assert focus is not None
    below, above = sum(level < focus for level in levels), sum(level > focus for level in levels)
    assert below - above in {0, 1}


def test_there_is_no_focus_without_a_threat() -> None:
    assert focus_level([0.0]) is None


def test_a_gain_spans_all_levels(make_run: MakeRun) -> None:
    rows = [
        measured(variant, "random_flips", level, value)
        for variant, values in {"none": (0.9, 0.5, 0.1), "s1": (0.8, 0.7, 0.2)}.items()
        for level, value in zip((1e-4, 1e-3, 1e-2), values, strict=True)
    ]
    found = gain(read_run(make_run(rows=rows, variants=["none", "s1"])), "s1", "random_flips")
    assert found is not None
    assert found.level == 1e-3
    assert found.at_level.value == pytest.approx(0.2)
    assert (found.smallest, found.largest) == pytest.approx((-0.1, 0.2))


def test_the_matrix_compares_with_the_baseline(run_dir: Path) -> None:
    run = read_run(run_dir)
    table = matrix(run, run.variants)
    assert [line.variant for line in table.lines] == [
        "none",
        "s1",
        "s2",
        "s1+s2",
        "s2+s1",
        "s1+s2+s3",
    ]
    assert [name for name, _ in table.columns] == ["random_flips", "linf_pgd"]
    assert table.columns[0][1] == 1e-3
    assert math.isclose(table.columns[1][1], 8 / 255, rel_tol=1e-9)
    s2 = table.lines[2].changes[1]
    assert s2 is not None
    before, after = (run.find(v, "random_flips", 1e-3) for v in ("none", "s2"))
    assert before is not None
    assert after is not None
    assert s2.value == after.value - before.value


def test_the_asymmetry_claim_holds_where_only_fault_training_carries_over(run_dir: Path) -> None:
    found = asymmetry(read_run(run_dir))
    assert found is not None
    assert (found.attack_raised, found.attack_levels) == (3, 4)
    assert (found.fault_raised, found.fault_levels) == (0, 6)
    assert found.holds


@pytest.mark.parametrize(
    ("s2_attack", "s1_fault", "holds"),
    [(0.7, 0.5, True), (0.7, 0.7, False), (0.5, 0.5, False), (0.5, 0.7, False), (0.3, 0.3, False)],
)
def test_the_claim_needs_one_direction_and_not_the_other(
    s2_attack: float, s1_fault: float, holds: bool, make_run: MakeRun
) -> None:
    accuracy = {"s2": {"linf_pgd": s2_attack}, "s1": {"random_flips": s1_fault}}
    rows = [
        measured(variant, threat, 0.01, accuracy.get(variant, {}).get(threat, 0.5))
        for variant in ("none", "s1", "s2")
        for threat in ("random_flips", "linf_pgd")
    ]
    found = asymmetry(read_run(make_run(rows=rows, variants=["none", "s1", "s2"])))
    assert found is not None
    assert found.holds is holds


def test_single_stages_are_found_by_kind_whatever_their_name(make_run: MakeRun) -> None:
    stages = {"calm": {"kind": "desensitize"}, "tough": {"kind": "fault_aware"}}
    names = ["none", "tough", "calm"]
    found = asymmetry(read_run(make_run(variants=names, facts={"stages": stages})))
    assert found is not None
    assert (found.desensitize, found.fault_aware) == ("calm", "tough")


def test_the_claim_is_not_judged_without_both_single_stages(make_run: MakeRun) -> None:
    assert asymmetry(read_run(make_run(variants=["none", "s1", "s1+s2"]))) is None
