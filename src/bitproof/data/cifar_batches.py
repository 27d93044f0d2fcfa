"""The two official forms of CIFAR: pickled batches, and binary records.

Source: https://www.cs.toronto.edu/~kriz/cifar.html (rows of 3072 bytes: 1024 red, green, blue).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bitproof.core.errors import DataError
from bitproof.data.dataset import Dataset
from bitproof.data.unpickle import load_plain

PIXELS = 3 * 32 * 32


def read_python(paths: Sequence[Path], *, label_key: str, name: str, n_classes: int) -> Dataset:
    """Read pickled batches; nothing in them is executed.

    Args:
        paths: batches, in order.
        label_key: `labels` (CIFAR-10) or `fine_labels` (CIFAR-100).
        name: what the set is called.
        n_classes: number of classes.

    Raises:
        DataError: a file is missing, truncated or malformed.
        UnsafeFileError: a file asks for code to be run.
    """
    rows, labels = [], []
    for path in paths:
        batch = load_plain(path)
        data, classes = batch.get("data"), batch.get(label_key)
        if (
            not isinstance(data, np.ndarray)
            or data.dtype != np.uint8
            or data.shape[1:] != (PIXELS,)
        ):
            came = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data)
            raise DataError(f"{path}: wanted uint8 'data' of shape (n, {PIXELS}), got {came}")
        classes = classes.tolist() if isinstance(classes, np.ndarray) else classes
        if not isinstance(classes, list) or not all(
            type(label) is int and 0 <= label < n_classes for label in classes
        ):
            raise DataError(
                f"{path}: wanted a list of integers from 0 to {n_classes - 1} as '{label_key}'"
            )
        if len(classes) != len(data):
            raise DataError(f"{path}: wanted {len(data)} '{label_key}', got {len(classes)}")
        rows.append(data)
        labels += classes
    return _dataset(np.concatenate(rows), np.array(labels, np.int64), name, n_classes)


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
        DataError: a file is missing, truncated or malformed.
    """
    shapes = (np.shape(load_plain(path).get("data")) for path in paths)  # type: ignore[arg-type]
    return sum(shape[0] if shape else 0 for shape in shapes)


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
