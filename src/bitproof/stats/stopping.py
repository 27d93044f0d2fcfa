"""Rules that stop a campaign early, with intervals that still hold the truth as often as promised.

Model:  each fault gives one fraction of images with the outcome, in the order of the trials;
        faults are drawn independently from one distribution, of which nothing else is assumed
        by `confidence_sequence`. `fixed_looks` rests on `cluster_rate`'s approximation.
Source: Dunn, "Multiple Comparisons among Means", JASA 1961 (Bonferroni); Waudby-Smith and Ramdas,
        "Estimating Means of Bounded Random Variables by Betting", JRSS B 2024 (the hedged capital
        process, its stakes averaged as in diversified Kelly betting).

Who looks at an interval after each trial, and stops once it is short, sees it miss the truth far
more often than 5 %. Both rules below are valid at the moment they stop, and may only look at
moments that are fixed in advance, so that the answer does not depend on who ran which trial when.
"""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Literal, final

import numpy as np
from jaxtyping import Float
from pydantic import field_validator

from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Confidence, Count, Fraction
from bitproof.stats.clusters import mean_rate
from bitproof.stats.intervals import Interval

GROWTH = 20
"""A confidence sequence is looked at after every further 1/20 of the trials."""
STAKES = 0.5 ** np.arange(12)
"""Shares of the capital that the gamblers bet, each always the same."""
HALVINGS = 32
"""Steps of the search for the end of an interval: it is found to within 2**-32."""
TINY = 1e-12
"""A mean below this is 0."""


class StopRule(Spec):
    """Tells after how many trials a campaign knows its rate well enough."""

    kind: str
    margin: Fraction
    """Stop when half the width of the interval is below this fraction."""
    confidence: Confidence = 0.95
    """How often the interval at the stop holds the truth."""

    @abstractmethod
    def looks(self, n_max: int) -> list[int]:
        """Return the numbers of trials at which the rule may look, rising; the last is `n_max`."""

    @abstractmethod
    def look(self, values: Float[np.ndarray, " f"]) -> Interval:
        """Return the interval after these trials, valid at every permitted look together.

        Args:
            values: for each fault, in the order of the trials, its fraction of images with the
                outcome.

        Raises:
            ValueError: there is no value, or one outside 0 .. 1.
        """

    @final
    def stops(self, values: Float[np.ndarray, " f"], *, n_max: int) -> int | None:
        """Return the number of trials after which the rule stops, None if it goes on.

        Trials beyond that number change nothing, nor does it matter how many have come so far.

        Args:
            values: as for `look`.
            n_max: trials that were planned; the looks depend on it.

        Raises:
            ValueError: a value lies outside 0 .. 1.
        """
        for n in self.looks(n_max):
            if n > len(values):
                break
            low, _, high = self.look(values[:n])
            if (high - low) / 2 < self.margin:
                return n
        return None


STOP_RULES: Registry[StopRule] = Registry("stop_rules")


@STOP_RULES.register
class FixedLooks(StopRule):
    """Look a few times, each time with an equal part of the error allowed in all.

    Each look takes the Clopper-Pearson interval of `mean_rate`, that is between faults.

    Example:
        >>> rule = FixedLooks(margin=0.02, fractions=(0.5, 1.0))
        >>> rule.looks(1000)
        [500, 1000]
        >>> rule.stops(np.zeros(1000), n_max=1000)
        500
    """

    kind: Literal["fixed_looks"] = "fixed_looks"
    fractions: tuple[Fraction, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    """Looks, as fractions of the planned trials, rising to 1."""

    @field_validator("fractions")
    @classmethod
    def _rise(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if not fractions or fractions[-1] != 1 or any(a >= b for a, b in pairwise(fractions)):
            raise ValueError(f"wanted fractions that rise to 1, got {list(fractions)}")
        return fractions

    def looks(self, n_max: int) -> list[int]:
        """Return the fractions of `n_max`, rounded."""
        return sorted({max(1, round(fraction * n_max)) for fraction in self.fractions})

    def look(self, values: Float[np.ndarray, " f"]) -> Interval:
        """Return the interval at a confidence that leaves each look its part of the error."""
        error = (1 - self.confidence) / len(self.fractions)
        return mean_rate(values, confidence=1 - error, method="clopper_pearson")


@STOP_RULES.register
class ConfidenceSequence(StopRule):
    """Look as often as you like, with an interval that holds at all times at once.

    Suppose the mean is m. Gamblers bet on each trial that its value is above m, each staking a
    fixed share s of the capital: a value x multiplies it by 1 + s (x / m - 1), which is 1 in
    the mean. So the gamblers' average capital ever reaches 2 / error with a probability of at
    most error / 2 (Ville); others bet on the opposite likewise. Every m on which neither side
    got rich stays in the interval. No distribution is assumed, and the order of the trials
    before a look does not matter. The interval is 1.6 to 2 times as long as a normal one that is
    looked at once (measured at 1,000 to 50,000 trials, means from 0.02 to 0.5), so that a stop
    takes about 3 to 4 times the trials.

    Example:
        >>> rule = ConfidenceSequence(margin=0.02)
        >>> rule.looks(120)
        [100, 105, 110, 115, 120]
        >>> rule.stops(np.zeros(1000), n_max=1000)
        151
        >>> [round(end, 4) for end in rule.look(np.zeros(1000))]
        [0.0, 0.0, 0.0061]
    """

    kind: Literal["confidence_sequence"] = "confidence_sequence"
    first: Count = 100
    """Trials before the first look; later looks follow in steps of a twentieth."""

    def looks(self, n_max: int) -> list[int]:
        """Return looks that lie a twentieth apart, from `first` to `n_max`."""
        moments, n = [], self.first
        while n < n_max:
            moments.append(n)
            n += max(1, n // GROWTH)
        return [*moments, n_max]

    def look(self, values: Float[np.ndarray, " f"]) -> Interval:
        """Return the means that neither gambler got rich on."""
        if not len(values) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError("values: wanted at least one, each between 0 and 1")
        goal = math.log(2 / (1 - self.confidence))
        mean = float(values.mean())
        low, high = _lower_end(values, goal), 1 - _lower_end(1 - values, goal)
        return Interval(min(low, mean), mean, max(high, mean))


def _lower_end(values: Float[np.ndarray, " f"], goal: float) -> float:
    """Return a mean that a bet on a higher one got rich on, the highest to within 2**-32.

    Each factor falls as the supposed mean rises, so that halving finds the place.
    """
    unique, counts = np.unique(values, return_counts=True)
    low, high = 0.0, float(values.mean())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle < TINY:
            break
        with np.errstate(divide="ignore"):  # log 0: that gambler is ruined, and stays so
            logs = np.log1p(STAKES[:, None] * (unique / middle - 1)) @ counts
        rich = np.logaddexp.reduce(logs) - math.log(len(STAKES)) >= goal
        low, high = (middle, high) if rich else (low, middle)
    return low
