"""Which task a network and a data set are about, settled before anything runs.

Model:  the task is what is named, else that of the data set, else the one that outputs of the first
        images and all labels ask for (`metrics.guess`). What the last operation of an integer
        network is tells whether it gives probabilities; of other models, their outputs tell.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.core.progress import SILENT, Progress
from bitproof.data.dataset import Dataset
from bitproof.metrics import Ending, Regression, Task, guess_task, read_task
from bitproof.metrics.classes import Scored
from bitproof.metrics.guess import ENOUGH
from bitproof.quant.graph import Node
from bitproof.quant.operations import MOVING_OPS

SIGMOIDS = frozenset({"sigmoid", "hardsigmoid"})
"""Functions whose values are probabilities."""
AnyTaskLike = Task | Callable[[Tensor, Tensor], Tensor] | str
"""A task, the kind of one, or a function that judges outputs by labels."""


def settle_task(
    data: Dataset,
    classifier: Callable[[Tensor], Tensor],
    task: AnyTaskLike | None = None,
    *,
    ending: Ending = "unknown",
    progress: Progress = SILENT,
) -> Dataset:
    """Return the data set with its task, and say which it is.

    Args:
        data: images with labels.
        classifier: gives outputs.
        task: None: that of the data set, or the one that outputs and labels ask for.
        ending: what the classifier does last; see `ending_of`.
        progress: who is told.

    Raises:
        DataError: outputs and labels do not fit the task, or any task; or there are no images.
        SpecError: the task has wrong parameters, or its function cannot be found by its name.

    Example:
        >>> images = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
        >>> data = Dataset.from_arrays(images, [0, 1, 1, 0])
        >>> settle_task(data, lambda x: 5 * x[:, :1] - 9).task.kind
        'binary'
    """
    given = data.task if task is None else read_task(task)
    outputs = first_outputs(data, classifier)
    found = guess_task(outputs, data.labels, given=given, ending=ending, name=data.name)
    progress.say(f"task: {found.describe(outputs)}")
    return data.with_task(found)


def first_outputs(data: Dataset, classifier: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the outputs of the first images.

    Raises:
        DataError: there is no image, or the classifier does not answer each with numbers.
    """
    if not len(data):
        raise DataError(f"{data.name}: wanted at least one image, got none")
    inputs = data.inputs(slice(0, ENOUGH))
    with torch.no_grad():
        outputs: object = classifier(inputs)
    if not isinstance(outputs, Tensor) or outputs.shape[:1] != inputs.shape[:1]:
        came = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise DataError(f"{data.name}: wanted outputs for each of {len(inputs)} images, got {came}")
    return outputs


def task_of(data: Dataset, outputs: Tensor) -> Task:
    """Return the task of a data set; where none is settled, the one that outputs ask for.

    Raises:
        DataError: they fit none, or leave open which tolerance or what outputs mean.
    """
    task = data.task
    if task is not None and not (isinstance(task, Scored) and task.probabilities is None):
        return task
    found = guess_task(outputs, data.labels, given=task, name=data.name)
    if task is None and isinstance(found, Regression):
        raise DataError(f"{data.name}: wanted task 'regression' with a tolerance, none is named")
    return found


def ending_of(nodes: Sequence[Node]) -> Ending:
    """Return what a network of these nodes does last, movements left out.

    Example:
        >>> softmax = Node("p", "softmax", ("x",), {"dim": 1})
        >>> ending_of([softmax, Node("y", "reshape", ("p",), {"shape": [3]})])
        'softmax'
    """
    by_name = {node.name: node for node in nodes}
    last = nodes[-1]
    while last.op in MOVING_OPS:
        last = by_name[last.inputs[0]]
    if last.op == "softmax":
        return "softmax"
    sigmoid = last.op == "table" and last.attrs["function"] in SIGMOIDS
    return "sigmoid" if sigmoid else "logits"
