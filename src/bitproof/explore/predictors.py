"""Accuracy of choices that nobody has measured, from their scores, with prediction intervals.

Model:  accuracy falls with the score H of a choice along one curve,
            Acc = Acc0 - A (1 - exp(-(H / H0)^q)),
        A at most down to chance, fitted to choices that were measured. Or, with one measured choice
        at most, errors turn an image's answer over when they exceed its margin:
            Acc = mean_i Phi(margin_i / (tau sqrt(noise))).
        Intervals are conformal: each measured choice but the most harmful is predicted from the
        others, the errors are divided by `1 / sqrt(images)` plus the predicted drop, and the 95th
        percentile of that, the largest where there are fewer than 19, is the half width of all
        intervals, in the same unit.
Source: METHODS B.4, predictors; Vovk et al., "Algorithmic Learning in a Random World", 2005
        (conformal intervals).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq, least_squares
from scipy.special import ndtr

from bitproof.core.errors import SpecError
from bitproof.stats import Interval
from bitproof.stats.intervals import score_interval

Values = Float64[np.ndarray, " n"]
MOST_LEFT_OUT = 24
"""Measured choices up to which each is left out in turn; of more, as many groups."""
WIDEST = 60.0
"""Bound on the logarithm of H0."""


@dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy by score.

    Example:
        >>> curve = AccuracyCurve(acc0=0.9, depth=0.8, scale=1.0, power=1.0, width=1.0, images=100)
        >>> [round(end, 3) for end in curve.predict(0.0)]
        [0.8, 0.9, 1.0]
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
    width: float
    """Half width of intervals, in units of `1 / sqrt(images)` plus the predicted drop."""
    images: int
    """That accuracies are counted on."""

    @classmethod
    def fit(
        cls,
        scores: Sequence[float],
        accs: Sequence[float],
        *,
        acc0: float,
        chance: float,
        images: int,
    ) -> "AccuracyCurve":
        """Fit the curve to measured choices; `acc0` is that of exact products.

        Raises:
            SpecError: no measured choice has a score.
        """
        h, y = (np.array(own, dtype=np.float64) for own in (scores, accs))
        known = h > 0
        if not known.any():
            raise SpecError("accuracy: wanted a measured choice with errors, got none")
        h, y = h[known], y[known]
        depth, scale, power = _fitted(h, y, acc0, chance)
        inner = h < h.max() if len(h) > 1 else h > 0
        left_out, y = _left_out(h, y, acc0, chance)[inner], y[inner]
        unit = 1 / np.sqrt(images) + np.maximum(acc0 - left_out, 0.0)
        widths = np.sort(np.abs(y - left_out) / unit)
        rank = min(int(np.ceil(0.95 * (len(widths) + 1))), len(widths))
        return cls(acc0, depth, scale, power, float(widths[rank - 1]), images)

    def values(self, scores: Values) -> Values:
        """Return predicted accuracies."""
        return _curve(np.asarray(scores, np.float64), self.acc0, self.depth, self.scale, self.power)

    def predict(self, score: float) -> Interval:
        """Return the predicted accuracy of one choice, with its interval."""
        value = float(self.values(np.array([score]))[0])
        half = self.width * (self.images**-0.5 + max(self.acc0 - value, 0.0))
        return Interval(max(value - half, 0.0), value, min(value + half, 1.0))

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
        return score_interval(min(max(value, 0.0), 1.0), len(self.margins))

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


def _curve(h: Values, acc0: float, depth: float, scale: float, power: float) -> Values:
    ratio = np.minimum((np.maximum(h, 0.0) / scale) ** power, 700.0)
    found: Values = acc0 + depth * np.expm1(-ratio)
    return found


def _fitted(h: Values, y: Values, acc0: float, chance: float) -> tuple[float, float, float]:
    """Return depth, scale and power of the curve."""
    most = max(acc0 - chance, 1e-6)
    if len(h) < 3:  # one parameter: the rest as for small errors of many images

        def miss(logs: Values) -> Values:
            gap: Values = _curve(h, acc0, most, float(np.exp(logs[0])), 1.0) - y
            return gap

        found = least_squares(miss, [float(np.log(h.max()))], bounds=(-WIDEST, WIDEST))
        return most, float(np.exp(found.x[0])), 1.0

    weight = 1 / (0.01 + np.maximum(acc0 - y, 0.0))

    def residual(logs: Values) -> Values:
        depth, scale, power = most / (1 + np.exp(-logs[0])), np.exp(logs[1]), np.exp(logs[2])
        gap: Values = _curve(h, acc0, float(depth), float(scale), float(power)) - y
        return gap * weight

    start = [3.0, float(np.log(np.median(h))), 0.0]
    bounds = ([-6.0, -WIDEST, np.log(0.25)], [12.0, WIDEST, np.log(3.0)])
    logs = least_squares(residual, start, bounds=bounds, loss="soft_l1").x
    depth = most / (1 + np.exp(-logs[0]))
    return float(depth), float(np.exp(logs[1])), float(np.exp(logs[2]))


def _left_out(h: Values, y: Values, acc0: float, chance: float) -> Values:
    """Return each measured choice as the curve of the others predicts it."""
    predicted = np.empty(len(h))
    groups = np.arange(len(h)) % min(len(h), MOST_LEFT_OUT)
    for group in range(int(groups.max()) + 1):
        own = groups == group
        others = ~own if (~own).any() else own
        predicted[own] = _curve(h[own], acc0, *_fitted(h[others], y[others], acc0, chance))
    return predicted
