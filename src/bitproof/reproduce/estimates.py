"""Gains over the quantized network without hardening, and one value from several seeds.

Model:  networks meet the same chips and the same images, so a gain takes its interval from the
        differences: between chips, and between blocks of attacked images (Student's t). For clean
        images only the counts are kept, and for fewer than two blocks there is no spread; there
        the counts are taken as independent (Newcombe), which makes the interval too wide, not
        too narrow, as networks tend to err on the same images.

        Several seeds of training: the value is their mean. Half the interval is the root of the
        squares of Student's t between seeds and of the mean half width within one, so it covers
        both what training and what measuring leaves to chance. One seed keeps its own interval,
        which says nothing about other seeds.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from bitproof.metrics import Tally
from bitproof.stats import Interval, mean_interval, newcombe, student_half_width


class Measurement(NamedTuple):
    """A value with its interval, and how many units of one run that stands on."""

    interval: Interval
    n: int


def gain(mine: Sequence[Tally], other: Sequence[Tally], *, by_trial: bool) -> Measurement:
    """Return how much more accurate one network is than another at a level of a threat.

    Args:
        mine: counts of the one network, in the order of trials.
        other: counts of the other, on the same chips or the same images.
        by_trial: whether the trial is the unit, even if there is but one.

    Returns:
        The difference, and the images, chips or blocks of images behind its interval.

    Example:
        >>> right = [50, 60, 70]
        >>> mine, other = ([Tally(n + more, 100) for n in right] for more in (10, 0))
        >>> found = gain(mine, other, by_trial=True)
        >>> [round(end, 3) for end in found.interval], found.n
        ([0.1, 0.1, 0.1], 3)
    """
    ours, theirs = sum(mine, Tally(0, 0)), sum(other, Tally(0, 0))
    if len(mine) < 2 and not by_trial:
        counts = ((tally.correct, tally.total) for tally in (ours, theirs))
        return Measurement(newcombe(*counts), ours.total)
    differences = [a.acc - b.acc for a, b in zip(mine, other, strict=True)]
    low, mean, high = mean_interval(differences, lowest=-1.0)
    # The last block of images may be smaller; the value stays that of all images.
    value = ours.acc - theirs.acc
    return Measurement(around(value, (value - mean) + low, (value - mean) + high), len(mine))


def combine(runs: Sequence[Interval], *, lowest: float) -> Interval:
    """Return one value from runs that differ in their seed.

    Args:
        runs: what each run found.
        lowest: the least value there can be; the greatest is 1.

    Example:
        >>> runs = [Interval(mean - 0.02, mean, mean + 0.02) for mean in (0.9, 0.91, 0.92)]
        >>> [round(end, 4) for end in combine(runs, lowest=0.0)]
        [0.8781, 0.91, 0.9419]
    """
    if len(runs) == 1:
        return runs[0]
    value = fmean(run.value for run in runs)
    between = student_half_width([run.value for run in runs])
    half = math.hypot(between, fmean((run.high - run.low) / 2 for run in runs))
    return Interval(max(lowest, value - half), value, min(1.0, value + half))


def around(value: float, low: float, high: float) -> Interval:
    """Return an interval that holds its value and stays between -1 and 1."""
    return Interval(max(-1.0, min(value, low)), value, min(1.0, max(value, high)))
