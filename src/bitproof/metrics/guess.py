"""Which task outputs and labels ask for, told by their shapes and by what the labels are.

Model:  integer labels (n) with outputs (n, k), k from 2: `classification`; labels 0/1 (n) with one
        output: `binary`; labels 0/1 of the outputs' shape (n, k): `multi_label`; integer labels (n,
        h, w) with outputs (n, k, h, w) or (n, h, w), or (n, d, h, w) with (n, k, d, h, w):
        `segmentation`; integer labels (n, t) with outputs (n, t, k): `sequence`; other float
        labels, as many as outputs: `regression`, right within a tenth of the labels' standard
        deviation. Float labels that are all 0 or 1 are read as integers. Outputs are probabilities
        where the network is known to end in a softmax or a sigmoid; where its end is not known,
        where they add up to 1, or, of outputs on their own, where enough of them all lie in [0, 1].
"""

from typing import Literal

from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.metrics.classes import Binary, Classification, MultiLabel, Scored
from bitproof.metrics.dense import Dense, Segmentation, Sequence
from bitproof.metrics.regression import Regression
from bitproof.metrics.task import AllLabels, Outputs, Task, shapes

Ending = Literal["softmax", "sigmoid", "logits", "unknown"]
"""What a network does last."""
ENOUGH = 32
"""Images whose outputs tell by their range whether they are probabilities."""
SUM_TOLERANCE = 1e-3
"""How far probabilities of float networks may be from adding up to 1."""


def guess_task(
    outputs: Outputs,
    labels: AllLabels,
    *,
    given: Task | None = None,
    ending: Ending = "unknown",
    name: str = "labels",
) -> Task:
    """Return the task that outputs of the first images and all labels ask for.

    Args:
        outputs: of the first images.
        labels: all of them.
        given: a task that is known; what it leaves open is filled in.
        ending: what the network does last.
        name: what the data set is called.

    Raises:
        DataError: they do not fit the task, or any; or leave open what outputs mean; one line.

    Example:
        >>> import torch
        >>> guess_task(torch.randn(8, 10), torch.arange(8), name="toy").kind
        'classification'
        >>> guess_task(torch.randn(8, 1) + 3, torch.arange(8) % 2).kind
        'binary'
    """
    outputs = outputs.detach()
    task = given or _by_shape(outputs, labels, name)
    task.check(outputs, labels, name=name)
    if isinstance(task, Scored) and task.probabilities is None:
        found = _probabilities(task, outputs, ending, name)
        return task.model_copy(update={"probabilities": found})
    return task


def _by_shape(outputs: Tensor, labels: Tensor, name: str) -> Task:
    one = outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)
    zero_one = bool(((labels == 0) | (labels == 1)).all())
    if labels.is_floating_point() and not zero_one:
        if outputs[:1].numel() == labels[:1].numel():
            return _regression(labels, name)
    elif labels.ndim == 1 and (one or outputs.ndim == 2):
        return Binary() if one else Classification()
    elif labels.ndim == 2 and zero_one and outputs.shape[1:] == labels.shape[1:]:
        return MultiLabel()
    elif labels.ndim == 2 and outputs.ndim == 3:
        return Sequence()
    elif labels.ndim in {3, 4}:
        return Segmentation()
    raise DataError(f"{name}: wanted outputs and labels of a task, got {shapes(outputs, labels)}")


def _regression(labels: Tensor, name: str) -> Regression:
    found = Regression.of_labels(labels)
    if found is None:
        raise DataError(f"{name}: wanted labels that differ, or task 'regression' with a tolerance")
    return found


def _probabilities(task: Scored, outputs: Tensor, ending: Ending, name: str) -> bool:
    """Tell whether outputs are probabilities."""
    low, high = (float(end) for end in outputs.aminmax())
    inside = low >= 0 and high <= 1
    if not (isinstance(task, Binary | MultiLabel) or _one_class(task, outputs)):
        if ending != "unknown":
            return ending == "softmax"
        classes = task.split(outputs) if isinstance(task, Dense) else outputs
        return inside and bool(((classes.sum(1) - 1).abs() < SUM_TOLERANCE).all())
    if ending == "sigmoid" or not inside:
        return ending == "sigmoid"
    enough = len(outputs) >= ENOUGH
    if ending == "unknown" and enough:
        return True
    if ending == "unknown" or enough:
        raise DataError(
            f"{name}: outputs lie in [0, 1]; say whether they are probabilities, "
            f"such as task = {{ kind = '{task.kind}', probabilities = true }}"
        )
    return False


def _one_class(task: Task, outputs: Tensor) -> bool:
    return isinstance(task, Dense) and task.split(outputs).shape[1] == 1
