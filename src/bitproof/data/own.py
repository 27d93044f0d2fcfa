"""Data of a user's own: what all of its kinds share, whatever the format.

Model:  files lie where the recipe says, beside it, in the working directory or in the data folder.
        Data that have no test part get one: a share of each class, drawn by `split_seed` alone.
        Where labels come sorted by class, images are put in a mixed order, always the same, so
        that the first n are a fair sample: campaigns and attacks take the first ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import torch
from jaxtyping import Int64
from pydantic import Field
from torch import Tensor

from bitproof.core.errors import DataError, near, shorten
from bitproof.core.rng import make_generator
from bitproof.core.types import Share
from bitproof.core.user_code import folders
from bitproof.data.base import DataSource, hold_out
from bitproof.data.dataset import Dataset, Published, check_same_names
from bitproof.data.layout import Layout, data_root

ENDLESS = 4096
"""Longest path."""
PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""What people call the parts of a set: folders, files, arrays, keys."""
P = TypeVar("P")


class OwnSource(DataSource):
    """Data that nobody published: files, or what a function returns."""

    test_fraction: Share = 0.2
    """Share of all images that become the test part, by class, where the data have none."""

    def layouts(self) -> tuple[Layout, ...]:
        """Return none: they lie where the user says."""
        return ()


class FileSource(OwnSource):
    """Data in files of a user's own."""

    path: Annotated[str, Field(min_length=1, max_length=ENDLESS)]
    """Where they lie: relative to the recipe's folder, else to the working directory, else to the
    data folder."""

    def find(self, data_dir: Path | None) -> Path:
        """Return where the data lie.

        Raises:
            DataError: they are nowhere.
        """
        path, root = Path(self.path).expanduser(), data_root(data_dir)
        places = [*folders(), Path.cwd(), *([root] if root else [])]
        tried = [place / path for place in dict.fromkeys(places)]
        try:
            found = next((place for place in tried if place.exists()), None)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.kind}: {shorten(self.path)} is no path ({error})") from None
        if found is not None:
            return found
        looked = ", ".join(dict.fromkeys(str(place) for place in tried))
        beside = tried[0].parent
        names = [entry.name for entry in beside.iterdir()] if beside.is_dir() else []
        close = f" {hint}" if "Did you mean" in (hint := near(path.name, names)) else ""
        raise DataError(
            f"{self.kind}: wanted data at {shorten(self.path)}; looked for {looked}.{close}"
        )


def with_test(parts: Mapping[str, P], notes: list[str]) -> dict[str, P]:
    """Return the parts by name; validation is the test part where there is no other, and told.

    Example:
        >>> with_test({"train": 1, "validation": 2}, [])
        {'train': 1, 'test': 2}
    """
    found = dict(parts)
    if "test" not in found and "validation" in found:
        notes.append("there is no test part: validation is the test part")
        found["test"] = found.pop("validation")
    return found


def cut_test(
    labels: Int64[Tensor, " n"], fraction: float, *, seed: int
) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " k"]]:
    """Return the numbers of training and of test images: about `fraction` of each class is test.

    Example:
        >>> train, test = cut_test(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
        >>> len(train), len(test)
        (6, 2)
    """
    held = hold_out(labels, fraction, generator=make_generator(seed, "test part"))
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def mixed_order(n: int) -> Int64[Tensor, " n"]:
    """Return the numbers from 0 to n - 1 in an order that is always the same, and mixed."""
    return torch.randperm(n, generator=make_generator(0, "mixed order"))


def by_class(labels: Tensor) -> bool:
    """Tell whether labels are classes that come sorted, so that the first n are no fair sample."""
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) < 2:
        return False
    return bool((labels.diff() >= 0).all()) and bool((labels != labels[0]).any())


