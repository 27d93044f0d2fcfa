"""Rows and warnings, from counts to what `results.csv` and the report say."""

import numpy as np
import pytest
import torch
from scipy import stats

from bitproof.attacks import L2PGD, LinfPGD
from bitproof.data import Dataset
from bitproof.evaluation import AdversarialExamples, BlackBoxCheck, Clean, Evaluation, MemoryFaults
from bitproof.evaluation.threat import Counts
from bitproof.metrics import Tally
from bitproof.stats import Row

DATA = Dataset.from_arrays(torch.zeros(200, 1, 2, 2), torch.arange(200) % 4)
ATTACKED = AdversarialExamples(attack=LinfPGD(epsilon=0.1), levels=(0.1, 0.2), images=200)
PLAN = Evaluation(
    threats=(Clean(), MemoryFaults(levels=(1e-3, 1e-1), chips=3), ATTACKED, BlackBoxCheck())
)
RIGHT = {1e-3: (80, 90, 70), 1e-1: (40, 50, 45)}
"""Right answers of each chip, of 100."""


def counts(
    *, white: tuple[int, int] = (60, 40), huge: int = 20, black: tuple[int, int] = (70, 50)
) -> dict[str, Counts]:
    """Return counts with accuracies in per cent."""
    radii = ATTACKED.levels
    return {
        "clean": {0.0: [Tally(190, 200)]},
        "random_flips": {
            ber: [Tally(right, 100) for right in chips] for ber, chips in RIGHT.items()
        },
        "linf_pgd": {
            **{at: [Tally(acc, 100)] * 2 for at, acc in zip(radii, white, strict=True)},
            0.5: [Tally(huge, 100)],
        },
        "black_box_check": {at: [Tally(acc, 100)] for at, acc in zip(radii, black, strict=True)},
    }


def find(rows: list[Row], threat: str, level: float | None, metric: str = "acc") -> Row:
    (row,) = (r for r in rows if (r.threat, r.level, r.metric) == (threat, level, metric))
    return row


def test_images_get_a_wilson_interval() -> None:
    rows = PLAN.rows("v", counts())
    cases = [("clean", 0.0, 190), ("linf_pgd", 0.1, 120), ("linf_pgd", 0.2, 80)]
    for threat, level, right in cases:
        row = find(rows, threat, level)
        wanted = stats.binomtest(right, 200).proportion_ci(method="wilson")
        assert (row.variant, row.value, row.n) == ("v", right / 200, 200)
        assert (row.ci_low, row.ci_high) == pytest.approx((wanted.low, wanted.high))


def test_chips_get_an_interval_from_their_spread() -> None:
    rows = PLAN.rows("v", counts())
    for ber, right in RIGHT.items():
        accs = np.array(right) / 100
        wanted = stats.t.interval(0.95, 2, loc=accs.mean(), scale=stats.sem(accs))
        row = find(rows, "random_flips", ber)
        assert row.n == 3
        assert (row.ci_low, row.value, row.ci_high) == pytest.approx(
            (max(0, wanted[0]), accs.mean(), min(1, wanted[1]))
        )
        assert find(rows, "random_flips", ber, "acc_std").value == pytest.approx(accs.std(ddof=1))
        assert find(rows, "random_flips", ber, "acc_min").value == accs.min()


def test_area_is_taken_chip_by_chip() -> None:
    row = find(PLAN.rows("v", counts()), "random_flips", None, "auc_fr")
    areas = [(a + b) / 200 for a, b in zip(*RIGHT.values(), strict=True)]
    wanted = stats.t.interval(0.95, 2, loc=np.mean(areas), scale=stats.sem(areas))
    assert row.value == pytest.approx(np.mean(areas))
    assert (row.ci_low, row.ci_high) == pytest.approx(wanted)


def test_checks_against_masking_are_no_results() -> None:
    assert {(row.threat, row.level) for row in PLAN.rows("v", counts())} == {
        ("clean", 0.0),
        ("random_flips", 1e-3),
        ("random_flips", 1e-1),
        ("random_flips", None),
        ("linf_pgd", 0.1),
        ("linf_pgd", 0.2),
    }


def test_an_honest_network_gives_no_warning() -> None:
    assert PLAN.warnings("v", counts(), DATA) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (counts(white=(40, 41)), "v: accuracy rises with epsilon (0.400 at 0.1, 0.410 at 0.2)"),
        (counts(huge=40), "v: accuracy is 0.400 under linf_pgd at epsilon 0.5, above chance"),
        (counts(black=(70, 30)), "v: a black-box attack is stronger (0.300) than linf_pgd (0.4"),
    ],
)
def test_each_sign_of_masked_gradients_warns(found: dict[str, Counts], words: str) -> None:
    (warning,) = PLAN.warnings("v", found, DATA)
    assert warning.startswith(words)


def test_noise_gives_no_warning() -> None:
    assert PLAN.warnings("v", counts(huge=30, black=(58, 38)), DATA) == []


def test_l2_attacks_are_checked_at_a_radius_of_their_own() -> None:
    plan = Evaluation(threats=(AdversarialExamples(attack=L2PGD(epsilon=0.1), levels=(0.1, 0.2)),))
    found: dict[str, Counts] = {
        "l2_pgd": {
            0.1: [Tally(90, 100)] * 2,
            0.2: [Tally(80, 100)] * 2,
            1.0: [Tally(60, 100)],  # half of the root of 4 pixels
        }
    }
    (warning,) = plan.warnings("v", found, DATA)
    assert "0.600 under l2_pgd at epsilon 1, above chance" in warning
