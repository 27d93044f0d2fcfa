"""The two official forms of CIFAR: pickled batches, and binary records.

Model:  a pickle is a program. A batch is opened only if its MD5 is the one that was published, so
        only the authors' own pickles are: collisions of MD5 are pairs of files made together, while
        a file that fits a given MD5 cannot be made. And the unpickler admits no more than the
        three names that those files use.
Source: https://www.cs.toronto.edu/~kriz/cifar.html (rows of 3072 bytes: 1024 red, green, blue);
        MD5 as torchvision's tables have them.
"""

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bitproof.core.errors import ChecksumError, DataError, UnsafeFileError
from bitproof.data.dataset import Dataset

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
    """Read pickled batches, if they are those that were published.

    Args:
        paths: batches, in order.
        label_key: `labels` (CIFAR-10) or `fine_labels` (CIFAR-100).
        name: what the set is called.
        n_classes: number of classes.

    Raises:
        DataError: a file is missing.
        ChecksumError: a file is not the published one.
    """
    batches = [load_batch(path) for path in paths]
    rows = np.concatenate([batch["data"] for batch in batches])
    labels = np.concatenate([np.array(batch[label_key], np.int64) for batch in batches])
    return _dataset(rows, labels, name, n_classes)


def read_binary(paths: Sequence[Path], *, label_bytes: int, name: str, n_classes: int) -> Dataset:
    """Read binary batches.

    Args:
        paths: batches, in order.
        label_bytes: bytes before the pixels of each record; the last one is the class.
        name: what the set is called.
        n_classes: number of classes.

    Raises:
        DataError: a file is missing, or does not hold whole records.
    """
    records = np.concatenate([_records(path, label_bytes + PIXELS) for path in paths])
    labels = records[:, label_bytes - 1].astype(np.int64)
    return _dataset(records[:, label_bytes:], labels, name, n_classes)


def count_python(paths: Sequence[Path]) -> int:
    """Return the number of images in pickled batches.

    Raises:
        DataError: a file is missing, or not the published one.
    """
    return sum(len(load_batch(path)["data"]) for path in paths)


def count_binary(paths: Sequence[Path], label_bytes: int) -> int:
    """Return the number of images in binary batches, by their size."""
    return sum(path.stat().st_size // (label_bytes + PIXELS) for path in paths)


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
