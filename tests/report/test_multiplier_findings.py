from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.report.multiplier_findings import (
    cheapest_sentence,
    multiplier_sentences,
    recovery_sentence,
    resilience_sentence,
    spearman,
)
from bitproof.report.pareto import approximations
from bitproof.report.run import Run, read_run
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]
FLIPS, PGD = ("random_flips", 1e-3), ("linf_pgd", 0.01)
BASE = {"none": 0.9}
SCIPY = 0.5796671338052435
"""Of `scipy.stats.spearmanr`, whose import takes a second."""


@pytest.fixture
def run_of(make_run: MakeRun) -> Callable[..., Run]:
    """Return the function from accuracies and multipliers to a run."""

    def build(
        clean: dict[str, float],
        multipliers: dict[str, dict[str, Any]],
        *,
        half: float | None = 0.001,
        under: dict[tuple[str, float], dict[str, float]] | None = None,
    ) -> Run:
        tables = {("none", 0.0): clean, **(under or {})}
        rows = [
            Row(name, *threat, "acc", value)
            if half is None
            else Row(name, *threat, "acc", value, value - half, value + half)
            for threat, table in tables.items()
            for name, value in table.items()
        ]
        facts = {"variants": list(clean), "multipliers": multipliers, "stages": {}}
        return read_run(make_run(rows=rows, variants=[], facts=facts))

    return build


RunOf = Callable[..., Run]


def costing(**powers: float | None) -> dict[str, dict[str, Any]]:
    """Return multipliers of these powers; those called `exact` never err."""
    return {
        name: {"power_mw": each, "signed": True, "ep": 0.0 if "exact" in name else 0.5}
        for name, each in powers.items()
    }


def test_the_cheapest_within_a_point_is_told_with_its_saving(run_of: RunOf) -> None:
    told = costing(exact=0.4, far=0.1, near=0.3, nearer=0.35)
    run = run_of({**BASE, "exact": 0.9, "far": 0.85, "near": 0.89, "nearer": 0.9}, told)
    assert cheapest_sentence(run, approximations(run)) == (
        "Of 3 networks on approximate multipliers with known power and accuracy, 2 stay within "
        "1 point of the baseline (“none”, 90.0 %). Of these, “near” (89.0 %, −1.0 points, 95 % "
        "interval −1.1 to −0.9) needs least power: 0.3 mW, 25 % less than the exact signed "
        "circuit “exact” (0.4 mW)."
    )


def test_a_circuit_between_sign_bits_is_compared_with_unsigned_ones(run_of: RunOf) -> None:
    told = costing(exact=0.2, exact_unsigned=0.4, exact_between=0.5, near=0.3)
    told["exact_unsigned"] |= {"signed": False, "circuit_signed": False}
    told["exact_between"] |= {"circuit_signed": False}
    told["near"] |= {"circuit_signed": False}
    run = run_of({**BASE, "near": 0.9}, told)
    assert cheapest_sentence(run, approximations(run)).endswith(
        "needs least power: 0.3 mW without its sign gates, 25 % less than the exact unsigned "
        "circuit “exact_unsigned” (0.4 mW)."
    )


def test_circuits_of_unknown_kind_are_not_compared(run_of: RunOf) -> None:
    told = costing(exact=0.4, near=0.3)
    for each in told.values():
        del each["signed"]
    run = run_of({**BASE, "near": 0.9}, told)
    assert cheapest_sentence(run, approximations(run)).endswith("least power: 0.3 mW.")


@pytest.mark.parametrize(
    "change",
    [{"signed": False}, {"circuit_signed": False}, {"power_mw": None}, {"ep": None}, {"ep": 0.1}],
    ids=["other sign", "other circuit", "no power", "unknown errors", "not exact"],
)
def test_without_a_comparable_exact_circuit_no_saving_is_told(
    change: dict[str, Any], run_of: RunOf
) -> None:
    told = costing(exact=0.4, near=0.3)
    told["exact"] |= change
    run = run_of({**BASE, "near": 0.9}, told)
    sentence = cheapest_sentence(run, approximations(run))
    assert sentence.endswith("needs least power: 0.3 mW.")


def test_where_none_is_near_the_nearest_is_told(run_of: RunOf) -> None:
    run = run_of({**BASE, "a": 0.5, "b": 0.6}, costing(a=0.1, b=0.2), half=None)
    assert cheapest_sentence(run, approximations(run)).endswith(
        "none stays within 1 point of the baseline (“none”, 90.0 %); the nearest is “b” "
        "(60.0 %, −30.0 points)."
    )


@pytest.mark.parametrize(
    ("clean", "powers"),
    [({"a": 0.9}, {"a": 0.1}), (BASE, {"a": 0.1}), ({**BASE, "a": 0.9}, {"a": None})],
    ids=["no baseline", "no accuracy", "no power"],
)
def test_without_figures_nothing_is_said(
    clean: dict[str, float], powers: dict[str, float | None], run_of: RunOf
) -> None:
    run = run_of(clean, costing(**powers))
    assert cheapest_sentence(run, approximations(run)) == ""
    assert multiplier_sentences(run, None, None) == []


def test_one_retrained_network_is_told_with_its_numbers(run_of: RunOf) -> None:
    run = run_of({**BASE, "a": 0.5, "a+retrain": 0.8}, costing(a=0.1))
    assert recovery_sentence(run, approximations(run)) == (
        "The stages after the multiplier (“retrain”) brought back 75 % of what “a” had lost "
        "(90.0 % exact, 50.0 % on the multiplier, 80.0 % after)."
    )


