"""Whether images and labels fit a network, found out on one image before work starts."""

from jaxtyping import Num
from torch import Tensor

from bitproof.core.errors import BitproofError, DataError, InputShapeError
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel


def check_data(name: str, model: EvaluatedModel, data: Dataset, *, labels: bool = True) -> None:
    """Check that `model`, called `name`, takes the images of `data`, and that `labels` are classes.

    Raises:
        DataError: there are no images, or labels lie beyond the outputs.
        InputShapeError: the model does not run on images of that shape.

    Example:
        >>> import torch
        >>> from bitproof.evaluation import FloatModel
        >>> data = Dataset.from_arrays(torch.zeros(3, 1, 2, 2), [0, 4, 1])
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> check_data("mine", FloatModel(model), data)
        Traceback (most recent call last):
        bitproof.core.errors.DataError: mine: wanted labels of user from 0 to 1, ... got up to 4
    """
    if not len(data):
        raise DataError(f"{data.name}: wanted at least one image, got none")
    image = data.inputs(slice(0, 1))
    try:
        outputs = model.predict(image)
    except BitproofError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputShapeError(
            f"{name}: does not run on an image of {data.name}, of shape {tuple(image.shape)} "
            f"({reason})"
        ) from error
    if labels:
        _check_labels(name, outputs, data)


def _check_labels(name: str, outputs: Num[Tensor, "n *outputs"], data: Dataset) -> None:
    """Check labels against outputs of shape `n k`; others are no scores of classes."""
    labels = data.labels
    if outputs.ndim != 2 or outputs.shape[1] == 1 or labels.ndim != 1 or labels.is_floating_point():
        return
    classes, last = outputs.shape[1], int(labels.max())
    if last >= classes:
        raise DataError(
            f"{name}: wanted labels of {data.name} from 0 to {classes - 1}, one for each of "
            f"{classes} outputs, got up to {last}"
        )
