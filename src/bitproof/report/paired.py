"""Differences between two networks that met the same chips, or the same images.

Model:  networks of a run share chips and images: trial 3 of a threat breaks the same cells, or
        attacks the same images, whatever the network. Where it is kept which images were right
        (clean ones, attacked ones), the image is the unit: only those on which the networks differ
        tell of a difference (Tango's interval). Elsewhere the unit is the trial, and the difference
        of each gives Student's t interval of their mean. Where counts of single trials are not
        kept, or trials are few or of several sizes, the two intervals are combined as if the
        measurements were independent, which is wider, as a rule.
Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the
        paired-sample design", Statistics in Medicine 17, 1998; Student's t for the mean of
        independent differences; Newcombe, "Interval estimation for the
        difference between independent proportions", Statistics in Medicine 17, 1998 (hybrid score
        interval, here for any pair of intervals).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bitproof.report.run import Run
from bitproof.report.tallies import Measurement
from bitproof.stats.intervals import Interval, difference, mean_interval, tango
from bitproof.stats.results import Row

FEWEST = 5
"""Trials that an interval of paired differences needs."""
ROUNDING = 1e-6
"""By how much a mean over trials may miss the value in the table."""


@dataclass(frozen=True)
class AccuracyChange:
    """The difference of two measured rates, as a fraction, with a 95 % interval if known."""

    before: Row
    after: Row
    value: float
    low: float | None
    high: float | None
    paired: bool = False
    """Whether its interval is that of the differences of single images or trials."""

    @property
    def sign(self) -> int:
        """1 or -1 where the interval excludes zero, else 0: no clear change.

        An interval of no width is that of a few draws that came out alike: it tells nothing.
        """
        if self.low is None or self.high is None or self.low == self.high:
            return 0
        return (self.low > 0) - (self.high < 0)


def change(before: Row | None, after: Row | None) -> AccuracyChange | None:
    """Return how much `after` lies above `before`, as if measured apart; None without both.

    Its interval is not known where that of a row is not, or has no width: a few draws came out
    alike, and nobody knows how much others would differ.
    """
    if before is None or after is None:
        return None
    found = (row.interval for row in (after, before))
    ends = [one for one in found if one is not None and one.low < one.high]
    if len(ends) < 2:
        return AccuracyChange(before, after, after.value - before.value, None, None)
    low, value, high = difference(*ends)
    return AccuracyChange(before, after, value, low, high)


def paired_change(
    run: Run, before: str, after: str, threat: str, level: float
) -> AccuracyChange | None:
    """Return how much the accuracy of one network lies above that of another.

    By single images or trials where both networks had the same ones. None where one was not
    measured.
    """
    apart = change(run.find(before, threat, level), run.find(after, threat, level))
    first, second = (
        run.trials.get((run.network_of(name), threat, level), {}) for name in (before, after)
    )
    paired = by_image(first, second) or by_trial(first, second)
    if apart is None or paired is None or abs(paired.value - apart.value) > ROUNDING:
        return apart
    return AccuracyChange(apart.before, apart.after, apart.value, paired.low, paired.high, True)


def by_image(
    before: Mapping[int, Measurement], after: Mapping[int, Measurement]
) -> Interval | None:
    """Return `after` minus `before` by single images of the same trials.

    None where trials differ, or it is not kept which images were right.
    """
    if not before or before.keys() != after.keys():
        return None
    gained = lost = images = 0
    for trial, one in before.items():
        was, now = one.right, after[trial].right
        if was is None or now is None or len(was) != len(now):
            return None
        moved = np.frombuffer(now, np.int8) - np.frombuffer(was, np.int8)
        gained, lost = gained + int((moved > 0).sum()), lost + int((moved < 0).sum())
        images += len(was)
    return tango(gained, lost, images)


def by_trial(
    first: Mapping[int, Measurement], second: Mapping[int, Measurement]
) -> Interval | None:
    """Return the mean of `second` minus `first` over the same trials.

    None where they are few, of several sizes, or not the same ones.
    """
    trials = sorted(first)
    sizes = {one.total for side in (first, second) for one in side.values()}
    if len(trials) < FEWEST or trials != sorted(second) or len(sizes) != 1:
        return None
    return mean_interval([second[n].acc - first[n].acc for n in trials], lowest=-1.0)
