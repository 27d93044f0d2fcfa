import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.report.findings import focus_level, gain, headline
from bitproof.report.paired import AccuracyChange, change
from bitproof.report.run import read_run
from bitproof.report.wording import NBSP, points
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]
RATES = st.tuples(*[st.floats(0, 1)] * 3).map(sorted).filter(lambda ends: ends[0] < ends[2])


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
    first = Row("a", "clean", 0.0, "acc", before[1], before[0], before[2])
    second = Row("b", "clean", 0.0, "acc", after[1], after[0], after[2])
    there, back = change(first, second), change(second, first)
    assert there is not None
    assert back is not None
    assert there.low is not None
    assert there.high is not None
    assert there.low <= there.value <= there.high
    assert there.value == -back.value
    assert (there.low, there.high) == (-(back.high or 0.0), -(back.low or 0.0))
    assert there.sign == -back.sign


@pytest.mark.parametrize("before", [0.3, 0.9])
def test_an_interval_of_no_width_tells_nothing_apart(before: float) -> None:
    # Two chips of one accuracy: their spread is zero, and nobody knows that of others.
    found = change(
        Row("a", "x", 0.1, "acc", before, before, before, 2), measured("b", "x", 0.1, 0.6)
    )
    assert found is not None
    assert (found.low, found.high, found.sign) == (None, None, 0)
    alike = AccuracyChange(found.before, found.after, 0.3, 0.3, 0.3, paired=True)
    assert alike.sign == 0


def wilson(variant: str, right: int, n: int) -> Row:
    z, share = 1.959964, right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Row(variant, "clean", 0.0, "acc", share, middle - half, middle + half, n)


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
    found = change(measured("a", "clean", 0.0, 0.1, None), measured("b", "clean", 0.0, 0.9, None))
    assert found is not None
    assert (found.low, found.high, found.sign) == (None, None, 0)


def test_a_missing_side_gives_no_change() -> None:
    assert change(None, measured("a", "clean", 0.0, 0.5)) is None


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
        for variant, values in {"baseline": (0.9, 0.5, 0.1), "s1": (0.8, 0.7, 0.2)}.items()
        for level, value in zip((1e-4, 1e-3, 1e-2), values, strict=True)
    ]
    found = gain(read_run(make_run(rows=rows, variants=["baseline", "s1"])), "s1", "random_flips")
    assert found is not None
    assert found.middle.value == pytest.approx(0.2)
    assert [each.value for each in found.changes] == pytest.approx([-0.1, 0.2, 0.1])
    assert found.raised == 2


def rows_with(full: float, half: float | None) -> list[Row]:
    """Return a baseline of 50 % everywhere, and a full pipeline at `full`."""
    return [
        Row(variant, threat, level, "acc", value, low, high, 100)
        for variant, value in (("baseline", 0.5), ("s1", full))
        for low, high in [(None, None) if half is None else (value - half, value + half)]
        for threat, level in (("clean", 0.0), ("random_flips", 1e-3), ("linf_pgd", 0.1))
    ]


@pytest.mark.parametrize(
    ("full", "half", "wanted"),
    [
        (0.7, 0.01, "rises by 20.0 points"),
        (0.4, 0.01, "falls by 10.0 points"),
        (0.52, 0.05, "shows no clear change"),
        (0.7, None, "rises by 20.0 points (interval not recorded)"),
    ],
)
def test_the_sentence_claims_no_more_than_the_interval(
    full: float, half: float | None, wanted: str, make_run: MakeRun
) -> None:
    run = read_run(make_run(rows=rows_with(full, half), variants=["baseline", "s1"]))
    sentence, tiles = headline(run)
    assert sentence.count(wanted) == 3
    assert "under random bit flips at BER = 10⁻³" in sentence
    assert "under L∞ PGD at ε = 0.1" in sentence
    assert sentence.endswith("on clean inputs.")
    assert [tile.number for tile in tiles] == [points(full - 0.5)] * 3


def test_an_unfinished_pipeline_gives_no_numbers(make_run: MakeRun) -> None:
    folder = make_run(variants=["baseline", "s1"], facts={"variants": ["baseline", "s1", "s1+s2"]})
    sentence, tiles = headline(read_run(folder))
    assert sentence.startswith("No comparison yet: “s1+s2” has no results so far. The accuracy of ")
    assert [tile.lines[0] for tile in tiles] == ["“baseline”"] * 3


