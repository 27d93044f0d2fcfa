"""Every task against loops over single images and parts, written from the definitions alone."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitproof.core.errors import DataError, SpecError
from bitproof.core.rng import make_generator
from bitproof.metrics import (
    OUTCOMES,
    TASKS,
    Binary,
    Classification,
    MultiLabel,
    Own,
    Regression,
    Segmentation,
    Sequence,
    Tally,
    Task,
    outcomes,
    read_task,
    tally,
)

SEEDS = st.integers(0, 2**31)
IGNORED = -100


def second_is_larger(outputs: Tensor, labels: Tensor) -> Tensor:
    """Judge as a user might."""
    return (outputs[:, 1] > outputs[:, 0]) == labels.bool()


def drawn(task: Task, seed: int, n: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, fault-free outputs that are near them, and labels."""
    generator = make_generator(seed, task.kind)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    def numbers(*shape: int) -> Tensor:
        found = torch.randn(*shape, generator=generator)
        sure = isinstance(task, Regression | Own) or not getattr(task, "probabilities", None)
        return found if sure else found.sigmoid()

    shape, labels = {
        "classification": ((n, 7), integers(7, n)),
        "binary": ((n, 1), integers(2, n)),
        "multi_label": ((n, 6), integers(2, n, 6)),
        "regression": ((n, 2), torch.randn(n, 2, generator=generator)),
        "segmentation": ((n, 3, 4, 5), integers(3, n, 4, 5)),
        "sequence": ((n, 6, 4), integers(4, n, 6)),
        "own": ((n, 2), integers(2, n)),
    }[task.kind]
    if task.kind in {"segmentation", "sequence"}:
        labels[torch.rand(labels.shape, generator=generator) < 0.2] = IGNORED
        labels[0] = IGNORED
    golden = numbers(*shape)
    moved = torch.rand(shape, generator=generator) < 0.15
    outputs = torch.where(moved, numbers(*shape), golden)
    outputs[1] = golden[1]
    outputs[2].flatten()[0] = math.nan
    return outputs, golden, labels


def answers(task: Task, outputs: Tensor) -> list[list[int]]:
    """Return the classes that each image is given, part by part; none where a number is none."""
    found = []
    bound = 0.5 if getattr(task, "probabilities", None) else 0.0
    for one in outputs:
        if not all(math.isfinite(value) for value in one.flatten().tolist()):
            found.append([-1] * one.numel())
        elif task.kind in {"binary", "multi_label"}:
            found.append([int(value > bound) for value in one.tolist()])
        elif task.kind == "sequence":
            found.append([row.index(max(row)) for row in one.tolist()])
        else:
            places = one.reshape(one.shape[0], -1).T.tolist()
            found.append([row.index(max(row)) for row in places])
    return found


def right_parts(task: Task, outputs: Tensor, labels: Tensor) -> list[list[bool]]:
    """Return for each image which of its parts, left out ones aside, are right."""
    if isinstance(task, Regression):
        return [
            [abs(x - y) <= task.tolerance for x, y in zip(a, b, strict=True)]
            for a, b in zip(outputs.tolist(), labels.tolist(), strict=True)
        ]
    if isinstance(task, Own):
        return [
            [(x[1] > x[0]) == bool(y) and not any(map(math.isnan, x))]
            for x, y in zip(outputs.tolist(), labels.tolist(), strict=True)
        ]
    wanted = [one.flatten().tolist() for one in labels]
    pairs = zip(answers(task, outputs), wanted, strict=True)
    return [[a == b for a, b in zip(one, own, strict=False) if b != IGNORED] for one, own in pairs]


def probability(task: Task, value: float) -> float:
    return value if getattr(task, "probabilities", None) else 1 / (1 + math.exp(-value))


