"""CIFAR-10 and CIFAR-100: 32 x 32 colour photographs.

Model:  the official files are pickled batches, or binary records. A pickle is a program: a batch
        is opened only if its MD5 is the one that was published, so only the authors' own pickles
        are: collisions of MD5 are pairs of files made together, while a file that fits a given
        MD5 cannot be made. And the unpickler admits no more than the three names that those use.
        A file that is missing or malformed is a `DataError` that names it.
Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
        https://www.cs.toronto.edu/~kriz/cifar.html (rows of 3072 bytes: 1024 red, green, blue);
        MD5 as torchvision's tables have them.
"""

import hashlib
import io
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from bitproof.core.errors import ChecksumError, DataError, UnsafeFileError
from bitproof.data.base import DATA, DataSource
from bitproof.data.dataset import Dataset
from bitproof.data.layout import Layout, Variant, of_variant, two_part_layout
from bitproof.data.packed import count_labels, mini_layout, read_part

PIXELS = 3 * 32 * 32
PUBLISHED = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
"""MD5 of the pickled batches of CIFAR-10 and CIFAR-100, by file name."""
ADMITTED = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    # Not imported by name: the module has moved, and the old name warns.
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows arrays beside lists, text and numbers."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what makes an array, or refuse by name."""
        if (module, name) not in ADMITTED:
            raise UnsafeFileError(f"wanted a pickle of arrays, it asks for '{module}.{name}'")
        return ADMITTED[module, name]


def load_batch(path: Path) -> dict[str, Any]:
    """Unpickle a batch whose MD5 is the one published under its name.

    Raises:
        DataError: the file cannot be read.
        ChecksumError: it is not the published one; nothing was unpickled.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    came = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if came != PUBLISHED[path.name]:
        raise ChecksumError(f"{path}: wanted md5 {PUBLISHED[path.name]}, got {came}; not unpickled")
    batch: dict[str, Any] = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    return batch


def read_python(paths: Sequence[Path], *, label_key: str, name: str, n_classes: int) -> Dataset:
    """Read pickled batches; their labels are `labels` (CIFAR-10) or `fine_labels` (CIFAR-100)."""
    batches = [load_batch(path) for path in paths]
    rows = np.concatenate([batch["data"] for batch in batches])
    labels = np.concatenate([np.array(batch[label_key], np.int64) for batch in batches])
    return _dataset(rows, labels, name, n_classes)


def read_binary(paths: Sequence[Path], *, label_bytes: int, name: str, n_classes: int) -> Dataset:
    """Read binary batches; the last of the `label_bytes` before the pixels is the class."""
    records = np.concatenate([_records(path, label_bytes + PIXELS) for path in paths])
    labels = records[:, label_bytes - 1].astype(np.int64)
    return _dataset(records[:, label_bytes:], labels, name, n_classes)


def _records(path: Path, size: int) -> np.ndarray:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not len(content) or len(content) % size:
        raise DataError(f"{path}: wanted whole records of {size} bytes, got {len(content)} bytes")
    return content.reshape(-1, size)


def _dataset(rows: np.ndarray, labels: np.ndarray, name: str, n_classes: int) -> Dataset:
    images = torch.from_numpy(np.ascontiguousarray(rows).reshape(-1, 3, 32, 32))
    return Dataset(name=name, images=images, labels=torch.from_numpy(labels), n_classes=n_classes)


def _official_layouts(
    folders: tuple[str, str],
    train: Sequence[str],
    test: str,
    *,
    name: str,
    n_classes: int,
    label_key: str,
    label_bytes: int,
) -> tuple[Layout, Layout]:
    """Return the pickles of the first folder, the binary files of the second."""
    return (
        two_part_layout(
            "python batches",
            folders[:1],
            train=train,
            test=[test],
            read=partial(read_python, label_key=label_key, name=name, n_classes=n_classes),
            count=lambda paths: sum(len(load_batch(path)["data"]) for path in paths),
            md5=PUBLISHED,
        ),
        two_part_layout(
            "binary batches",
            folders[1:],
            train=[f"{file}.bin" for file in train],
            test=[f"{test}.bin"],
            read=partial(read_binary, label_bytes=label_bytes, name=name, n_classes=n_classes),
            count=lambda paths: sum(
                path.stat().st_size // (label_bytes + PIXELS) for path in paths
            ),
        ),
    )


class _Cifar(DataSource):
    every_layout: ClassVar[tuple[Layout, ...]]
    variant: Variant = "auto"
    """All images, the packed sample of 2,000 + 1,000, or (`auto`) the best that is there."""

    def layouts(self) -> tuple[Layout, ...]:
        """Return: packed CIFAR-10, official pickles and binary files, packed CIFAR-100, sample."""
        return of_variant(self.variant, self.every_layout)


@DATA.register
class Cifar10(_Cifar):
    """Ten classes of animals and vehicles, 50,000 + 10,000 images.

    Example:
        >>> Cifar10(variant="mini").layouts()[0].files
        ('cifar10-mini.npz',)
    """

    kind: Literal["cifar10"] = "cifar10"
    every_layout: ClassVar[tuple[Layout, ...]] = (
        two_part_layout(
            "packed npz",
            ("cifar10",),
            train=[f"train_{number}.npz" for number in range(1, 6)],
            test=["test.npz"],
            read=partial(read_part, name="cifar10", n_classes=10),
            count=count_labels,
        ),
        *_official_layouts(
            ("cifar-10-batches-py", "cifar-10-batches-bin"),
            [f"data_batch_{number}" for number in range(1, 6)],
            "test_batch",
            name="cifar10",
            n_classes=10,
            label_key="labels",
            label_bytes=1,
        ),
        mini_layout("cifar10", 10),
    )


@DATA.register
class Cifar100(_Cifar):
    """A hundred fine classes, 50,000 + 10,000 images; packed, 45,000 of them: `cifar100 (45k)`.

    Example:
        >>> [layout.variant for layout in Cifar100().layouts()]
        ['full', 'full', 'full', 'mini']
    """

    kind: Literal["cifar100"] = "cifar100"
    every_layout: ClassVar[tuple[Layout, ...]] = (
        *_official_layouts(
            ("cifar-100-python", "cifar-100-binary"),
            ["train"],
            "test",
            name="cifar100",
            n_classes=100,
            label_key="fine_labels",
            label_bytes=2,
        ),
        # Not the published set: 450 of the 500 training images of each class, so it has its name.
        two_part_layout(
            "packed npz (45k)",
            ("cifar100",),
            train=[f"train_{number}.npz" for number in range(1, 6)],
            test=["test.npz"],
            read=partial(read_part, name="cifar100 (45k)", n_classes=100),
            count=count_labels,
        ),
        mini_layout("cifar100", 100),
    )
