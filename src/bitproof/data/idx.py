"""IDX files, plain or gzipped: the format of MNIST and its heirs.

Source: http://yann.lecun.com/exdb/mnist/ (big-endian magic, sizes, then bytes).
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import numpy as np
import torch

from bitproof.core.errors import DataError
from bitproof.data.dataset import Dataset

UNSIGNED_BYTES = 8


def read_pair(paths: Sequence[Path], *, name: str, n_classes: int) -> Dataset:
    """Read one part of a set.

    Args:
        paths: the images, then the labels.
        name: what the set is called.
        n_classes: number of classes.

    Raises:
        DataError: a file is missing, truncated or malformed, or the two do not fit.
    """
    images, labels = (read_idx(path, axes) for path, axes in zip(paths, (3, 1), strict=True))
    if len(images) != len(labels):
        raise DataError(f"{paths[1]}: wanted {len(images)} labels, got {len(labels)}")
    return Dataset(
        name=name,
        images=torch.from_numpy(images)[:, None],
        labels=torch.from_numpy(labels.astype(np.int64)),
        n_classes=n_classes,
    )


def read_idx(path: Path, axes: int) -> np.ndarray:
    """Return the bytes of an IDX file as an array with `axes` axes.

    Raises:
        DataError: the file is missing, truncated or too long, or its header says something else.
    """
    with _opened(path) as file:
        shape = _read_shape(file, path, axes)
        content = file.read()
    wanted = math.prod(shape)
    if len(content) != wanted:
        raise DataError(f"{path}: wanted {wanted} bytes after the header, got {len(content)}")
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def count_images(paths: Sequence[Path]) -> int:
    """Return the number of images that the header of the first file gives.

    Raises:
        DataError: the file is missing, or its header is malformed.
    """
    with _opened(paths[0]) as file:
        return _read_shape(file, paths[0], 3)[0]


@contextmanager
def _opened(path: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _read_shape(file: gzip.GzipFile | BufferedReader, path: Path, axes: int) -> tuple[int, ...]:
    header = file.read(4 + 4 * axes)
    magic = bytes([0, 0, UNSIGNED_BYTES, axes])
    if len(header) != 4 + 4 * axes or header[:4] != magic:
        raise DataError(f"{path}: wanted an IDX header {magic.hex()}, got {header[:4].hex()}")
    return struct.unpack(f">{axes}I", header[4:])