def silent(task: Task, now: list[float], was: list[float], label: list[float]) -> set[str]:
    """Return the silent outcomes of one image whose numbers are finite."""
    tensors = [torch.tensor(each)[None] for each in (now, was)]
    if isinstance(task, Own):
        wanted = torch.tensor([label])
        one, other = (right_parts(task, each, wanted)[0] for each in tensors)
        return {"sdc1"} if one != other else set()
    if isinstance(task, Regression):
        moves = [abs(a - b) for a, b in zip(now, was, strict=True)]
        shares = [m / abs(b) if b else math.inf * bool(m) for m, b in zip(moves, was, strict=True)]
        found = {"sdc1"} if max(moves) > task.tolerance else set()
        return found | {f"sdc{p}" for p in (10, 20) if max(shares) > p / 100}
    after, before = (answers(task, each)[0] for each in tensors)
    if isinstance(task, Binary):
        a, b = (probability(task, each[0]) for each in (now, was))
        a, b = (a, b) if before[0] else (1 - a, 1 - b)
        found = {"sdc1"} if after != before else set()
        return found | {f"sdc{p}" for p in (10, 20) if abs(a - b) / b > p / 100}
    flat = torch.tensor(label).flatten().tolist()
    kept = [(x, y) for x, y, z in zip(after, before, flat, strict=True) if z != IGNORED]
    share = sum(x != y for x, y in kept) / max(len(kept), 1)
    tolerance = getattr(task, "tolerance", 0.0)
    found = {"sdc1"} if share > tolerance else set()
    return found | {f"sdc{p}" for p in (10, 20) if share > p / 100}


PLAIN: list[Task] = [
    Binary(),
    Binary(probabilities=True),
    MultiLabel(),
    MultiLabel(probabilities=True),
    Regression(tolerance=0.4),
    Segmentation(),
    Segmentation(tolerance=0.25),
    Sequence(),
]
ALL: list[Task] = [Classification(), *PLAIN]


@pytest.fixture(params=PLAIN, ids=str)
def task(request: pytest.FixtureRequest) -> Task:
    found: Task = request.param
    return found


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
@pytest.mark.parametrize("task", ALL, ids=str)
def test_right_is_what_a_loop_says(task: Task, seed: int) -> None:
    outputs, _, labels = drawn(task, seed)
    parts = right_parts(task, outputs, labels)
    right = task.right(outputs, labels).tolist()
    counted = task.tally(outputs, labels)
    if not task.parts:
        assert right == [all(one) for one in parts]
        assert (counted.correct, counted.total) == (sum(right), len(labels))
        return
    assert right == [all(one) and i != 2 for i, one in enumerate(parts)]
    assert (counted.correct, counted.total) == (
        sum(map(sum, parts)),
        sum(map(len, parts)),
    )
    assert counted.images == len(labels)
    others = dict(counted.others)
    assert others["right_right"] == sum(sum(one) ** 2 for one in parts)
    assert others["right_parts"] == sum(sum(one) * len(one) for one in parts)
    assert others["parts_parts"] == sum(len(one) ** 2 for one in parts)
    assert others["exact"] == sum(right)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
@pytest.mark.parametrize("task", PLAIN, ids=str)
def test_outcomes_are_what_a_loop_says(task: Task, seed: int) -> None:
    outputs, golden, labels = drawn(task, seed)
    found = task.judge(outputs, golden, labels)
    assert found.shape == (len(labels), len(OUTCOMES))
    for now, was, label, row in zip(outputs, golden, labels, found.tolist(), strict=True):
        names = {name for name, holds in zip(OUTCOMES, row, strict=True) if holds}
        if not now.isfinite().all():
            assert names == {"due"}
        elif torch.equal(now, was):
            assert names == {"masked"}
        else:
            assert names == silent(task, now.tolist(), was.tolist(), label.tolist())
        assert names <= set(task.outcomes)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_own_outcomes_are_what_a_loop_says(seed: int) -> None:
    task = Own.of(second_is_larger)
    outputs, golden, labels = drawn(task, seed)
    assert task.right(outputs, labels).tolist() == [
        all(one) for one in right_parts(task, outputs, labels)
    ]
    for now, was, label, row in zip(
        outputs, golden, labels, task.judge(outputs, golden, labels).tolist(), strict=True
    ):
        names = {name for name, holds in zip(OUTCOMES, row, strict=True) if holds}
        if now.isfinite().all() and not torch.equal(now, was):
            assert names == silent(task, now.tolist(), was.tolist(), label.item())


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_classification_is_as_it_was_before_there_were_tasks(seed: int) -> None:
    outputs, golden, labels = drawn(Classification(), seed)
    assert torch.equal(Classification().judge(outputs, golden, labels), outcomes(outputs, golden))
    assert Classification().tally(outputs, labels) == tally(outputs, labels)
    assert Classification().identity == Classification(probabilities=False).identity == ""


