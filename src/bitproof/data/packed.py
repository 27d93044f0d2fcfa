"""Packed sets: npz files that hold images as strips of lossless WebP, and their labels.

Model:  `x_webp` is the bytes of several WebP files, cut at `x_off`; each is one strip, 32 pixels
        wide and 32 times the number of its images high. Labels are `y`. A mini file holds
        both parts, as `x_train_webp`, `y_train`, `x_test_webp` ...
        A file that is missing, truncated or malformed is a `DataError` that names it.
"""

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.data.dataset import Dataset, Published
from bitproof.data.layout import Layout
from bitproof.data.npz import DAMAGE, read_npz

SIDE = 32
"""Width and height of every packed image, in pixels."""


def mini_layout(kind: str, n_classes: int, *, groups: str = "") -> Layout:
    """Return the layout of a packed sample; `groups` names the array that tells tracks apart."""
    file = f"{kind}-mini.npz"

    def read(folder: Path) -> Published:
        at, name = [folder / file], f"{kind}-mini"
        return Published(
            train=read_part(at, part="train", name=name, n_classes=n_classes),
            test=read_part(at, part="test", name=name, n_classes=n_classes),
            groups=read_column(at, groups) if groups else None,
        )

    return Layout(
        name="packed sample",
        folders=("mini",),
        files=(file,),
        read=read,
        count=lambda at: (count_labels([at / file], "train"), count_labels([at / file], "test")),
        variant="mini",
    )


def read_part(paths: Sequence[Path], *, part: str = "", name: str, n_classes: int) -> Dataset:
    """Decode one part, out of one or several packed files, in order.

    In a mini file, `part` is `train` or `test`; it is empty where a file holds one part.
    """
    suffix = f"_{part}" if part else ""
    blob, offsets = f"x{suffix}_webp", f"x{suffix}_off"
    images = []
    for path in paths:
        arrays = read_arrays(path, [blob, offsets])
        images.append(decode_strips(arrays[blob], arrays[offsets], path))
    labels = read_column(paths, f"y{suffix}")
    return Dataset.from_arrays(torch.cat(images), labels, name=name, n_classes=n_classes)


def read_column(paths: Sequence[Path], key: str) -> Int64[Tensor, " n"]:
    """Return one integer per image, from the array `key` of each file."""
    columns = []
    for path in paths:
        values = read_arrays(path, [key])[key]
        if values.dtype.kind not in "iu" or values.ndim != 1:
            raise DataError(
                f"{path}: wanted integers as '{key}', got {values.dtype} of shape {values.shape}"
            )
        columns.append(torch.from_numpy(values.astype(np.int64)))
    return torch.cat(columns)


def count_labels(paths: Sequence[Path], part: str = "") -> int:
    """Return the number of labels, without decoding an image."""
    return len(read_column(paths, f"y_{part}" if part else "y"))


def read_arrays(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Read named arrays of an npz file; object arrays, which are pickles, are refused."""
    try:
        # Opened here: numpy leaves the file open where it turns out to be no zip.
        with path.open("rb") as file:
            stored = read_npz(file, path)
            lacking = [key for key in keys if key not in stored.files]
            if lacking:
                raise DataError(
                    f"{path}: wanted arrays {', '.join(keys)}, got {', '.join(stored.files)}"
                )
            return {key: stored[key] for key in keys}
    except DAMAGE as error:
        raise DataError(f"{path}: wanted a whole npz file: {error}") from None


def decode_strips(blob: np.ndarray, offsets: np.ndarray, path: Path) -> UInt8[Tensor, "n 3 32 32"]:
    """Decode strips of images that stand one above the other; errors name `path`.

    `offsets` says where each WebP file begins in `blob`, and where the last one ends.
    """
    if blob.dtype != np.uint8 or blob.ndim != 1 or offsets.dtype.kind not in "iu":
        raise DataError(
            f"{path}: wanted uint8 bytes and integer offsets, got {blob.dtype} and {offsets.dtype}"
        )
    cuts = offsets.astype(np.int64).ravel()
    if len(cuts) < 2 or cuts[0] != 0 or cuts[-1] != len(blob) or (np.diff(cuts) <= 0).any():
        raise DataError(f"{path}: wanted offsets rising from 0 to {len(blob)}, got {cuts[:3]} ...")
    strips = [
        _decode(blob[start:end].tobytes(), f"{path}: strip {number}")
        for number, (start, end) in enumerate(pairwise(cuts))
    ]
    return torch.from_numpy(np.concatenate(strips)).permute(0, 3, 1, 2).contiguous()


def _decode(data: bytes, where: str) -> np.ndarray:
    """Return the images of one strip, (n, 32, 32, 3)."""
    from PIL import Image  # noqa: PLC0415 (slow to import, and most sets need none)

    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            width, height = image.size
            if width != SIDE or height % SIDE:
                raise DataError(
                    f"{where}: wanted {SIDE} x {SIDE} * n pixels, got {width} x {height}"
                )
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: wanted a WebP image: {error}") from None
    return pixels.reshape(-1, SIDE, SIDE, 3)