def test_a_network_alone_is_told_by_its_numbers(make_run: MakeRun) -> None:
    rows = [measured("baseline", "clean", 0.0, 0.9), measured("baseline", "random_flips", 0.1, 0.5)]
    sentence, tiles = headline(read_run(make_run(rows=rows, variants=["baseline"])))
    assert sentence.replace(NBSP, " ") == (
        "The accuracy of “baseline” is 90.0 % (89.0 to 91.0) on clean inputs and 50.0 % "
        "(49.0 to 51.0) under random bit flips at BER = 10⁻¹."
    )
    assert [tile.number for tile in tiles] == ["90.0", "50.0"]


def test_integers_are_compared_with_floats_where_nothing_is_hardened(make_run: MakeRun) -> None:
    rows = [
        measured(name, threat, level, value)
        for name, values in {"float": (0.9, 0.2), "baseline": (0.89, 0.6)}.items()
        for (threat, level), value in zip(
            (("clean", 0.0), ("random_flips", 0.1)), values, strict=True
        )
    ]
    recipe = "[quantization]\nweight = { bits = 4 }"
    folder = make_run(rows=rows, variants=["float", "baseline"], recipe=recipe)
    sentence, tiles = headline(read_run(folder))
    assert sentence.startswith(
        "In 4-bit integers (“baseline”) instead of floats, accuracy shows no"
    )
    assert "rises by 40.0 points (+38.6" in sentence
    assert [tile.number for tile in tiles] == ["−1.0", "+40.0"]


def test_a_stage_alone_is_named(make_run: MakeRun) -> None:
    run = read_run(make_run(rows=rows_with(0.7, 0.01), variants=["baseline", "s1"]))
    assert "the accuracy of “s1” (desensitize) rises by 20.0 points" in headline(run)[0]


def test_a_run_without_rows_says_so(make_run: MakeRun) -> None:
    assert headline(read_run(make_run(rows=[]))) == (
        "No comparison yet: “baseline” and “s1+s2+s3” have no results so far. This run has no "
        "results yet.",
        [],
    )


def test_results_that_share_no_level_are_not_compared(make_run: MakeRun) -> None:
    rows = [
        Row("baseline", "random_flips", 1e-3, "acc", 0.5, 0.4, 0.6),
        Row("s1", "random_flips", 1e-2, "acc", 0.5, 0.4, 0.6),
    ]
    sentence, tiles = headline(read_run(make_run(rows=rows, variants=["baseline", "s1"])))
    assert "share no measurement" in sentence
    assert "The accuracy of “baseline” is 50.0 %" in sentence
    assert len(tiles) == 1


def test_networks_hardened_on_a_multiplier_are_not_compared(make_run: MakeRun) -> None:
    kinds = {"s1": "desensitize", "cheap": "approximate"}
    facts = {
        "variants": ["baseline", "cheap", "s1+cheap"],
        "multipliers": {"cheap": {}},
        "stages": {name: {"kind": kind} for name, kind in kinds.items()},
    }
    sentence, tiles = headline(read_run(make_run(rows=[], variants=[], facts=facts)))
    assert "hardened" not in sentence
    assert tiles == []


@pytest.mark.parametrize(
    ("losses", "wanted", "rule"),
    [
        ((0.005, 0.009, 0.3), "m1", "at a loss of at most one point of clean accuracy"),
        ((0.05, 0.04, 0.3), "m1", "this one loses least"),
        ((0.005, 0.02, 0.3), "m0", "at a loss of at most one point of clean accuracy"),
    ],
)
def test_the_best_trade_of_a_sweep_has_least_power_for_a_point(
    losses: tuple[float, ...], wanted: str, rule: str, make_run: MakeRun
) -> None:
    names = [f"m{number}" for number in range(len(losses))]
    rows = [measured("baseline", "clean", 0.0, 0.9, 0.001), measured("e", "clean", 0.0, 0.9)]
    rows += [
        measured(name, "clean", 0.0, 0.9 - loss, 0.001)
        for name, loss in zip(names, losses, strict=True)
    ]
    powers = {name: {"power_mw": 0.3 - 0.1 * n, "ep": 0.5} for n, name in enumerate(names)}
    facts = {
        "variants": ["baseline", "e", *names],
        "multipliers": {"e": {"power_mw": 0.4, "ep": 0.0}, **powers},
    }
    run = read_run(make_run(rows=rows, variants=[], facts=facts))
    sentence, tiles = headline(run)
    assert f"Best trade of 4 networks on multipliers: “{wanted}” takes" in sentence
    assert rule in sentence
    share = 75.0 if wanted == "m0" else 50.0
    assert f"{share} % of the power of the exact one" in sentence
    assert tiles[1].number == f"{share}"