def test_probabilities_are_not_softmaxed_again() -> None:
    golden, outputs = torch.tensor([[0.8, 0.1, 0.1]]), torch.tensor([[0.7, 0.2, 0.1]])
    labels = torch.tensor([0])
    asked = dict(
        zip(
            OUTCOMES,
            Classification(probabilities=True).judge(outputs, golden, labels)[0].tolist(),
            strict=True,
        )
    )
    assert (asked["sdc10"], asked["sdc20"]) == (1, 0)
    plain = dict(
        zip(OUTCOMES, Classification().judge(outputs, golden, labels)[0].tolist(), strict=True)
    )
    assert plain["sdc10"] == 0


def entropy(logits: list[float], label: int) -> float:
    highest = max(logits)
    return highest - logits[label] + math.log(sum(math.exp(each - highest) for each in logits))


def loss_of(task: Task, now: Tensor, label: Any) -> float:
    """Return the loss of one image."""
    if isinstance(task, Regression):
        squares = [(a - b) ** 2 for a, b in zip(now.tolist(), label, strict=True)]
        return float(sum(squares)) / len(squares)
    if isinstance(task, Binary | MultiLabel):
        wanted = [label] if isinstance(task, Binary) else label
        each = [probability(task, value) for value in now.tolist()]
        logs = [-math.log(p if y else 1 - p) for p, y in zip(each, wanted, strict=True)]
        return sum(logs) / len(logs)
    if isinstance(task, Classification):
        return entropy(now.tolist(), label)
    places = now.tolist() if isinstance(task, Sequence) else now.flatten(1).T.tolist()
    flat = torch.tensor(label).flatten().tolist()
    each = [entropy(row, y) for row, y in zip(places, flat, strict=True) if y != IGNORED]
    return sum(each) / len(each) if each else 0.0


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
@pytest.mark.parametrize("task", ALL, ids=str)
def test_loss_is_the_sum_of_a_loop_over_images(task: Task, seed: int) -> None:
    _, golden, labels = drawn(task, seed)
    wanted = sum(
        loss_of(task, now, label) for now, label in zip(golden, labels.tolist(), strict=True)
    )
    assert float(task.loss(golden, labels)) == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("task", [*ALL, Classification(probabilities=True)], ids=str)
def test_images_do_not_share_a_loss(task: Task) -> None:
    _, golden, labels = drawn(task, 3)
    gradients = []
    for chosen in (slice(0, 7), slice(3, 4)):
        points = golden[chosen].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(task.loss(points, labels[chosen]), points)
        gradients.append(gradient)
    assert torch.allclose(gradients[0][3:4], gradients[1])


@pytest.mark.parametrize("task", [each for each in ALL if not each.parts], ids=str)
def test_margin_is_positive_where_the_answer_is_right(task: Task) -> None:
    _, golden, labels = drawn(task, 5)
    assert ((task.margin(golden, labels) > 0) == task.right(golden, labels)).all()


def test_miou_is_that_of_a_loop_over_classes() -> None:
    task = Segmentation()
    outputs, _, labels = drawn(task, 11)
    flat = [one.flatten().tolist() for one in labels]
    pairs = [
        (a, b)
        for one, own in zip(answers(task, outputs), flat, strict=True)
        for a, b in zip(one, own, strict=False)
        if b != IGNORED
    ]
    shares = []
    for k in range(3):
        union = sum(k in {a, b} for a, b in pairs)
        shares.append(sum(a == b == k for a, b in pairs) / union)
    whole = task.tally(outputs, labels)
    assert whole.metrics["miou"] == pytest.approx(sum(shares) / 3)
    parts = task.tally(outputs[:3], labels[:3]) + task.tally(outputs[3:], labels[3:])
    assert parts == whole


