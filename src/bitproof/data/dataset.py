"""Labelled images, or other inputs, in memory; and the three parts of a data set.

Model:  inputs are images, or any other features, signals and volumes, of rank 2 or more; or token
        numbers. Here and elsewhere, "images" stands for all of them. Labels are what the task of
        the set takes: classes, 0/1 for each of several, classes of pixels or places, numbers.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

from bitproof.core.errors import DataError, InputRangeError, shorten
from bitproof.core.shown import as_html, as_lines
from bitproof.data.axes import check_channels_first
from bitproof.data.loading import read_batches, to_tensor
from bitproof.metrics.dense import IGNORED, Dense
from bitproof.metrics.task import Task

Images = UInt8[Tensor, "n *features"] | Float32[Tensor, "n *features"] | Int64[Tensor, "n t"]
"""Pixels 0..255 as uint8 (the normal case), values in [0, 1] as float32, or token numbers."""
Labels = Int64[Tensor, "n *label"] | Float32[Tensor, "n *label"]
"""Classes or 0/1 as int64, numbers as float32."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their labels, checked once, when they are put together.

    Example:
        >>> import numpy as np
        >>> data = Dataset.from_arrays(np.full((3, 1, 2, 2), 51, np.uint8), [0, 1, 0])
        >>> len(data), data.n_classes, data.inputs(slice(1)).flatten().tolist()
        (3, 2, [0.20000000298023224, 0.20000000298023224, 0.20000000298023224, 0.20000000298023224])

    Raises:
        DataError: wrong dtype or shape, a label outside 0 .. n_classes - 1, a token below 0.
        InputRangeError: float images outside [0, 1], or not a number.
    """

    name: str
    """What the set calls itself in results, for example `cifar10-mini`."""
    images: Images
    labels: Labels
    n_classes: int
    """Classes; of numbers, how many there are for an image."""
    task: Task | None = None
    """How answers are judged; None: as outputs and labels ask for."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of their numbers; none where they are not known."""

    def __post_init__(self) -> None:
        _check_form(self.name, self.images, self.labels)
        if self.class_names and len(self.class_names) != self.n_classes:
            raise DataError(
                f"{self.name}: wanted {self.n_classes} names of classes, "
                f"got {len(self.class_names)}"
            )
        if not len(self):
            return
        self._check_labels()
        if self.is_tokens and int(self.images.min()) < 0:
            raise DataError(
                f"{self.name}: wanted token numbers from 0, got {int(self.images.min())}"
            )
        if self.images.is_floating_point():
            low, high = (float(end) for end in self.images.aminmax())
            if not (low >= 0.0 and high <= 1.0):  # also where they are not numbers
                raise InputRangeError(
                    f"{self.name}: wanted pixels in [0, 1], got {low:g} to {high:g}; "
                    f"{_cure_of_range(low, high)}"
                )

    def _check_labels(self) -> None:
        if self.labels.is_floating_point():
            if not bool(self.labels.isfinite().all()):
                raise DataError(f"{self.name}: wanted finite labels, got others")
            return
        kept = self.labels
        if self.labels.ndim > 1:
            ignored = self.task.ignore if isinstance(self.task, Dense) else IGNORED
            kept = kept[kept != ignored]
        if not kept.numel():
            return
        least, most = (int(end) for end in kept.aminmax())
        if least < 0 or most >= self.n_classes:
            raise DataError(
                f"{self.name}: wanted labels from 0 to {self.n_classes - 1}, got {least} to {most}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return as_lines(f"Dataset {self.name}: {len(self):,} inputs", self._facts())

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(f"Dataset {self.name}: {len(self):,} inputs", self._facts())

    def _facts(self) -> dict[str, str]:
        shape, kind = tuple(self.images.shape[1:]), str(self.images.dtype).removeprefix("torch.")
        label, sort = tuple(self.labels.shape[1:]), str(self.labels.dtype).removeprefix("torch.")
        count = "numbers" if self.labels.is_floating_point() else "classes"
        return {
            "inputs": f"{kind} of shape {shape}, on {self.images.device}",
            "labels": f"{sort}{f' of shape {label}' if label else ''}, {self.n_classes} {count}",
            "task": "as outputs and labels ask for" if self.task is None else repr(self.task),
        }

    @property
    def is_tokens(self) -> bool:
        """Whether inputs are token numbers."""
        return self.images.dtype == torch.int64

    @property
    def is_images(self) -> bool:
        """Whether inputs are images of shape (n, c, h, w)."""
        return self.images.ndim == 4

    def with_task(self, task: Task | None) -> "Dataset":
        """Return the set with another task."""
        return replace(self, task=task)

    def with_names(self, names: Sequence[str]) -> "Dataset":
        """Return the set with names of its classes, in the order of their numbers.

        Raises:
            DataError: there is not one for each class.
        """
        return replace(self, class_names=tuple(names))

    @classmethod
    def from_arrays(
        cls,
        images: object,
        labels: object,
        *,
        name: str = "user",
        n_classes: int | None = None,
        task: Task | None = None,
        layout: Literal["auto", "channels_first"] = "auto",
    ) -> "Dataset":
        """Build from tensors, numpy arrays or nested lists, whatever their float or int width.

        Images are uint8 pixels, or floats in [0, 1], of any shape `(n, ...)`; other integers of
        shape `(n, t)` are token numbers. Without `n_classes`, it is the largest label plus one.
        `auto` refuses what looks like channels last; `channels_first` is believed.

        Raises:
            DataError: they are no numbers, or images have their channels last: (n, h, w, c).
            InputRangeError: float images outside [0, 1], or not a number.
        """
        pixels, classes = to_tensor(images, name), to_tensor(labels, name)
        if layout == "auto":
            check_channels_first(tuple(pixels.shape), where=name, cure=_cure_of_axes(pixels))
        if pixels.is_floating_point():
            pixels = pixels.to(torch.float32)
        elif pixels.ndim == 2 and pixels.dtype in {torch.int16, torch.int32}:
            pixels = pixels.to(torch.int64)
        if classes.is_floating_point():
            classes = classes.to(torch.float32)
        elif not (classes.is_complex() or classes.dtype == torch.bool):
            classes = classes.to(torch.int64)
        _check_form(name, pixels, classes)
        if n_classes is None:
            n_classes = count_classes(classes)
        return cls(name=name, images=pixels, labels=classes, n_classes=n_classes, task=task)

    @classmethod
    def from_loader(
        cls,
        loader: Iterable[Any] | torch.utils.data.Dataset[Any],
        *,
        name: str = "user",
        n_classes: int | None = None,
        task: Task | None = None,
        layout: Literal["auto", "channels_first"] = "auto",
    ) -> "Dataset":
        """Join the batches of a loader, such as a torch `DataLoader`, as `from_arrays` would.

        A batch is a pair of images and their labels, or a dict of them as Hugging Face loaders
        yield it (`image`, `img`, `pixel_values`, `input_ids`; `label`, `labels`); images may be
        pictures of Pillow's. A `Dataset` of torch, whose items are single examples, will do too.

        Raises:
            DataError: no batch came, a batch is neither, batches do not fit each other, or images
                have their channels last.
            InputRangeError: float images outside [0, 1], or not a number.

        Example:
            >>> import numpy as np
            >>> batch = {"image": np.zeros((2, 3, 8, 8), np.uint8), "label": [0, 1]}
            >>> len(Dataset.from_loader([batch, batch]))
            4
        """
        images, labels = read_batches(loader, name=name)
        return cls.from_arrays(
            images, labels, name=name, n_classes=n_classes, task=task, layout=layout
        )

    def first(self, n: int) -> "Dataset":
        """Return the first `n` images.

        Raises:
            DataError: the set holds fewer.
        """
        if not 0 <= n <= len(self):
            raise DataError(f"{self.name}: wanted the first {n} images, the set holds {len(self)}")
        return replace(self, images=self.images[:n], labels=self.labels[:n])

    def blocks(self, size: int) -> Iterator["Dataset"]:
        """Yield consecutive blocks of `size` images, as views; the last block may be smaller.

        Example:
            >>> import numpy as np
            >>> data = Dataset.from_arrays(np.zeros((5, 1, 2, 2), np.uint8), [0, 1, 2, 3, 4])
            >>> [block.labels.tolist() for block in data.blocks(2)]
            [[0, 1], [2, 3], [4]]
        """
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield replace(self, images=self.images[part], labels=self.labels[part])

    def subset(self, indices: Int64[Tensor, " m"] | Sequence[int]) -> "Dataset":
        """Return the images at `indices`, in that order.

        Raises:
            DataError: an index is negative, or not below the length.
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64, device=self.labels.device)
        if chosen.numel() and not (int(chosen.min()) >= 0 and int(chosen.max()) < len(self)):
            raise DataError(
                f"{self.name}: wanted indices from 0 to {len(self) - 1}, "
                f"got {int(chosen.min())} to {int(chosen.max())}"
            )
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the set on `device`; the same object where it is there already."""
        if self.images.device == self.labels.device == torch.device(device):
            return self
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def inputs(self, index: slice | Tensor | None = None) -> Shaped[Tensor, "n *features"]:
        """Return images as float32 in [0, 1], tokens as they are: all, or those `index` picks."""
        images = self.images if index is None else self.images[index]
        return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images

    def digest(self) -> str:
        """Return the SHA-256 of dtype, shape, pixels, labels and task, whatever device and name."""
        state = hashlib.sha256(f"{self.images.dtype}{tuple(self.images.shape)}".encode())
        for tensor in (self.images, self.labels):
            state.update(tensor.cpu().contiguous().numpy().data)
        if self.labels.ndim > 1 or self.labels.is_floating_point():
            state.update(f"{self.labels.dtype}{tuple(self.labels.shape)}".encode())
        if self.task is not None:
            state.update(self.task.identity.encode())
        return state.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """The three parts of a data set; validation may be empty."""

    train: Dataset
    validation: Dataset
    test: Dataset
    notes: tuple[str, ...] = ()
    """What was decided while they were read, one sentence each, for console and report.

    Raises:
        DataError: two parts name their classes differently.
    """

    def __post_init__(self) -> None:
        check_same_names(self._parts())

    def __repr__(self) -> str:
        sizes = {name: f"{len(part):,} inputs" for name, part in self._parts().items()}
        return as_lines(f"Splits of {self.train.name}", sizes | self.train._facts() | self._told())

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a row for each part."""
        facts = {name: part._facts() for name, part in self._parts().items()}
        header = ("part", "name", "size", *facts["train"])
        rows = [
            [name, part.name, f"{len(part):,}", *facts[name].values()]
            for name, part in self._parts().items()
        ]
        return as_html(f"Splits of {self.train.name}", self._told(), header=header, rows=rows)

    def _told(self) -> dict[str, str]:
        return {f"note {number}": note for number, note in enumerate(self.notes, 1)}

    def _parts(self) -> dict[str, Dataset]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def to(self, device: torch.device | str) -> "Splits":
        """Return all three parts on `device`."""
        train, validation, test = (part.to(device) for part in self._parts().values())
        return replace(self, train=train, validation=validation, test=test)


@dataclass(frozen=True, eq=False)
class Published:
    """A data set as its authors cut it: training and test images, before any validation split."""

    train: Dataset
    test: Dataset
    groups: Int64[Tensor, " n"] | None = None
    """For each training image, what it was taken from (the track of a traffic sign).

    Raises:
        DataError: there is not one group for each training image.
    """
    validation: Dataset | None = None
    """Validation images, where the authors cut them; None: they are held out of the others."""
    notes: tuple[str, ...] = ()
    """What was decided while they were read, one sentence each."""

    def __post_init__(self) -> None:
        if self.groups is not None and len(self.groups) != len(self.train):
            raise DataError(
                f"{self.train.name}: wanted {len(self.train)} groups, got {len(self.groups)}"
            )


def check_same_names(parts: Mapping[str, Dataset]) -> None:
    """Refuse parts whose classes have other names, or another order, than those of training.

    Parts without names are as good as any.

    Raises:
        DataError: there are such parts.

    Example:
        >>> data = Dataset.from_arrays(torch.zeros(2, 3), [0, 1])
        >>> parts = {"train": data.with_names(["a", "b"]), "test": data.with_names(["b", "a"])}
        >>> check_same_names(parts)
        Traceback (most recent call last):
        bitproof.core.errors.DataError: test: wanted the classes of train in their order, got ...
    """
    named = {name: part.class_names for name, part in parts.items() if part.class_names}
    first = "train" if "train" in named else next(iter(named), "")
    for name, names in named.items():
        if names == named[first]:
            continue
        pairs = zip_longest(names, named[first])
        at, (own, wanted) = next(each for each in enumerate(pairs) if each[1][0] != each[1][1])
        came = "no name" if own is None else shorten(own)
        there = "has none" if wanted is None else f"is {shorten(wanted)}"
        raise DataError(
            f"{name}: wanted the classes of {first} in their order, got {came} as class {at}, "
            f"which {there} there"
        )


def count_classes(labels: Labels) -> int:
    """Return the largest label plus one; of numbers, how many there are for an image.

    Example:
        >>> count_classes(torch.tensor([0, 2])), count_classes(torch.zeros(5, 3))
        (3, 3)
    """
    if labels.is_floating_point():
        return labels[:1].numel()
    return int(labels.max()) + 1 if labels.numel() else 0


def _cure_of_range(low: float, high: float) -> str:
    """Return what to do about values outside [0, 1]."""
    if low >= 0 and 1 < high <= 255:
        return "divide by 255, or hand them in as uint8"
    return (
        "move normalisation into the model, such as a first layer (x - mean) / std, so that "
        "attacks and faults see what the world sends"
    )


def _cure_of_axes(images: Tensor) -> str:
    order = "0, 3, 1, 2" if images.ndim == 4 else "0, 4, 1, 2, 3"
    return (
        f"turn them round with images.permute({order}), or np.moveaxis(images, -1, 1); where they "
        "are so already, say layout='channels_first'"
    )


def _check_form(name: str, images: Tensor, labels: Tensor) -> None:
    tokens = images.dtype == torch.int64 and images.ndim == 2
    pixels = images.dtype in {torch.uint8, torch.float32} and images.ndim >= 2
    if not (tokens or pixels):
        raise DataError(
            f"{name}: wanted uint8 or float32 images of shape (n, ...), or int64 tokens of shape "
            f"(n, t), got {images.dtype} of shape {tuple(images.shape)}"
        )
    if labels.dtype not in {torch.int64, torch.float32} or labels.shape[:1] != images.shape[:1]:
        raise DataError(
            f"{name}: wanted {len(images)} int64 labels, or float32 ones, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
