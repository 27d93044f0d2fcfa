import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.errors import SpecError, UnknownKindError
from bitproof.stats import STOP_RULES, ConfidenceSequence, FixedLooks, StopRule, mean_rate

RULES: list[StopRule] = [FixedLooks(margin=0.05), ConfidenceSequence(margin=0.05)]


def test_every_kind_is_tested_here() -> None:
    assert sorted(rule.kind for rule in RULES) == STOP_RULES.kinds()


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_comes_back_from_its_table(rule: StopRule) -> None:
    assert STOP_RULES.build(rule.model_dump(mode="json")) == rule


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_max", [1, 7, 99, 100, 101, 1234, 50_000])
def test_looks_rise_to_the_last_trial(rule: StopRule, n_max: int) -> None:
    looks = rule.looks(n_max)
    assert looks == sorted(set(looks))
    assert looks[0] >= 1
    assert looks[-1] == n_max


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), come=st.integers(0, 1500))
@pytest.mark.parametrize("rule", RULES)
def test_the_stop_does_not_depend_on_how_many_have_come(
    rule: StopRule, seed: int, come: int
) -> None:
    values = np.random.default_rng(seed).beta(0.3, 1.0, 1500)
    whole = rule.stops(values, n_max=1500)
    part = rule.stops(values[:come], n_max=1500)
    assert part == (whole if whole is not None and whole <= come else None)


@pytest.mark.parametrize("rule", RULES)
def test_it_stops_at_the_first_look_that_is_short_enough(rule: StopRule) -> None:
    values = np.random.default_rng(5).beta(0.3, 1.0, 1500)
    stop = rule.stops(values, n_max=1500)
    assert stop is not None
    for n in rule.looks(1500):
        low, value, high = rule.look(values[:n])
        assert low <= value <= high
        assert value == pytest.approx(values[:n].mean())
        assert n > stop or ((high - low) / 2 < 0.05) == (n == stop)


@pytest.mark.parametrize("rule", RULES)
def test_the_interval_mirrors(rule: StopRule) -> None:
    values = np.random.default_rng(6).integers(0, 65, 400) / 64
    low, _, high = rule.look(values)
    other = rule.look(1 - values)
    assert (1 - other.high, 1 - other.low) == pytest.approx((low, high), abs=1e-8)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("values", [[], [1.5], [-0.1], [math.nan]])
def test_values_that_are_no_fractions_are_refused(rule: StopRule, values: list[float]) -> None:
    with pytest.raises(ValueError, match="values: wanted"):
        rule.look(np.array(values, np.float64))


def test_looks_share_the_error_equally() -> None:
    values = np.random.default_rng(7).beta(0.3, 1.0, 500)
    rule = FixedLooks(margin=0.1, fractions=(0.1, 0.5, 1.0), confidence=0.97)
    assert rule.look(values) == mean_rate(values, confidence=0.99, method="clopper_pearson")


@pytest.mark.parametrize("fractions", [(), (0.5,), (0.5, 0.5, 1.0), (0.7, 0.2, 1.0)])
def test_fractions_that_do_not_rise_to_1_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match="rise to 1"):
        STOP_RULES.build({"kind": "fixed_looks", "margin": 0.1, "fractions": fractions})


@pytest.mark.parametrize("fields", [{"margin": 0.0}, {"margin": 0.1, "confidence": 1.0}, {}])
def test_numbers_that_promise_too_much_are_refused(fields: dict[str, float]) -> None:
    for kind in STOP_RULES.kinds():
        with pytest.raises(SpecError):
            STOP_RULES.build({"kind": kind, **fields})


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownKindError, match="Did you mean 'fixed_looks'"):
        STOP_RULES.build({"kind": "fixed_look", "margin": 0.1})


def capital(values: list[float], mean: float) -> float:
    """Return the average capital of those who bet on more than `mean`, trial by trial."""
    purses = [1.0] * 12
    for value in values:
        for i in range(12):
            purses[i] *= 1 + 0.5**i * (value / mean - 1)
    return sum(purses) / 12


@pytest.mark.parametrize("seed", range(4))
def test_the_ends_are_where_a_gambler_gets_rich(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 9, 60) / 8
    low, _, high = ConfidenceSequence(margin=0.1).look(values)
    mirrored = (1 - values).tolist()
    assert capital(values.tolist(), low - 1e-6) > 40 > capital(values.tolist(), low + 1e-6)
    assert capital(mirrored, 1 - high - 1e-6) > 40 > capital(mirrored, 1 - high + 1e-6)


def test_a_bet_is_fair() -> None:
    # Exactly: over all 2**10 outcomes of ten trials with rate 0.3, the capital is 1 in the mean.
    total = 0.0
    for outcome in range(2**10):
        values = [float(outcome >> i & 1) for i in range(10)]
        hits = int(sum(values))
        total += 0.3**hits * 0.7 ** (10 - hits) * capital(values, 0.3)
    assert total == pytest.approx(1)


def test_the_order_before_a_look_does_not_matter() -> None:
    values = np.random.default_rng(8).integers(0, 65, 500) / 64
    rule = ConfidenceSequence(margin=0.1)
    assert rule.look(np.sort(values)) == pytest.approx(rule.look(values), abs=1e-8)
