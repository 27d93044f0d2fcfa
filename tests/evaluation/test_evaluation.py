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
from bitproof.evaluation import Evaluation, FloatModel, IntegerModel, TallyStore, count
from bitproof.evaluation.evaluation import BATCH, BLOCK
from bitproof.evaluation.store import Key
from bitproof.faults import FaultModel, RandomFlips, Site, corrupt
from bitproof.metrics import Tally

SMALL = Evaluation(
    bers=(1e-3, 1e-2, 1e-1),
    chips=3,
    fault_images=40,
    attack=LinfPGD(epsilon=0.1, steps=2),
    epsilons=(0.05, 0.1),
    attack_images=120,
    square_queries=4,
)


class Interruption(Exception):  # noqa: N818 (what happens, not what is wrong)
    """Stands for Ctrl-C."""


class Fragile(TallyStore):
    """Breaks off before the measurement with a given number."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self.lives = lives

    def add(self, key: Key, tally: Tally) -> None:
        if self.lives == 0:
            raise Interruption
        self.lives -= 1
        super().add(key, tally)


def tallies(evaluation: Evaluation, store: TallyStore, data: Dataset) -> dict[Key, Tally | None]:
    return {key: store.get(key) for key in evaluation.keys("v", data)}


@pytest.fixture(scope="module")
def whole(integers: IntegerModel, data: Dataset) -> dict[Key, Tally | None]:
    store = TallyStore()
    SMALL.measure("v", integers, data, store=store)
    return tallies(SMALL, store, data)


def test_everything_that_was_asked_for_is_measured(whole: dict[Key, Tally | None]) -> None:
    cells: dict[tuple[str, float], list[int]] = {}
    for (_, threat, level, _), tally in whole.items():
        assert tally is not None
        cells.setdefault((threat, level), []).append(tally.total)
    assert cells == {
        ("none", 0.0): [250],
        **{("random_flips", ber): [40] * 3 for ber in SMALL.bers},
        **{("linf_pgd", epsilon): [100, 20] for epsilon in SMALL.epsilons},
        ("linf_pgd", 0.5): [100],
        **{("linf_square", epsilon): [100] for epsilon in SMALL.epsilons},
    }


@pytest.mark.parametrize("lives", [0, 1, 5, 11, 14])
def test_an_interruption_changes_nothing(
    lives: int, whole: dict[Key, Tally | None], integers: IntegerModel, data: Dataset
) -> None:
    store = Fragile(lives)
    with pytest.raises(Interruption):
        SMALL.measure("v", integers, data, store=store)
    store.lives = len(whole)
    SMALL.measure("v", integers, data, store=store)
    assert store.lives == lives
    assert tallies(SMALL, store, data) == whole


def test_order_does_not_matter(
    whole: dict[Key, Tally | None], integers: IntegerModel, data: Dataset
) -> None:
    backwards = {key: SMALL._measure(key, integers, data) for key in reversed(list(whole))}
    assert backwards == whole


def test_a_cell_does_not_depend_on_the_others(
    whole: dict[Key, Tally | None], integers: IntegerModel, data: Dataset
) -> None:
    fewer = SMALL.model_copy(update={"bers": (1e-2,), "chips": 2, "epsilons": (0.1,)})
    store = TallyStore()
    fewer.measure("v", integers, data, store=store)
    for key, tally in tallies(fewer, store, data).items():
        assert tally == whole[key]


class Recorder:
    """A model that only writes down which chips it was put on."""

    def __init__(self) -> None:
        self.chips: list[tuple[FaultModel, Tensor]] = []

    def predict(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :3]

    differentiable = predict

    def broken(
        self, fault: FaultModel, *, sites: Sequence[Site], generator: torch.Generator
    ) -> Any:
        assert tuple(sites) == ("weight", "bias")
        self.chips.append((fault, torch.rand(3, generator=generator)))
        return self.predict


def test_all_networks_and_rates_see_the_same_chips(data: Dataset) -> None:
    evaluation = SMALL.model_copy(update={"epsilons": ()})
    seen = []
    for name in ("a", "b"):
        model = Recorder()
        evaluation.measure(name, model, data, store=TallyStore())
        seen.append(model.chips)
    draws = torch.stack([draw for _, draw in seen[0]]).view(3, 3, 3)
    assert torch.equal(draws, torch.stack([draw for _, draw in seen[1]]).view(3, 3, 3))
    assert torch.equal(draws, draws[:1].expand(3, 3, 3))
    assert len({tuple(draw.tolist()) for draw in draws[0]}) == 3
    assert [fault for fault, _ in seen[0]] == [
        RandomFlips(ber=ber) for ber in SMALL.bers for _ in range(3)
    ]


def test_a_chip_is_one_draw_of_weak_cells(
    whole: dict[Key, Tally | None], integers: IntegerModel, data: Dataset
) -> None:
    for chip in range(3):
        broken = corrupt(
            integers.network, RandomFlips(ber=1e-2), generator=make_generator(0, "chip", chip)
        )
        right = int((broken(data.inputs(slice(40))).argmax(1) == data.labels[:40]).sum())
        assert whole["v", "random_flips", 1e-2, chip] == Tally(right, 40)


def test_seed_decides_the_chips(
    whole: dict[Key, Tally | None], integers: IntegerModel, data: Dataset
) -> None:
    other = SMALL.model_copy(update={"seed": 1, "epsilons": (), "bers": (1e-1,)})
    store = TallyStore()
    other.measure("v", integers, data, store=store)
    keys = [("v", "random_flips", 1e-1, chip) for chip in range(3)]
    assert [store.get(key) for key in keys] != [whole[key] for key in keys]


@pytest.mark.parametrize("name", ["floats", "integers"])
def test_activations_can_break(name: str, data: Dataset, request: pytest.FixtureRequest) -> None:
    model: FloatModel | IntegerModel = request.getfixturevalue(name)
    evaluation = SMALL.model_copy(
        update={"bers": (1e-1,), "epsilons": (), "sites": ("activation",), "chips": 1}
    )
    store = TallyStore()
    evaluation.measure("v", model, data, store=store)
    struck = store.of("v", "random_flips", 1e-1)[0]
    clean = count(model.predict, data.first(40))
    assert (struck.correct < clean.correct) == (name == "integers")


def test_attacks_lower_accuracy_through_the_integers(whole: dict[Key, Tally | None]) -> None:
    def acc(threat: str, level: float) -> float:
        cell = [t for (_, name, at, _), t in whole.items() if t and (name, at) == (threat, level)]
        return sum(cell, Tally(0, 0)).acc

    curve = [acc("none", 0.0), acc("linf_pgd", 0.05), acc("linf_pgd", 0.1), acc("linf_pgd", 0.5)]
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
    evaluation = SMALL.model_copy(update={"attack_images": 10_000})
    blocks = [key for key in evaluation.keys("v", data) if key[1:3] == ("linf_pgd", 0.05)]
    assert [key[3] for key in blocks] == list(range(-(-250 // BLOCK)))


@pytest.mark.parametrize("field", ["bers", "epsilons"])
@pytest.mark.parametrize("levels", [[0.1, 0.1], [0.2, 0.1]])
def test_levels_rise(field: str, levels: list[float]) -> None:
    with pytest.raises(SpecError, match=rf"{field}: wanted rising levels, each once, got \[0"):
        Evaluation.from_table({field: levels})


@pytest.mark.parametrize(
    ("attack", "radius", "squares"),
    [
        (LinfPGD(epsilon=0.1), 0.5, True),
        (FGSM(epsilon=0.1), 0.5, True),
        (LinfSquare(epsilon=0.1, queries=3), 0.5, True),
        (L2PGD(epsilon=0.1), 2.0, False),  # half of the root of 16 pixels
    ],
)
def test_checks_fit_the_ball_of_the_attack(
    attack: Any, radius: float, squares: bool, data: Dataset
) -> None:
    evaluation = Evaluation(attack=attack, epsilons=(0.1,), square_queries=3)
    keys = evaluation.keys("v", data)
    assert ("v", attack.kind, radius, 0) in keys
    assert (("v", "linf_square", 0.1, 0) in keys) == squares
    assert len(set(keys)) == len(keys)
