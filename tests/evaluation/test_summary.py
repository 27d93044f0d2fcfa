import numpy as np
import pytest
import torch
from scipy import stats

from bitproof.attacks import L2PGD, LinfPGD
from bitproof.data import Dataset
from bitproof.evaluation import Evaluation, TallyStore, masking_warnings, summarize
from bitproof.metrics import Tally
from bitproof.stats import Row

DATA = Dataset.from_arrays(torch.zeros(200, 1, 2, 2), torch.arange(200) % 4)
PLAN = Evaluation(
    bers=(1e-3, 1e-1), chips=3, attack=LinfPGD(epsilon=0.1), epsilons=(0.1, 0.2), attack_images=200
)
RIGHT = {1e-3: (80, 90, 70), 1e-1: (40, 50, 45)}
"""Right answers of each chip, of 100."""


def store_of(
    *, white: tuple[int, int] = (60, 40), huge: int = 20, black: tuple[int, int] = (70, 50)
) -> TallyStore:
    """Return a store with accuracies in per cent."""
    store = TallyStore()
    store.add(("v", "none", 0.0, 0), Tally(190, 200))
    for ber, chips in RIGHT.items():
        for chip, right in enumerate(chips):
            store.add(("v", "random_flips", ber, chip), Tally(right, 100))
    for epsilon, acc, query in zip(PLAN.epsilons, white, black, strict=True):
        for block in range(2):
            store.add(("v", "linf_pgd", epsilon, block), Tally(acc, 100))
        store.add(("v", "linf_square", epsilon, 0), Tally(query, 100))
    store.add(("v", "linf_pgd", 0.5, 0), Tally(huge, 100))
    return store


def find(rows: list[Row], threat: str, level: float | None, metric: str = "acc") -> Row:
    (row,) = (r for r in rows if (r.threat, r.level, r.metric) == (threat, level, metric))
    return row


def test_images_get_a_wilson_interval() -> None:
    rows = summarize(PLAN, ["v"], DATA, store_of())
    for threat, level, right in [("none", 0.0, 190), ("linf_pgd", 0.1, 120), ("linf_pgd", 0.2, 80)]:
        row = find(rows, threat, level)
        wanted = stats.binomtest(right, 200).proportion_ci(method="wilson")
        assert (row.value, row.n) == (right / 200, 200)
        assert (row.ci_low, row.ci_high) == pytest.approx((wanted.low, wanted.high))


def test_chips_get_an_interval_from_their_spread() -> None:
    rows = summarize(PLAN, ["v"], DATA, store_of())
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
    row = find(summarize(PLAN, ["v"], DATA, store_of()), "random_flips", None, "auc_fr")
    areas = [(a + b) / 200 for a, b in zip(*RIGHT.values(), strict=True)]
    wanted = stats.t.interval(0.95, 2, loc=np.mean(areas), scale=stats.sem(areas))
    assert row.value == pytest.approx(np.mean(areas))
    assert (row.ci_low, row.ci_high) == pytest.approx(wanted)


def test_checks_against_masking_are_no_results() -> None:
    rows = summarize(PLAN, ["v"], DATA, store_of())
    assert {(row.threat, row.level) for row in rows} == {
        ("none", 0.0),
        ("random_flips", 1e-3),
        ("random_flips", 1e-1),
        ("random_flips", None),
        ("linf_pgd", 0.1),
        ("linf_pgd", 0.2),
    }


def test_unfinished_networks_are_left_out() -> None:
    assert {row.variant for row in summarize(PLAN, ["w", "v"], DATA, store_of())} == {"v"}
    assert masking_warnings(PLAN, ["w"], DATA, store_of(huge=99)) == []


def test_a_plan_without_threats_gives_clean_accuracy_alone() -> None:
    plan = PLAN.model_copy(update={"bers": (), "epsilons": ()})
    (row,) = summarize(plan, ["v"], DATA, store_of())
    assert (row.threat, row.value) == ("none", 0.95)


def test_an_honest_network_gives_no_warning() -> None:
    assert masking_warnings(PLAN, ["v"], DATA, store_of()) == []


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (store_of(white=(40, 41)), "v: accuracy rises with epsilon (0.400 at 0.1, 0.410 at 0.2)"),
        (store_of(huge=40), "v: accuracy is 0.400 under linf_pgd at epsilon 0.5, above chance"),
        (store_of(black=(70, 30)), "v: a black-box attack is stronger (0.300) than linf_pgd (0.4"),
    ],
)
def test_each_sign_of_masked_gradients_warns(store: TallyStore, words: str) -> None:
    (warning,) = masking_warnings(PLAN, ["v"], DATA, store)
    assert warning.startswith(words)


def test_noise_gives_no_warning() -> None:
    assert masking_warnings(PLAN, ["v"], DATA, store_of(huge=30, black=(58, 38))) == []


def test_l2_attacks_are_checked_at_a_radius_of_their_own() -> None:
    plan = PLAN.model_copy(update={"attack": L2PGD(epsilon=0.1), "bers": ()})
    store = TallyStore()
    store.add(("v", "none", 0.0, 0), Tally(190, 200))
    for epsilon, right in [(0.1, 90), (0.2, 80)]:
        for block in range(2):
            store.add(("v", "l2_pgd", epsilon, block), Tally(right, 100))
    store.add(("v", "l2_pgd", 1.0, 0), Tally(60, 100))  # half of the root of 4 pixels
    (warning,) = masking_warnings(plan, ["v"], DATA, store)
    assert "0.600 under l2_pgd at epsilon 1, above chance" in warning