def test_classes_that_do_not_occur_have_no_share_in_miou() -> None:
    outputs = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[-1.0, -1.0]]]])
    assert Segmentation().tally(outputs, torch.tensor([[[0, 1]]])).metrics["miou"] == 1.0


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (2, 2, 2)])
def test_one_output_a_pixel_is_read_by_its_sign(shape: tuple[int, ...]) -> None:
    outputs = torch.tensor([[1.0, -1, -1, 1], [1, 1, 1, 1]]).reshape(shape)
    labels = torch.tensor([[[1, 0], [1, 1]], [[0, IGNORED], [1, 1]]])
    counted = Segmentation().tally(outputs, labels)
    assert (counted.correct, counted.total) == (5, 7)
    assert Segmentation().loss(outputs, labels).isfinite()


def test_mean_absolute_error_is_told_where_all_answers_are_numbers() -> None:
    task, labels = Regression(tolerance=1.0), torch.tensor([[1.0], [2.0]])
    assert task.tally(torch.tensor([[1.5], [4.0]]), labels).metrics == {"mae": 1.25}
    assert task.tally(torch.tensor([[1.5], [math.inf]]), labels).metrics == {}
    assert task.tally(torch.tensor([[1.5], [math.inf]]), labels).acc == 0.5


def test_label_accuracy_counts_single_labels() -> None:
    outputs, labels = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1, 0], [1, 0]])
    counted = MultiLabel().tally(outputs, labels)
    assert (counted.acc, counted.metrics) == (0.5, {"label_acc": 0.75})


def test_sums_of_tallies_keep_what_both_counted() -> None:
    one = Tally(1, 2, (("images", 1), ("odd", 2)))
    assert (one + Tally(1, 2, (("images", 3),))).others == (("images", 4),)


def test_tasks_are_tables_and_kinds() -> None:
    assert read_task("binary") == Binary()
    assert TASKS.build({"kind": "regression", "tolerance": 2.0}) == Regression(tolerance=2.0)
    with pytest.raises(SpecError, match=r"regression.tolerance: wanted a value"):
        read_task("regression")
    own = read_task(second_is_larger)
    assert TASKS.build(own.model_dump(mode="json")) == own


def test_a_function_without_a_name_to_find_it_by_is_refused() -> None:
    with pytest.raises(SpecError, match="wanted a function that its module has under its name"):
        read_task(lambda outputs, labels: outputs[:, 0] > labels)
    with pytest.raises(SpecError, match=r"own.function: wanted 'package.module:name'"):
        TASKS.build({"kind": "own", "function": "torch:no_such"})


def wrong_shape(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs > 0


def test_a_function_must_give_one_bool_an_image() -> None:
    with pytest.raises(
        DataError, match=r"toy: task 'own' wants 3 bools .*, got torch.bool \(3, 2\)"
    ):
        Own.of(wrong_shape).check(torch.zeros(3, 2), torch.zeros(3), name="toy")


def test_voxels_are_judged_as_pixels_are() -> None:
    generator = torch.Generator().manual_seed(0)
    volumes = torch.randn(5, 3, 2, 4, 6, generator=generator)
    labels = torch.randint(3, (5, 2, 4, 6), generator=generator)
    flat = volumes.reshape(5, 3, 8, 6), labels.reshape(5, 8, 6)
    task = Segmentation()
    assert task.fits(volumes, labels)
    assert not task.fits(volumes[:, 0], labels)
    assert task.tally(volumes, labels) == task.tally(*flat)
    assert task.describe(volumes).startswith("segmentation (3 classes, 2 x 4 x 6 pixels")


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
@pytest.mark.parametrize(
    "task", [Classification(), MultiLabel(), Segmentation()], ids=lambda one: one.kind
)
def test_which_answers_are_right_is_kept_where_they_have_no_parts(task: Task, seed: int) -> None:
    outputs, _, labels = drawn(task, seed)
    found = task.tally_each(outputs, labels)
    assert found == task.tally(outputs, labels)
    assert task.tally(outputs, labels).right is None
    parts = task.tally_each(outputs[:3], labels[:3]) + task.tally_each(outputs[3:], labels[3:])
    assert parts.right == found.right
    if task.parts:
        assert found.right is None
    else:
        assert list(found.right or b"") == task.right(outputs, labels).int().tolist()
