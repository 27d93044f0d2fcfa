import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import norm

from bitproof.core.errors import SpecError
from bitproof.explore.predictors import AccuracyCurve, CalibratedHarm, MarginModel, _slopes

TRUTH = AccuracyCurve(acc0=0.9, depth=0.7, scale=0.8, power=1.3)


def drawn(n: int, seed: int, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return harm of choices at random, and their true accuracies."""
    draw = np.random.default_rng(seed)
    layers, blocks = factors.shape
    harm = np.zeros((n, layers, blocks))
    own = np.exp(draw.uniform(-5, 0, (layers, blocks)))
    for number in range(n):
        chosen = draw.integers(0, blocks, layers)
        harm[number, np.arange(layers), chosen] = own[np.arange(layers), chosen]
        harm[number] *= np.exp(draw.uniform(-3, 1))
    return harm, TRUTH.values((harm * factors).sum((1, 2)))


def fitted(harm: np.ndarray, accs: np.ndarray) -> CalibratedHarm:
    return CalibratedHarm.fit(harm, accs, acc0=0.9, chance=0.1, images=1000)


def test_a_curve_without_noise_is_found_again() -> None:
    harm, accs = drawn(40, 0, np.ones((3, 4)))
    found = fitted(harm, accs)
    assert np.abs(found.values(harm) - accs).max() < 0.03


def test_multipliers_that_do_more_harm_than_scored_are_found_out() -> None:
    factors = np.array([[1.0, 6.0], [1.0, 6.0], [1.0, 6.0]])
    harm, accs = drawn(60, 1, factors)
    new, truth = drawn(60, 2, factors)
    found = fitted(harm, accs)
    ratio = found.factors[:, 1] / found.factors[:, 0]
    assert (ratio > 3).all()
    assert np.abs(found.values(new) - truth).mean() < 0.02


@pytest.mark.slow
def test_intervals_hold_most_new_choices() -> None:
    covered = []
    for seed in range(10):
        noise = np.random.default_rng(seed).normal(0, 0.01, 100)
        harm, accs = drawn(100, seed, np.exp(np.random.default_rng(seed).normal(0, 0.5, (3, 4))))
        found = fitted(harm[:30], accs[:30] + noise[:30])
        ends = [found.predict(own) for own in harm[30:]]
        truth = accs[30:] + noise[30:]
        covered += [one.low <= value <= one.high for one, value in zip(ends, truth, strict=True)]
    assert np.mean(covered) > 0.92


def test_slopes_are_those_of_finite_differences() -> None:
    harm, _ = drawn(1, 3, np.ones((2, 3)))

    def value(p: np.ndarray) -> float:
        curve = AccuracyCurve(0.9, float(np.exp(p[0])), float(np.exp(p[1])), float(np.exp(p[2])))
        factors = np.exp(p[3:5, None] + p[5:])
        return float(curve.values((harm * factors).sum((1, 2)))[0])

    def slope(p: np.ndarray) -> np.ndarray:
        curve = AccuracyCurve(0.9, float(np.exp(p[0])), float(np.exp(p[1])), float(np.exp(p[2])))
        return np.asarray(_slopes(curve, harm * np.exp(p[3:5, None] + p[5:]))[0])

    at = np.array([np.log(0.7), np.log(0.8), np.log(1.3), 0.1, -0.2, 0.3, 0.0, -0.1])
    assert check_grad(value, slope, at) < 1e-6


def test_scores_and_accuracies_are_each_others_inverse() -> None:
    for acc in (0.899, 0.85, 0.5):
        score = TRUTH.score_for(acc)
        assert TRUTH.values(np.array([score]))[0] == pytest.approx(acc)
    assert TRUTH.score_for(0.95) == 0.0
    assert TRUTH.score_for(0.0) == np.inf


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_measured_choices_are_enough(count: int) -> None:
    harm, accs = drawn(30, 4, np.ones((3, 4)))
    middle = np.argsort(accs)[10 : 10 + count]
    found = fitted(harm[middle], accs[middle])
    assert found.values(harm[middle])[0] == pytest.approx(accs[middle][0], abs=0.1)
    ends = found.predict(harm[middle[0]])
    assert 0 <= ends.low <= ends.value <= ends.high <= 1


def test_choices_without_errors_calibrate_nothing() -> None:
    with pytest.raises(SpecError, match="wanted a measured choice with errors"):
        fitted(np.zeros((2, 3, 4)), np.array([0.9, 0.9]))


def test_noise_turns_answers_over_as_a_normal_distribution_does() -> None:
    margins = np.array([1.0, 2.0, -0.5, 3.0])
    model = MarginModel.of(margins)
    assert model.acc0 == 0.75
    expected = norm.cdf(margins / np.sqrt(1.7)).mean()
    assert model.predict(1.7).value == pytest.approx(expected)
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
