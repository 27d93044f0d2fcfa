"""Batches and examples of other people's loaders as arrays: pairs, Hugging Face dicts, pictures.

Model:  a batch is a pair of inputs and labels, or a dict with one of `INPUTS` and one of `LABELS`;
        inputs are tensors, arrays, or a list of pictures (Pillow), which become RGB unless they are
        grey. An example alone (one input, one label), as a `Dataset` of torch yields it, is a batch
        of one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitproof.core.errors import DataError, near, shorten

INPUTS = ("image", "img", "images", "pixel_values", "input_ids", "input_values", "x", "inputs")
"""Names of inputs in dicts, best first."""
LABELS = ("label", "labels", "fine_label", "target", "targets", "y", "class")
"""Names of labels in dicts, best first."""


def read_batches(
    loader: Iterable[Any] | torch.utils.data.Dataset[Any], *, name: str
) -> tuple[Tensor, Tensor]:
    """Return all inputs and all labels of a loader, joined.

    Raises:
        DataError: no batch came, one is neither a pair nor such a dict, or batches do not fit each
            other.
    """
    images, labels = [], []
    alone = isinstance(loader, torch.utils.data.Dataset)
    for number, batch in enumerate(_items(loader)):
        own, classes = _pair(batch, number, name)
        inputs, targets = to_tensor(own, name), to_tensor(classes, name)
        if alone or targets.ndim == 0:
            inputs, targets = inputs[None], targets[None]
        images.append(inputs)
        labels.append(targets)
    if not images:
        raise DataError(f"{name}: wanted at least one batch, the loader is empty")
    try:
        return torch.cat(images), torch.cat(labels)
    except RuntimeError as error:
        raise DataError(f"{name}: batches do not fit each other ({error})") from None


def to_tensor(values: object, name: str) -> Tensor:
    """Return a tensor as it is, anything else as a copy that nobody else can change.

    Raises:
        DataError: they are no numbers and no pictures, or of several shapes.
    """
    if isinstance(values, Tensor):
        return values.detach()
    if _is_picture(values):
        return _picture(values)
    if isinstance(values, Sequence) and len(values) and _is_picture(values[0]):
        pictures = [_picture(value) if _is_picture(value) else None for value in values]
        shapes = {tuple(one.shape) for one in pictures if one is not None}
        if any(one is None for one in pictures) or len(shapes) > 1:
            sizes = ", ".join(f"{shape[2]} x {shape[1]}" for shape in sorted(shapes)[:3])
            raise DataError(f"{name}: wanted pictures of one size and mode, got {sizes}; resize")
        return torch.stack([one for one in pictures if one is not None])
    if isinstance(values, Sequence) and len(values) and isinstance(values[0], Tensor):
        try:
            return torch.stack([value.detach() for value in values])
        except (RuntimeError, TypeError, AttributeError) as error:
            raise DataError(f"{name}: wanted inputs of one shape ({error})") from None
    try:
        return torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: cannot be read as numbers ({error})") from None


def _items(loader: Iterable[Any] | torch.utils.data.Dataset[Any]) -> Iterator[Any]:
    """Yield the batches of a loader, or the examples of a set that knows only numbers."""
    if isinstance(loader, torch.utils.data.Dataset) and not isinstance(
        loader, torch.utils.data.IterableDataset
    ):
        # Not `iter`: it goes on until an IndexError, which many sets never raise.
        length = len(loader)  # type: ignore[arg-type]
        return (loader[number] for number in range(length))
    return iter(loader)


def _pair(batch: Any, number: int, name: str) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        return _of_dict(batch, number, name)
    if not isinstance(batch, Sequence) or isinstance(batch, str) or len(batch) != 2:
        raise DataError(
            f"{name}: wanted batches of (images, labels), "
            f"got {type(batch).__name__} as batch {number}"
        )
    return batch[0], batch[1]


def _of_dict(batch: Mapping[str, Any], number: int, name: str) -> tuple[Any, Any]:
    found = []
    for what, names in (("inputs", INPUTS), ("labels", LABELS)):
        known = [each for each in names if each in batch]
        if not known:
            keys = ", ".join(map(str, batch)) or "none"
            raise DataError(
                f"{name}: wanted {what} under one of {', '.join(names)}, batch {number} has the "
                f"keys {shorten(keys)}. {near(keys.split(', ')[0], names)}"
            )
        found.append(batch[known[0]])
    return found[0], found[1]


def _is_picture(value: object) -> bool:
    """Tell whether something is a picture of Pillow's, without importing it."""
    return any(kind.__module__ == "PIL.Image" for kind in type(value).__mro__)


def _picture(value: Any) -> Tensor:
    """Return a picture as pixels, (c, h, w): grey ones have one channel, all others three."""
    grey = value.mode in {"L", "1", "LA"}
    pixels = np.array(value.convert("L" if grey else "RGB"))
    return torch.from_numpy(pixels[None] if grey else pixels.transpose(2, 0, 1).copy())
