"""MNIST and Fashion-MNIST: 28 x 28 grey images, ten classes, 60,000 + 10,000.

Model:  IDX files, plain or gzipped: a big-endian magic, sizes, then bytes. A
        file that is missing, truncated, too long or malformed is a `DataError` that names it.
Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, and
        http://yann.lecun.com/exdb/mnist/; Xiao et al., "Fashion-MNIST", arXiv 1708.07747.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bitproof.core.errors import DataError
from bitproof.data.archives import ARCHIVES
from bitproof.data.base import DATA, DataSource
from bitproof.data.dataset import Dataset
from bitproof.data.layout import Layout, two_part_layout
from bitproof.data.npz import check_expansion

DEBIAN_FASHION = "/usr/share/datasets/fashion-mnist"
"""Where the Debian package `dataset-fashion-mnist` puts the files (gzipped anew)."""
UNSIGNED_BYTES = 8
"""Code of the type of what follows the header of an IDX file."""


@DATA.register
class Mnist(DataSource):
    """Handwritten digits.

    Example:
        >>> Mnist().layouts()[0].folders
        ('mnist', 'MNIST/raw', 'MNIST')
    """

    kind: Literal["mnist"] = "mnist"

    def layouts(self) -> tuple[Layout, ...]:
        """Return: IDX files, plain or gzipped."""
        return (_idx_layout("mnist", ("mnist", "MNIST/raw", "MNIST"), official=True),)


@DATA.register
class FashionMnist(DataSource):
    """Pieces of clothing.

    Example:
        >>> FashionMnist(train_size=100, validation_fraction=0.2).validation_fraction
        0.2
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"

    def layouts(self) -> tuple[Layout, ...]:
        """Return: IDX files, plain or gzipped; those of the Debian package come last."""
        own = ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "FashionMNIST")
        return (
            _idx_layout("fashion_mnist", own, official=True),
            _idx_layout("fashion_mnist", (DEBIAN_FASHION,), official=False),
        )


def _idx_layout(kind: str, folders: tuple[str, ...], *, official: bool) -> Layout:
    def pair(part: str) -> list[str]:
        names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        return [f"{name}|{name}.gz" for name in names]

    return two_part_layout(
        "IDX files",
        folders,
        train=pair("train"),
        test=pair("t10k"),
        read=partial(read_pair, name=kind, n_classes=10),
        count=count_images,
        md5={item.file: item.md5 for item in ARCHIVES[kind] if official},
    )


def read_pair(paths: Sequence[Path], *, name: str, n_classes: int) -> Dataset:
    """Read one part of a set: the images, then the labels."""
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
    """Return the bytes of an IDX file as an array with `axes` axes."""
    with _opened(path) as file:
        shape = _read_shape(file, path, axes)
        wanted = math.prod(shape)
        if path.suffix == ".gz":
            check_expansion(path, stored=path.stat().st_size, unpacked=wanted)
            content = file.read(wanted + 1)
        else:
            content = file.read()
    if len(content) != wanted:
        raise DataError(f"{path}: wanted {wanted} bytes after the header, got {len(content)}")
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def count_images(paths: Sequence[Path]) -> int:
    """Return the number of images that the header of the first file gives."""
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
