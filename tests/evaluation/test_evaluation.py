from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from bitproof.attacks import FGSM, L2PGD, LinfPGD, LinfSquare
from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import (
    AdversarialExamples,
    BlackBoxCheck,
    Clean,
    EvaluatedModel,
    Evaluation,
    FloatModel,
    IntegerModel,
    MemoryFaults,
    TallyStore,
    Threat,
    count,
)
from bitproof.evaluation.adversarial_examples import BLOCK
from bitproof.evaluation.threat import BATCH, Counts
from bitproof.faults import FaultModel, Protection, RandomFlips, Site, corrupt
from bitproof.metrics import Tally

FAULTS = MemoryFaults(levels=(1e-3, 1e-2, 1e-1), chips=3, images=40)
ATTACKS = AdversarialExamples(attack=LinfPGD(epsilon=0.1, steps=2), levels=(0.05, 0.1), images=120)
SMALL = Evaluation(threats=(Clean(), FAULTS, ATTACKS, BlackBoxCheck(queries=4)))


class Interruption(Exception):  # noqa: N818 (what happens, not what is wrong)
    """Stands for Ctrl-C."""


class Fragile(TallyStore):
    """Breaks off before the measurement with a given number."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self.lives = lives

    def add(self, key: str, tally: Tally, **names: Any) -> None:
        if self.lives == 0:
            raise Interruption
        self.lives -= 1
        super().add(key, tally, **names)


def measure(
    evaluation: Evaluation, model: EvaluatedModel, data: Dataset, store: TallyStore | None = None
) -> dict[str, Counts]:
    store = store or TallyStore()
    with evaluation.open(lambda _name: model, data) as pool:
        keys = evaluation.keys(model.digest(), data)
        evaluation.measure("v", keys, pool=pool, store=store)
    counts = evaluation.counts(keys, store)
    assert counts is not None
    return counts


def alone(*threats: Threat, seed: int = 0) -> Evaluation:
    return Evaluation(threats=threats, seed=seed)


@pytest.fixture(scope="module")
def whole(integers: IntegerModel, data: Dataset) -> dict[str, Counts]:
    return measure(SMALL, integers, data)


def test_everything_that_was_asked_for_is_measured(whole: dict[str, Counts]) -> None:
    sizes = {
        title: {level: [one.total for one in trials] for level, trials in counts.items()}
        for title, counts in whole.items()
    }
    assert sizes == {
        "clean": {0.0: [250]},
        "random_flips": {ber: [40] * 3 for ber in FAULTS.levels},
        "linf_pgd": {**{epsilon: [100, 20] for epsilon in ATTACKS.levels}, 0.5: [100]},
        "black_box_check": {epsilon: [100] for epsilon in ATTACKS.levels},
    }


@pytest.mark.parametrize("lives", [0, 1, 5, 11, 14])
def test_an_interruption_changes_nothing(
    lives: int, whole: dict[str, Counts], integers: IntegerModel, data: Dataset
) -> None:
    store, n = Fragile(lives), len(SMALL.keys(integers.digest(), data))
    with pytest.raises(Interruption):
        measure(SMALL, integers, data, store)
    assert SMALL.counts(SMALL.keys(integers.digest(), data), store) is None
    store.lives = n
    assert measure(SMALL, integers, data, store) == whole
    assert store.lives == lives


def test_it_is_kept_which_images_were_right_where_each_is_judged_once(
    whole: dict[str, Counts], integers: IntegerModel, data: Dataset
) -> None:
    right = integers.predict(data.inputs()).argmax(1) == data.labels
    (clean,) = whole["clean"][0.0]
    assert list(clean.right or b"") == right.int().tolist()
    for title in ("linf_pgd", "black_box_check"):
        for one in (one for trials in whole[title].values() for one in trials):
            assert one.right is not None
            assert (len(one.right), sum(one.right)) == (one.total, one.correct)
    chips = [one for trials in whole["random_flips"].values() for one in trials]
    assert {one.right for one in chips} == {None}
    store = Fragile(7)
    with pytest.raises(Interruption):
        measure(SMALL, integers, data, store)
    store.lives = 99
    again = measure(SMALL, integers, data, store)
    assert [one.right for level in again["linf_pgd"].values() for one in level] == [
        one.right for level in whole["linf_pgd"].values() for one in level
    ]
    keys = SMALL.keys(integers.digest(), data)
    beside = [store.get(key) for one, key in keys.items() if one.threat >= len(SMALL.threats)]
    assert [one and list(one.right or b"") for one in beside] == [
        right[:size].int().tolist() for size in (40, 120)
    ]


def test_clean_accuracy_is_counted_on_the_images_of_each_threat_too(
    integers: IntegerModel, data: Dataset
) -> None:
    store = TallyStore()
    measure(SMALL, integers, data, store)
    keys = SMALL.keys(integers.digest(), data)
    beside = [store.get(key) for one, key in keys.items() if one.threat >= len(SMALL.threats)]
    assert beside == [count(integers.predict, data.first(size)) for size in (40, 120)]
    assert SMALL.measurements(data) == [one for one in keys if one.threat < len(SMALL.threats)]


def test_without_clean_images_nothing_is_counted_beside(data: Dataset) -> None:
    assert alone(FAULTS, ATTACKS).references(data) == ()
    assert alone(Clean(images=40), FAULTS).references(data) == ()


def test_order_does_not_matter(
    whole: dict[str, Counts], integers: IntegerModel, data: Dataset
) -> None:
    for task in reversed(SMALL.measurements(data)):
        threat = SMALL.threats[task.threat]
        found = threat.measure(integers, data, level=task.level, trial=task.trial, seed=0)
        assert found == whole[threat.title][task.level][task.trial]


def test_a_cell_does_not_depend_on_the_others(
    whole: dict[str, Counts], integers: IntegerModel, data: Dataset
) -> None:
    fewer = alone(
        FAULTS.model_copy(update={"levels": (1e-2,), "chips": 2}),
        ATTACKS.model_copy(update={"levels": (0.1,)}),
    )
    store = TallyStore()
    found = measure(fewer, integers, data, store)
    assert found["random_flips"] == {1e-2: whole["random_flips"][1e-2][:2]}
    assert found["linf_pgd"][0.1] == whole["linf_pgd"][0.1]


def test_counts_of_a_smaller_evaluation_are_counts_of_a_larger_one(
    integers: IntegerModel, data: Dataset
) -> None:
    few, many = (alone(FAULTS.model_copy(update={"chips": n})) for n in (2, 3))
    keys = few.keys(integers.digest(), data)
    assert set(keys.values()) < set(many.keys(integers.digest(), data).values())
    renamed = alone(FAULTS.model_copy(update={"chips": 2, "name": "other"}))
    assert list(renamed.keys(integers.digest(), data).values()) == list(keys.values())


@pytest.mark.parametrize(
    "other",
    [
        alone(FAULTS.model_copy(update={"images": 41})),
        alone(FAULTS.model_copy(update={"sites": ("weight",)})),
        alone(FAULTS, seed=1),
    ],
)
def test_whatever_decides_a_count_is_in_its_key(
    other: Evaluation, integers: IntegerModel, floats: FloatModel, data: Dataset
) -> None:
    keys = set(alone(FAULTS).keys(integers.digest(), data).values())
    assert not keys & set(other.keys(integers.digest(), data).values())
    assert not keys & set(alone(FAULTS).keys(floats.digest(), data).values())
    assert not keys & set(alone(FAULTS).keys(integers.digest(), data.first(200)).values())


def test_equal_networks_are_measured_once(integers: IntegerModel, data: Dataset) -> None:
    store = Fragile(9)
    for _ in ("a", "b"):
        measure(alone(FAULTS), integers, data, store)
    assert store.lives == 0


class Recorder:
    """A model that only writes down which chips it was put on."""

    def __init__(self) -> None:
        self.chips: list[tuple[FaultModel, Tensor]] = []

    def digest(self) -> str:
        return "recorder"

    def predict(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :3]

    differentiable = predict

    def broken(
        self,
        fault: FaultModel,
        *,
        sites: Sequence[Site],
        generator: torch.Generator,
        protections: Sequence[Protection] = (),
    ) -> Any:
        assert (tuple(sites), tuple(protections)) == (("weight", "bias"), ())
        self.chips.append((fault, torch.rand(3, generator=generator)))
        return self.predict


def test_all_networks_and_rates_see_the_same_chips(data: Dataset) -> None:
    seen = []
    for _ in ("a", "b"):
        model = Recorder()
        measure(alone(FAULTS), model, data)
        seen.append(model.chips)
    draws = torch.stack([draw for _, draw in seen[0]]).view(3, 3, 3)
    assert torch.equal(draws, torch.stack([draw for _, draw in seen[1]]).view(3, 3, 3))
    assert torch.equal(draws, draws[:1].expand(3, 3, 3))
    assert len({tuple(draw.tolist()) for draw in draws[0]}) == 3
    assert [fault for fault, _ in seen[0]] == [
        RandomFlips(ber=ber) for ber in FAULTS.levels for _ in range(3)
    ]


def test_a_chip_is_one_draw_of_weak_cells(
    whole: dict[str, Counts], integers: IntegerModel, data: Dataset
) -> None:
    for chip in range(3):
        broken = corrupt(
            integers.network, RandomFlips(ber=1e-2), generator=make_generator(0, "chip", chip)
        )
        right = int((broken(data.inputs(slice(40))).argmax(1) == data.labels[:40]).sum())
        assert whole["random_flips"][1e-2][chip] == Tally(right, 40)


def test_seed_decides_the_chips(
    whole: dict[str, Counts], integers: IntegerModel, data: Dataset
) -> None:
    other = measure(alone(FAULTS, seed=1), integers, data)
    assert other["random_flips"][1e-1] != whole["random_flips"][1e-1]


@pytest.mark.parametrize("name", ["floats", "integers"])
def test_activations_can_break(name: str, data: Dataset, request: pytest.FixtureRequest) -> None:
    model: FloatModel | IntegerModel = request.getfixturevalue(name)
    threat = MemoryFaults(levels=(1e-1,), sites=("activation",), chips=1, images=40)
    (faulty,) = measure(alone(threat), model, data)["random_flips"][1e-1]
    clean = count(model.predict, data.first(40))
    assert (faulty.correct < clean.correct) == (name == "integers")


def test_attacks_lower_accuracy_through_the_integers(whole: dict[str, Counts]) -> None:
    def acc(threat: str, level: float) -> float:
        return sum(whole[threat][level], Tally(0, 0)).acc

    curve = [acc("clean", 0.0), acc("linf_pgd", 0.05), acc("linf_pgd", 0.1), acc("linf_pgd", 0.5)]
    assert all(high >= low for high, low in pairwise(curve))
    assert curve[0] > 0.8
    assert curve[-1] < 0.1


def test_count_takes_every_image_once(data: Dataset) -> None:
    sizes: list[int] = []

    def classify(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return torch.nn.functional.one_hot(torch.zeros(len(inputs), dtype=torch.int64), 3).float()

    assert count(classify, data) == Tally(int((data.labels == 0).sum()), 250)
    assert sizes == [BATCH, 250 - BATCH]


def test_more_images_than_there_are_means_all(data: Dataset) -> None:
    threat = ATTACKS.model_copy(update={"images": 10_000})
    assert [trial for level, trial in threat.tasks(data) if level == 0.05] == list(
        range(-(-250 // BLOCK))
    )


@pytest.mark.parametrize("kind", ["memory_faults", "adversarial_examples"])
@pytest.mark.parametrize("levels", [[0.1, 0.1], [0.2, 0.1]])
def test_levels_rise(kind: str, levels: list[float]) -> None:
    with pytest.raises(SpecError, match=r"levels: wanted rising levels, each once, got \[0"):
        Evaluation.from_table({"threats": [{"kind": kind, "levels": levels}]})


def test_two_threats_of_one_name_are_refused() -> None:
    with pytest.raises(SpecError, match="wanted a 'name' for each of several threats called"):
        Evaluation.from_table({"threats": [{"kind": "memory_faults"}, {"kind": "memory_faults"}]})
    named = [{"kind": "memory_faults"}, {"kind": "memory_faults", "name": "in_activations"}]
    evaluation = Evaluation.from_table({"threats": named})
    assert isinstance(evaluation, Evaluation)
    assert list(evaluation.labels()) == ["random_flips", "in_activations"]


def test_a_check_takes_radii_and_images_of_the_attack_that_it_checks() -> None:
    check = SMALL.threats[-1]
    assert isinstance(check, BlackBoxCheck)
    assert (check.levels, check.images) == (ATTACKS.levels, ATTACKS.images)


@pytest.mark.parametrize(
    ("attack", "problem"),
    [
        ({"kind": "l2_pgd", "epsilon": 0.1}, "wanted adversarial examples in the L-infinity ball"),
        ({"kind": "fgsm", "epsilon": 0.1}, "got 'linf_pgd'"),
    ],
)
def test_a_check_without_its_attack_is_refused(attack: dict[str, Any], problem: str) -> None:
    threats = [{"kind": "adversarial_examples", "attack": attack}, {"kind": "black_box_check"}]
    with pytest.raises(SpecError, match=problem):
        Evaluation.from_table({"threats": threats})


@pytest.mark.parametrize(
    ("attack", "radius"),
    [
        (LinfPGD(epsilon=0.1), 0.5),
        (FGSM(epsilon=0.1), 0.5),
        (LinfSquare(epsilon=0.1, queries=3), 0.5),
        (L2PGD(epsilon=0.1), 2.0),  # half of the root of 16 pixels
    ],
)
def test_a_huge_radius_fits_the_ball_of_the_attack(
    attack: Any, radius: float, data: Dataset
) -> None:
    tasks = AdversarialExamples(attack=attack, levels=(0.1,)).tasks(data)
    assert (radius, 0) in tasks
    assert len(set(tasks)) == len(tasks)
