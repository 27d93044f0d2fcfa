"""From counts to tidy rows with intervals, and the checks against masked gradients.

Model:  images are independent trials without faults and under attack (Wilson); under bit errors
        the chip is the unit, because images that share a chip are not independent (Student's t).
"""

from itertools import pairwise

from bitproof.data.dataset import Dataset
from bitproof.evaluation.evaluation import Evaluation
from bitproof.evaluation.store import TallyStore
from bitproof.metrics import Tally, area_over_decades
from bitproof.stats import Interval, Row, mean_interval, wilson

SLACK = 0.03
"""Difference of accuracies on one block that a check calls noise."""


def summarize(
    evaluation: Evaluation, variants: list[str], data: Dataset, store: TallyStore
) -> list[Row]:
    """Return the rows of `results.csv`, for the cells of which every measurement is there."""
    rows: list[Row] = []
    for variant in variants:
        keys = evaluation.keys(variant, data)
        if any(store.get(key) is None for key in keys):
            continue
        clean = _sum(store.of(variant, "none", 0.0))
        rows.append(
            _row(variant, "none", 0.0, "acc", wilson(clean.correct, clean.total), n=clean.total)
        )
        rows += _fault_rows(evaluation, variant, store)
        for epsilon in evaluation.epsilons:
            cell = _sum(store.of(variant, evaluation.attack.kind, epsilon))
            interval = wilson(cell.correct, cell.total)
            rows.append(
                _row(variant, evaluation.attack.kind, epsilon, "acc", interval, n=cell.total)
            )
    return rows


def _fault_rows(evaluation: Evaluation, variant: str, store: TallyStore) -> list[Row]:
    rows = []
    by_ber = [[t.acc for t in store.of(variant, "random_flips", ber)] for ber in evaluation.bers]
    n = evaluation.chips
    for ber, accs in zip(evaluation.bers, by_ber, strict=True):
        mean = mean_interval(accs)
        rows.append(_row(variant, "random_flips", ber, "acc", mean, n=n))
        spread = (sum((acc - mean.value) ** 2 for acc in accs) / max(n - 1, 1)) ** 0.5
        for metric, value in (("acc_std", spread), ("acc_min", min(accs))):
            rows.append(Row(variant, "random_flips", ber, metric, value, n=n))
    if by_ber:
        areas = [area_over_decades(evaluation.bers, chip) for chip in zip(*by_ber, strict=True)]
        rows.append(_row(variant, "random_flips", None, "auc_fr", mean_interval(areas), n=n))
    return rows


def masking_warnings(
    evaluation: Evaluation, variants: list[str], data: Dataset, store: TallyStore
) -> list[str]:
    """Return what looks like masked gradients: attacks that seem strong and are not."""
    found = []
    for variant in variants:
        if any(store.get(key) is None for key in evaluation.keys(variant, data)):
            continue
        found += _check(evaluation, variant, data, store)
    return found


def _check(evaluation: Evaluation, variant: str, data: Dataset, store: TallyStore) -> list[str]:
    found, kind = [], evaluation.attack.kind
    accs = [_sum(store.of(variant, kind, epsilon)).acc for epsilon in evaluation.epsilons]
    curve = zip(evaluation.epsilons, accs, strict=True)
    for (small, a), (large, b) in pairwise(curve):
        if b > a:
            found.append(
                f"{variant}: accuracy rises with epsilon ({a:.3f} at {small:.4g}, {b:.3f} at "
                f"{large:.4g}); the attack is too weak or gradients are masked"
            )
    radius, chance = evaluation.huge(data), 1 / data.n_classes
    huge = _sum(store.of(variant, kind, radius))
    if huge.total and wilson(huge.correct, huge.total).low > chance:
        found.append(
            f"{variant}: accuracy is {huge.acc:.3f} under {kind} at epsilon {radius:.4g}, above "
            f"chance ({chance:.3f}); the attack is too weak or gradients are masked"
        )
    for epsilon in evaluation.epsilons if evaluation.checks_queries() else ():
        white, black = (
            store.get((variant, threat, epsilon, 0)) or Tally(0, 0)
            for threat in (kind, "linf_square")
        )
        if black.acc < white.acc - SLACK:
            found.append(
                f"{variant}: a black-box attack is stronger ({black.acc:.3f}) than {kind} "
                f"({white.acc:.3f}) at epsilon {epsilon:.4g}; gradients are masked"
            )
    return found


def _sum(tallies: list[Tally]) -> Tally:
    return sum(tallies, Tally(0, 0))


def _row(
    variant: str, threat: str, level: float | None, metric: str, interval: Interval, *, n: int
) -> Row:
    return Row(variant, threat, level, metric, interval.value, interval.low, interval.high, n)