def publish(
    source: OwnSource,
    sets: Mapping[str, Dataset],
    *,
    notes: Sequence[str] = (),
    labels: Mapping[str, Tensor] | None = None,
) -> Published:
    """Return the parts `train`, `validation` and `test` as they came.

    Without a test part, it is the validation part, else it is cut. Where the sets are the first of
    more, `labels` are those of all: a class that a small training part lacks may be among them.

    Raises:
        DataError: a part is empty, too small to cut, or has classes that training lacks, or
            names them differently.
    """
    notes = [*notes]
    parts = with_test(sets, notes)
    train = parts["train"]
    if not len(train):
        raise DataError(f"{train.name}: wanted training images, there are none")
    if "test" not in parts:
        classes = train.labels
        if classes.ndim > 1 or classes.is_floating_point():
            classes = torch.zeros(len(train), dtype=torch.int64)
        kept, held = cut_test(classes, source.test_fraction, seed=source.split_seed)
        if not len(held):
            raise DataError(
                f"{train.name}: wanted enough images to cut a test part of "
                f"{source.test_fraction:g}, got {len(train)}"
            )
        notes.append(cut_note(len(held), len(train), source))
        parts |= {"train": train.subset(kept), "test": train.subset(held)}
    if not len(parts["test"]):
        raise DataError(f"{parts['test'].name}: wanted test images, there are none")
    sorted_parts = [name for name in PARTS if name in parts and by_class(parts[name].labels)]
    for name in sorted_parts:
        parts[name] = parts[name].subset(mixed_order(len(parts[name])))
    if sorted_parts:
        notes.append(
            f"{' and '.join(sorted_parts)}: came sorted by class, put in a mixed order that is "
            "always the same"
        )
    check_same_names(parts)
    _check_classes(labels or {name: part.labels for name, part in parts.items()})
    parts = _with_same_classes(parts)
    return Published(
        train=parts["train"],
        test=parts["test"],
        validation=parts.get("validation"),
        notes=(*notes, *shared_images(parts["train"], parts["test"])),
    )


def cut_note(n_test: int, n: int, source: OwnSource) -> str:
    """Return the sentence about a test part that was cut."""
    return (
        f"no test part came with the data: {n_test:,} of {n:,} images, "
        f"{source.test_fraction:g} of each class, were cut off as one "
        f"(split_seed {source.split_seed})"
    )


def shared_images(train: Dataset, test: Dataset) -> list[str]:
    """Return a sentence if test images are training images too, pixel for pixel.

    Example:
        >>> import numpy as np
        >>> data = Dataset.from_arrays(np.arange(6, dtype=np.uint8).reshape(3, 2), [0, 1, 0])
        >>> shared_images(data, data.first(1))
        ['1 of 1 test images is a training image too, value for value: accuracy is too good']
    """
    known = {hash(image.tobytes()) for image in train.images.numpy()}
    same = sum(hash(image.tobytes()) in known for image in test.images.numpy())
    if not same:
        return []
    words = "is a training image" if same == 1 else "are training images"
    return [
        f"{same:,} of {len(test):,} test images {words} too, value for value: accuracy is too good"
    ]


def _with_same_classes(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Return the parts with the number of classes of the largest, and names where one has them."""
    most = max(part.n_classes for part in parts.values())
    names = next((p.class_names for p in parts.values() if len(p.class_names) == most), ())
    return {name: replace(part, n_classes=most, class_names=names) for name, part in parts.items()}


def _check_classes(labels: Mapping[str, Tensor]) -> None:
    """Check that no part has a class that training lacks."""
    train = labels["train"]
    if train.ndim > 1 or train.is_floating_point():
        return
    known = {*train.tolist()}
    for name, own in labels.items():
        if not len(own):
            continue
        if own.dtype != train.dtype or own.ndim != 1:
            raise DataError(f"{name}: wanted labels like those of training, got other ones")
        if other := sorted({*own.tolist()} - known):
            shown = ", ".join(map(str, other[:5])) + (", ..." if len(other) > 5 else "")
            raise DataError(
                f"{name}: wanted the classes of training, got also {shown} "
                f"({len(other)} that training lacks)"
            )