def test_recovery_is_against_the_same_network_with_exact_products(run_of: RunOf) -> None:
    clean = {**BASE, "s1": 0.8, "s1+a": 0.6, "s1+a+retrain": 0.5}
    run = run_of(clean, costing(a=0.1))
    assert "−50 % of what “s1+a” had lost (80.0 % exact" in recovery_sentence(
        run, approximations(run)
    )


def test_several_retrained_networks_have_a_median_and_ends(run_of: RunOf) -> None:
    clean = {**BASE, "a": 0.5, "b": 0.7, "c": 0.8, "d": 0.8995}
    after = {"a+t": 0.6, "b+t": 0.8, "c+t": 0.9, "d+t": 0.9}
    run = run_of({**clean, **after}, costing(a=0.1, b=0.1, c=0.1, d=0.1))
    sentence = recovery_sentence(run, approximations(run))
    assert "a median 50 % of the lost accuracy in 3 pairs of networks: least 25 % of" in sentence
    assert "most 100 % of what “c”" in sentence
    assert sentence.endswith("1 pair of networks had no clear loss to recover.")


def test_where_nothing_was_lost_nothing_is_recovered(run_of: RunOf) -> None:
    run = run_of({**BASE, "a": 0.91, "a+t": 0.92}, costing(a=0.1))
    assert recovery_sentence(run, approximations(run)).endswith(
        "had no clear loss to recover in 1 pair of networks."
    )


@pytest.mark.parametrize("lacking", ["none", "a", "a+t"])
def test_a_pair_that_is_not_measured_is_passed_over(lacking: str, run_of: RunOf) -> None:
    clean = {name: 0.9 for name in ("none", "a", "a+t") if name != lacking}
    run = run_of(clean, costing(a=0.1))
    assert recovery_sentence(run, approximations(run)) == ""


def test_resilience_follows_clean_accuracy_or_not(run_of: RunOf) -> None:
    clean = {f"m{i}": 0.9 - 0.02 * i for i in range(12)}
    flips = {name: value - 0.1 for name, value in clean.items()}
    attacked = {name: 0.5 + 0.01 * (i * 5 % 12) for i, name in enumerate(clean)}
    run = run_of(
        {**BASE, **clean, "m0+retrain": 0.1},
        costing(**dict.fromkeys(clean, 0.1)),
        under={FLIPS: flips, PGD: attacked},
    )
    sentence = resilience_sentence(run, approximations(run), [PGD, FLIPS])
    assert sentence.startswith(
        "Among networks that differ from “none” in the multiplier alone, those that lose more on "
        "clean inputs show no clear link to the loss under L∞ PGD at ε = 0.01 (Spearman’s ρ = "
    )
    assert (
        "lose more under random bit flips at BER = 10⁻³ (Spearman’s ρ = 1.00, n = 12)" in sentence
    )
    assert sentence.endswith("and 1.00 under random bit flips at BER = 10⁻³.")


def test_networks_near_chance_and_exact_circuits_do_not_correlate(run_of: RunOf) -> None:
    clean = {f"m{i}": 0.9 - 0.02 * i for i in range(8)}
    flips = {
        name: value * (0.8 - 0.01 * (i * 3 % 8)) for i, (name, value) in enumerate(clean.items())
    }
    alone = run_of({**BASE, **clean}, costing(**dict.fromkeys(clean, 0.1)), under={FLIPS: flips})
    plain = resilience_sentence(alone, approximations(alone), [FLIPS])
    assert plain.count("n = 8)") == 1
    assert "Left out" not in plain
    more = {"exact1": 0.9, "exact2": 0.9, "weak": 0.2249}
    told = costing(**dict.fromkeys([*clean, *more], 0.1))
    run = run_of({**BASE, **clean, **more}, told, under={FLIPS: flips | dict.fromkeys(more, 0.2)})
    assert resilience_sentence(run, approximations(run), [FLIPS]) == (
        f"{plain} Left out: 2 networks on exact circuits and 1 network below a quarter of the "
        "baseline’s clean accuracy."
    )


def test_a_network_at_a_quarter_of_the_baseline_still_counts(run_of: RunOf) -> None:
    clean = {f"m{i}": 0.8 - 0.12 * i for i in range(5)} | {"edge": 0.225}
    under = {name: value / 2 for name, value in clean.items()}
    told = costing(**dict.fromkeys(clean, 0.1))
    run = run_of({**BASE, **clean}, told, under={FLIPS: under})
    assert "n = 6)" in resilience_sentence(run, approximations(run), [FLIPS])


def test_too_few_networks_have_no_correlation(run_of: RunOf) -> None:
    clean = {f"m{i}": 0.9 - 0.02 * i for i in range(4)}
    told = costing(**dict.fromkeys(clean, 0.1))
    run = run_of({**BASE, **clean}, told, under={FLIPS: clean})
    assert resilience_sentence(run, approximations(run), [FLIPS]) == ""


def test_rank_correlation_is_that_of_scipy() -> None:
    first = [0.3, 0.1, 0.1, 0.9, 0.5, 0.7, 0.2]
    second = [2.0, 1.0, 3.0, 3.0, 3.0, 8.0, 0.0]
    found = spearman(first, second)
    assert found is not None
    assert found.value == pytest.approx(SCIPY)
    assert -1 < found.low < found.value < found.high < 1


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12))
def test_rank_correlation_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    found = spearman([a for a, _ in pairs], [b for _, b in pairs])
    if found is not None:
        assert -1 - 1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9
