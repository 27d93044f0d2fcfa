from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.report.pareto import approximations, front, pareto_front, shown
from bitproof.report.run import Run, read_run
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]
POINTS = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), max_size=9)


def run_of(make_run: MakeRun, accuracies: dict[str, float], powers: dict[str, float | None]) -> Run:
    """Return a run of multipliers with these powers, and of variants with these accuracies."""
    rows = [Row(name, "clean", 0.0, "acc", value) for name, value in accuracies.items()]
    told: dict[str, Any] = {name: {"power_mw": each} for name, each in powers.items()}
    facts = {"variants": list(accuracies), "multipliers": told, "stages": {}}
    return read_run(make_run(rows=rows, variants=[], facts=facts))


@settings(max_examples=100, deadline=None)
@given(points=POINTS)
def test_the_front_beats_all_others_and_nobody_on_it(points: list[tuple[float, float]]) -> None:
    chosen = pareto_front(points)

    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one != other and one[0] <= other[0] and one[1] >= other[1]

    for i, point in enumerate(points):
        beaten_by = [j for j in chosen if beats(points[j], point)]
        assert bool(beaten_by) is (i not in chosen)


def test_equal_points_stay_both() -> None:
    assert pareto_front([(1.0, 0.5), (1.0, 0.5), (2.0, 0.5)]) == [0, 1]


def test_variants_are_taken_apart_around_their_last_multiplier(make_run: MakeRun) -> None:
    names = ["baseline", "a", "s1+a+retrain+s2", "s1+b+a", "s1"]
    run = run_of(make_run, dict.fromkeys(names, 0.5), {"a": 0.2, "b": 0.3})
    found = {each.variant: each for each in approximations(run)}
    assert list(found) == ["a", "s1+a+retrain+s2", "s1+b+a"]
    assert (found["a"].exact, found["a"].later, found["a"].before) == ("baseline", (), None)
    long = found["s1+a+retrain+s2"]
    assert (long.exact, long.later, long.before) == ("s1", ("retrain", "s2"), "s1+a")
    assert (found["s1+b+a"].exact, found["s1+b+a"].name) == ("s1", "a")


def test_rows_go_by_power_and_those_without_come_last(make_run: MakeRun) -> None:
    run = run_of(make_run, dict.fromkeys("abcd", 0.5), {"a": None, "b": 0.3, "c": 0.0, "d": 0.1})
    assert [each.variant for each in approximations(run)] == ["c", "d", "b", "a"]


def test_who_lacks_a_figure_is_not_on_the_front(make_run: MakeRun) -> None:
    run = run_of(
        make_run, {"a": 0.9, "b": 0.8, "c": 0.7}, {"a": None, "b": 0.3, "c": 0.1, "d": 0.0}
    )
    best = front(run, approximations(run))
    assert [each.variant for each in best] == ["c", "b"]


@pytest.mark.parametrize("n", [6, 7, 35])
def test_few_are_shown_the_front_first(n: int, make_run: MakeRun) -> None:
    names = [f"m{i}" for i in range(n)]
    accuracies = {
        "float": 0.9,
        "baseline": 0.9,
        **{name: 0.5 + i / 100 for i, name in enumerate(names)},
    }
    powers: dict[str, float | None] = {name: 0.1 + i % 5 / 10 for i, name in enumerate(names)}
    run = run_of(make_run, accuracies, powers)
    found = shown(run)
    assert found[:2] == ("float", "baseline")
    assert len(found) == 2 + 6
    assert list(found) == [name for name in run.variants if name in found]
    best = front(run, approximations(run))
    assert {each.variant for each in best} <= set(found) or len(best) > 6


def test_runs_without_multipliers_show_all(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert shown(run) == run.variants
