"""Which task outputs and labels ask for, as a table."""

import pytest
import torch
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.metrics import Classification, Regression, Segmentation, Task, guess_task
from bitproof.metrics.classes import Scored

N = 40


def outputs(*shape: int) -> Tensor:
    return torch.linspace(-3, 3, N * torch.Size(shape).numel()).reshape(N, *shape)


def classes(k: int, *shape: int) -> Tensor:
    return torch.arange(N * torch.Size(shape).numel()).reshape(N, *shape) % k


TABLE = [
    (outputs(10), classes(10), "classification"),
    (outputs(2), classes(2), "classification"),
    (outputs(), classes(2), "binary"),
    (outputs(1), classes(2), "binary"),
    (outputs(1), classes(2).float(), "binary"),
    (outputs(4), classes(2, 4), "multi_label"),
    (outputs(1), classes(2, 1), "multi_label"),
    (outputs(4), classes(2, 4).float(), "multi_label"),
    (outputs(), outputs() + 1, "regression"),
    (outputs(1), outputs() + 1, "regression"),
    (outputs(3), outputs(3) + 1, "regression"),
    (outputs(3, 4, 4), classes(3, 4, 4), "segmentation"),
    (outputs(1, 4, 4), classes(2, 4, 4), "segmentation"),
    (outputs(4, 4), classes(2, 4, 4), "segmentation"),
    (outputs(6, 3), classes(3, 6), "sequence"),
    (outputs(6, 3), classes(2, 6), "sequence"),
]


@pytest.mark.parametrize(("given", "labels", "kind"), TABLE)
def test_task_is_told_by_shapes_and_labels(given: Tensor, labels: Tensor, kind: str) -> None:
    found = guess_task(given, labels)
    assert found.kind == kind
    assert not getattr(found, "probabilities", False)
    assert found.describe(given).startswith(kind)


def test_tolerance_is_a_tenth_of_the_spread_of_all_labels() -> None:
    labels = torch.linspace(0, 100, 1000)
    found = guess_task(outputs(1), labels)
    assert isinstance(found, Regression)
    assert found.tolerance == pytest.approx(0.1 * float(labels.std()), rel=0.05)


@pytest.mark.parametrize(
    ("given", "labels", "message"),
    [
        (outputs(3), classes(4), "wants labels from 0 to 2, as there are outputs, got 0 to 3"),
        (outputs(3, 4, 4), classes(4, 4, 4), "wants labels from 0 to 2"),
        (outputs(1), classes(3), "task 'binary' wants labels 0 and 1, got 2"),
        (outputs(3), classes(3, 3), "got outputs of shape .n, 3. and int64 labels of shape .n, 3."),
        (outputs(3), outputs(2), "got outputs of shape .n, 3. and float32 labels of shape .n, 2."),
        (outputs(3, 4, 4), classes(3, 5, 5), "task 'segmentation' wants outputs"),
        (outputs(5, 3), classes(3, 6), "task 'sequence' wants outputs"),
        (outputs(3, 4, 4), classes(3), "wanted outputs and labels of a task"),
        (outputs(1), torch.full((N,), 0.5), "wanted labels that differ"),
        (outputs(3, 4, 4), torch.full((N, 4, 4), -100), "all are -100"),
    ],
)
def test_what_fits_no_task_is_an_error_of_one_line(
    given: Tensor, labels: Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=rf"^toy: .*{message}") as caught:
        guess_task(given, labels, name="toy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "given", "labels"),
    [
        (Classification(), outputs(1), classes(2)),
        (Classification(), outputs(3), outputs()),
        (Regression(tolerance=1.0), outputs(3), outputs()),
        (Regression(tolerance=1.0), outputs(1), classes(5)),
        (Segmentation(), outputs(3), classes(3)),
    ],
)
def test_a_task_that_is_named_must_fit(task: Task, given: Tensor, labels: Tensor) -> None:
    with pytest.raises(DataError, match=f"toy: task '{task.kind}' wants"):
        guess_task(given, labels, given=task, name="toy")


def test_outputs_that_add_up_to_1_are_probabilities() -> None:
    found = guess_task(outputs(5).softmax(1), classes(5))
    assert found == Classification(probabilities=True)
    assert guess_task(outputs(5).sigmoid(), classes(5)) == Classification(probabilities=False)
    assert guess_task(outputs(3, 2, 2).softmax(1), classes(3, 2, 2)) == Segmentation(
        probabilities=True
    )


def test_the_end_of_a_network_says_whether_outputs_are_probabilities() -> None:
    rounded = (outputs(5).softmax(1) * 16).round() / 16
    found = guess_task(rounded, classes(5), ending="softmax")
    assert found == Classification(probabilities=True)
    found = guess_task(rounded, classes(5), ending="logits")
    assert found == Classification(probabilities=False)


@pytest.mark.parametrize("shape", [(1,), (), (1, 2, 2)])
def test_single_outputs_within_0_and_1_are_probabilities(shape: tuple[int, ...]) -> None:
    given, labels = outputs(*shape).sigmoid(), classes(2, *shape[1:])
    wanted = [
        (guess_task(given, labels), True),
        (guess_task(given[:5], labels, ending="sigmoid"), True),
        (guess_task(given[:5], labels, ending="logits"), False),
    ]
    for task, probabilities in wanted:
        assert isinstance(task, Scored)
        assert task.probabilities is probabilities
    with pytest.raises(DataError, match="say whether they are probabilities"):
        guess_task(given[:5], labels)
    with pytest.raises(DataError, match="say whether they are probabilities"):
        guess_task(given, labels, ending="logits")
