"""Accuracy of choices that nobody has measured, from their scores, with prediction intervals.

Model:  accuracy falls with the score H of a choice along one curve,
            Acc = Acc0 - A (1 - exp(-(H / H0)^q)),
        A at most down to chance, fitted to choices that were measured. So are factors on the harm
        in each layer and of each multiplier, near 1 unless measurements say otherwise: scores are
        of first order, and searches find what they underrate. Or, with one measured choice at
        most, errors turn an image's answer over when they exceed its margin:
            Acc = mean_i Phi(margin_i / (tau sqrt(noise))).
        The spread of a prediction is that of the fit, linearized, and of single measurements about
        the curve. Each measured choice is predicted from the others; where these predictions miss
        by more than their spreads say, in the median, intervals are wider in proportion.
Source: METHODS B.4, predictors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq, least_squares
from scipy.special import expit, ndtr

from bitproof.core.errors import SpecError
from bitproof.stats import Interval
from bitproof.stats.intervals import score_interval

Values = Float64[np.ndarray, " n"]
Parameters = Float64[np.ndarray, " parameters"]
HarmTables = Float64[np.ndarray, "choices layers blocks"]
HarmTable = Float64[np.ndarray, "layers blocks"]
LEFT_OUT = 12
"""Groups of measured choices of which each is predicted from the others."""
SLACK = 0.35
"""By how much the logarithm of a choice's true harm may well differ from that of its score."""
STEEPNESS = 1.5
"""Power of a curve of which the slopes are taken for that."""
LAYER_SPREAD, BLOCK_SPREAD = 0.5, 1.0
"""Of the logarithms of factors on the harm in a layer, and on that of a multiplier, before anything
is measured."""
NORMAL_MEDIAN = 0.6745
"""Median distance of a normal variable from its mean, in standard deviations."""
WIDEST = 60.0
"""Bound on the logarithm of H0."""


@dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy by score.

    Example:
        >>> curve = AccuracyCurve(acc0=0.9, depth=0.8, scale=1.0, power=1.0)
        >>> curve.values(np.array([0.0, 1e9])).round(3).tolist()
        [0.9, 0.1]
        >>> round(curve.score_for(0.8), 3)
        0.134
    """

    acc0: float
    """Accuracy at score 0."""
    depth: float
    """Accuracy that the largest scores lose."""
    scale: float
    """Score at which 63 % of that is lost."""
    power: float

    def values(self, scores: Values) -> Values:
        """Return predicted accuracies."""
        found: Values = self.acc0 + self.depth * np.expm1(-self.exponents(scores))
        return found

    def exponents(self, scores: Values) -> Values:
        """Return `(H / H0)^q`."""
        found: Values = np.minimum((np.maximum(scores, 0.0) / self.scale) ** self.power, 700.0)
        return found

    def score_for(self, acc: float) -> float:
        """Return the largest score that is predicted to leave this accuracy; infinite if all do."""
        lost = self.acc0 - acc
        if lost >= self.depth:
            return np.inf
        if lost <= 0:
            return 0.0
        return float(self.scale * (-np.log1p(-lost / self.depth)) ** (1 / self.power))


@dataclass(frozen=True)
class MarginModel:
    """Accuracy from the margins of profiled images, before anything is measured."""

    margins: Values
    tau: float = 1.0
    """Factor on the noise, fitted to one measured choice."""
    level: float = 1.0
    """Accuracy that was measured over that which the margins have."""

    @classmethod
    def of(cls, margins: Values, *, acc0: float | None = None) -> "MarginModel":
        """Return the model of exact margins; `acc0` is measured, None: that of the margins."""
        own = float((margins > 0).mean())
        return cls(margins, level=1.0 if acc0 is None or not own else acc0 / own)

    @property
    def acc0(self) -> float:
        """Accuracy without noise."""
        return float(self.level * (self.margins > 0).mean())

    def score_for(self, acc: float) -> float:
        """Return the largest variance that is predicted to leave this accuracy."""
        if acc >= self.acc0:
            return 0.0

        def excess(logarithm: float) -> float:
            return float(self.values(np.array([np.exp(logarithm)]))[0]) - acc

        low, high = -WIDEST, WIDEST
        return float(np.inf) if excess(high) > 0 else float(np.exp(brentq(excess, low, high)))

    def predict(self, noise: float) -> Interval:
        """Return the predicted accuracy; the interval is that of so many profiled images."""
        value = float(self.values(np.array([noise]))[0])
        return score_interval(min(max(value, 0.0), 1.0), float(len(self.margins)))

    def values(self, noise: Values) -> Values:
        """Return predicted accuracies for variances of the margin."""
        spread = self.tau * np.sqrt(np.maximum(noise, 1e-30))
        right: Values = ndtr(self.margins[None, :] / np.asarray(spread)[:, None]).mean(1)
        return self.level * right

    def fitted(self, noise: float, acc: float) -> "MarginModel":
        """Return the model with the `tau` that gives a measured accuracy at this noise."""

        def miss(logarithm: float) -> float:
            changed = MarginModel(self.margins, float(np.exp(logarithm)), self.level)
            return float(changed.values(np.array([noise]))[0]) - acc

        low, high = -12.0, 12.0
        if miss(low) * miss(high) > 0:  # outside of what any noise explains
            return self
        return MarginModel(self.margins, float(np.exp(brentq(miss, low, high))), self.level)


@dataclass(frozen=True, eq=False)
class CalibratedHarm:
    """Accuracy by score, with scores corrected for what measured choices have shown."""

    curve: AccuracyCurve
    factors: HarmTable
    """What the harm of each multiplier in each layer is multiplied by."""
    covariance: Float64[np.ndarray, "parameters parameters"]
    """Of the fit: of logit depth, log scale, log power, logarithms of factors by layer, then by
    multiplier."""
    most: float
    """Accuracy that can be lost."""
    images: int
    """That accuracies are counted on."""
    width: float = 1.96
    """Half width of intervals, in spreads of a prediction."""

    @classmethod
    def fit(
        cls,
        harm: HarmTables,
        accs: Sequence[float] | Values,
        *,
        acc0: float,
        chance: float,
        images: int,
    ) -> "CalibratedHarm":
        """Fit curve and factors to measured choices.

        Args:
            harm: of each measured choice, by layer and multiplier.
            accs: their accuracies.
            acc0: accuracy with exact products.
            chance: that of guessing.
            images: that accuracies are counted on.

        Raises:
            SpecError: no measured choice has a score.
        """
        y = np.array(accs, dtype=np.float64)
        known = harm.sum((1, 2)) > 0
        if not known.any():
            raise SpecError("accuracy: wanted a measured choice with errors, got none")
        harm, y = harm[known], y[known]
        found = _fitted(harm, y, acc0, chance, images)
        missed = np.full(len(y), NORMAL_MEDIAN)
        groups = np.arange(len(y)) % min(len(y), LEFT_OUT)
        for group in set(groups.tolist()) if len(y) > 1 else ():
            own = groups == group
            others = _fitted(harm[~own], y[~own], acc0, chance, images)
            missed[own] = np.abs(y[own] - others.values(harm[own])) / others.spreads(harm[own])
        width = max(float(np.median(missed)) / NORMAL_MEDIAN, 1.0) * found.width
        return replace(found, width=width)

    def values(self, harm: HarmTables) -> Values:
        """Return predicted accuracies."""
        return self.curve.values((harm * self.factors).sum((1, 2)))

    def spreads(self, harm: HarmTables) -> Values:
        """Return how far measured accuracies may well lie from predicted ones."""
        slopes = _slopes(self.curve, harm * self.factors)
        of_fit = np.einsum("np,pq,nq->n", slopes, self.covariance, slopes)
        lost = self.curve.acc0 - self.values(harm)
        about = _spread(lost, self.most, self.images)
        found: Values = np.sqrt(np.maximum(of_fit, 0.0) + about**2)
        return found

    def predict(self, harm: HarmTable) -> Interval:
        """Return the predicted accuracy of a choice with this harm, by layer and multiplier."""
        value, spread = (float(own(harm[None])[0]) for own in (self.values, self.spreads))
        half = self.width * spread
        return Interval(max(value - half, 0.0), value, min(value + half, 1.0))


def _spread(lost: Values, most: float, images: int) -> Values:
    """Return how far a measured accuracy may well lie from the curve, where so much is lost."""
    share = np.clip(lost / most, 0.0, 0.999)
    slope = most * (1 - share) * -np.log1p(-share) * STEEPNESS  # by the logarithm of harm
    found: Values = np.sqrt(0.25 / images + (SLACK * slope) ** 2)
    return found


def _slopes(curve: AccuracyCurve, harm: HarmTables) -> Float64[np.ndarray, "choices parameters"]:
    """Return the gradient of accuracy by the parameters of the fit; `harm` has its factors."""
    totals = harm.sum((1, 2))
    exponents = curve.exponents(totals)
    falls = curve.depth * np.exp(-exponents) * exponents
    by_log_total = -falls * curve.power
    logs = np.log(np.maximum(totals, 1e-300) / curve.scale)
    shares = harm / np.maximum(totals, 1e-300)[:, None, None]
    return np.column_stack(
        [
            np.expm1(-exponents) * curve.depth,
            -by_log_total,
            -falls * logs * curve.power,
            by_log_total[:, None] * shares.sum(2),
            by_log_total[:, None] * shares.sum(1),
        ]
    )


def _fitted(harm: HarmTables, y: Values, acc0: float, chance: float, images: int) -> CalibratedHarm:
    """Return the most likely curve and factors; logarithms of factors are normal about 0."""
    _, layers, blocks = harm.shape
    most = max(acc0 - chance, 1e-6)
    spread = _spread(acc0 - y, most, images)
    tightness = np.concatenate(
        [[1 / 3, 0, 1 / 0.7], np.full(layers, 1 / LAYER_SPREAD), np.full(blocks, 1 / BLOCK_SPREAD)]
    )
    middle = np.zeros(len(tightness))
    middle[0] = 3.0

    def unpacked(parameters: Parameters) -> tuple[AccuracyCurve, HarmTable]:
        scale, power = np.exp(parameters[1:3])
        depth = most * expit(parameters[0])
        logs = parameters[3 : 3 + layers, None] + parameters[3 + layers :]
        return AccuracyCurve(acc0, float(depth), float(scale), float(power)), np.exp(logs)

    def residual(parameters: Parameters) -> Float64[np.ndarray, " rows"]:
        curve, factors = unpacked(parameters)
        found = (curve.values((harm * factors).sum((1, 2))) - y) / spread
        return np.concatenate([found, (parameters - middle) * tightness])

    def jacobian(parameters: Parameters) -> Float64[np.ndarray, "rows parameters"]:
        curve, factors = unpacked(parameters)
        slopes = _slopes(curve, harm * factors)
        slopes[:, 0] *= 1 - expit(parameters[0])
        return np.concatenate([slopes / spread[:, None], np.diag(tightness)])

    start = middle.copy()
    start[1] = float(np.log(np.median(harm.sum((1, 2)))))
    bound = np.full(len(start), 8.0)
    bound[:3] = 15.0, WIDEST, 1.5
    found = least_squares(residual, start, jac=jacobian, bounds=(-bound, bound), max_nfev=200)
    rows = jacobian(found.x)
    curve, factors = unpacked(found.x)
    covariance = np.linalg.pinv(rows.T @ rows)
    # Slopes elsewhere are by depth itself; here they are by its logit.
    covariance[0] *= 1 - expit(found.x[0])
    covariance[:, 0] *= 1 - expit(found.x[0])
    return CalibratedHarm(curve, factors, covariance, most, images)
