import numpy as np
import pytest
from scipy.stats import norm

from bitproof.core.errors import SpecError
from bitproof.explore import AccuracyCurve, MarginModel


def curve_points(n: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    scores = np.exp(draw.uniform(-6, 2, n))
    accs = 0.9 - 0.7 * (1 - np.exp(-((scores / 0.8) ** 1.3)))
    return scores, accs + noise * draw.standard_normal(n)


def test_a_curve_without_noise_is_found_again() -> None:
    scores, accs = curve_points(20, 0.0)
    curve = AccuracyCurve.fit(scores, accs, acc0=0.9, chance=0.1, images=1000)
    assert (curve.depth, curve.scale, curve.power) == pytest.approx((0.7, 0.8, 1.3), rel=0.02)


def test_intervals_hold_most_new_choices() -> None:
    covered = []
    for seed in range(20):
        scores, accs = curve_points(24, 0.01, seed)
        curve = AccuracyCurve.fit(scores, accs, acc0=0.9, chance=0.1, images=1000)
        new, truth = curve_points(50, 0.01, 100 + seed)
        ends = [curve.predict(one) for one in new]
        covered += [one.low <= value <= one.high for one, value in zip(ends, truth, strict=True)]
    assert 0.92 < np.mean(covered) <= 1.0


def test_scores_and_accuracies_are_each_others_inverse() -> None:
    scores, accs = curve_points(20, 0.005)
    curve = AccuracyCurve.fit(scores, accs, acc0=0.9, chance=0.1, images=1000)
    for acc in (0.899, 0.85, 0.5):
        assert curve.predict(curve.score_for(acc)).value == pytest.approx(acc, abs=1e-6)
    assert curve.score_for(0.95) == 0.0
    assert curve.score_for(0.0) == np.inf


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_points_give_a_curve_through_them(count: int) -> None:
    scores, accs = curve_points(30, 0.0)
    middle = np.argsort(scores)[15 : 15 + count]
    curve = AccuracyCurve.fit(scores[middle], accs[middle], acc0=0.9, chance=0.1, images=1000)
    assert curve.values(scores[middle])[0] == pytest.approx(accs[middle][0], abs=0.05)


def test_a_curve_needs_a_choice_with_errors() -> None:
    with pytest.raises(SpecError, match="wanted a measured choice with errors"):
        AccuracyCurve.fit([0.0], [0.9], acc0=0.9, chance=0.1, images=100)


def test_noise_turns_answers_over_as_a_normal_distribution_does() -> None:
    margins = np.array([1.0, 2.0, -0.5, 3.0])
    model = MarginModel.of(margins)
    assert model.acc0 == 0.75
    noise = 1.7
    expected = norm.cdf(margins / np.sqrt(noise)).mean()
    assert model.predict(noise).value == pytest.approx(expected)
    assert MarginModel.of(margins, acc0=0.6).acc0 == pytest.approx(0.6)


def test_one_measured_choice_fits_the_noise() -> None:
    margins = np.random.default_rng(0).normal(3.0, 1.0, 400)
    model = MarginModel.of(margins).fitted(noise=0.2, acc=0.9)
    assert model.predict(0.2).value == pytest.approx(0.9, abs=1e-6)
    assert model.predict(model.score_for(0.8)).value == pytest.approx(0.8, abs=1e-6)
    assert model.score_for(0.01) == np.inf


def test_accuracy_that_no_noise_explains_changes_nothing() -> None:
    model = MarginModel.of(np.array([1.0, 2.0]))
    assert model.fitted(noise=1.0, acc=0.0).tau == model.tau
