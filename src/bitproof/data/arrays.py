"""Arrays of a user's own: an npz file, or a folder of npy files, under the usual names.

Model:  one array of inputs and one of labels, from which a test part is cut; or those of two or
        three parts: `x_train`, `train_images`, `images_train` and the like. Inputs are
        (n, c, h, w), or signals (n, c, t), volumes (n, c, d, h, w), feature tables (n, features),
        token numbers (n, t) as integers; uint8, or floats in [0, 1]. What the axes are is not
        guessed where it could be two things: the message says which `layout` settles it. Nothing
        is unpickled.
"""

import io
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch

from bitproof.core.errors import DataError
from bitproof.data.axes import AxisLayout, channels_first
from bitproof.data.base import DATA
from bitproof.data.dataset import Dataset, Published
from bitproof.data.memory import check_fits
from bitproof.data.npz import DAMAGE, npy_header, read_npz
from bitproof.data.own import PARTS, FileSource, publish

INPUTS = ("x", "images", "image", "imgs", "data", "inputs", "input", "features", "signals", "X")
LABELS = ("y", "labels", "label", "targets", "target", "classes", "Y")
T = TypeVar("T")
LONGEST_LIST = 12
"""Names of arrays in a message."""


@DATA.register
class Arrays(FileSource):
    """Inputs and labels in an npz file, or as npy files in a folder.

    Example:
        >>> Arrays(path="mine.npz", inputs="x", labels="y").layout
        'auto'
    """

    kind: Literal["npz"] = "npz"
    layout: AxisLayout = "auto"
    """Where the channels of inputs are: `channels_first` (n, c, ...), `channels_last` (n, ..., c),
    which is turned round, or `no_channels` (n, h, w), which gets one. `auto` takes what can be
    nothing else."""
    inputs: str = ""
    """Name of the array of inputs, where all parts are cut from it; none: the usual ones."""
    labels: str = ""
    """Name of the array of its labels; none: the usual ones."""

    def read(self, data_dir: Path | None) -> Published:
        """Return the arrays of all parts.

        Raises:
            DataError: the file is missing, damaged, or no such file; it has no arrays of the usual
                names; shapes or types do not fit; what it holds is larger than memory.
            InputRangeError: inputs lie outside [0, 1].
        """
        path = self.find(data_dir)
        arrays = _NpyFolder(path) if path.is_dir() else _Npz(path)
        pairs = self._pairs(arrays.names(), path)
        name = path.resolve().stem or "npz"
        loaded = {part: self._load(arrays, own, name, path) for part, own in pairs.items()}
        return publish(self, loaded)

    def _pairs(self, names: list[str], path: Path) -> dict[str, tuple[str, str]]:
        """Return the names of inputs and labels of each part that is there."""
        if self.inputs or self.labels:
            return {"train": self._named(names, path)}
        pairs = {}
        for part, words in PARTS.items():
            inputs = _of_part(names, words, INPUTS)
            labels = _of_part(names, words, LABELS)
            if inputs and labels:
                pairs[part] = inputs, labels
            elif inputs or labels:
                raise DataError(
                    f"{path}: wanted inputs and labels of the {part} part, got only "
                    f"'{inputs or labels}'; it holds {_listed(names)}"
                )
        if "train" in pairs:
            return pairs
        if pairs:
            raise DataError(f"{path}: wanted a training part too, it holds {_listed(names)}")
        inputs, labels = _one_of(names, INPUTS), _one_of(names, LABELS)
        if not (inputs and labels):
            raise DataError(
                f"{path}: wanted arrays x_train, y_train, x_test, y_test, or images and labels, it "
                f"holds {_listed(names)}; name them with inputs = and labels ="
            )
        return {"train": (inputs, labels)}

    def _named(self, names: list[str], path: Path) -> tuple[str, str]:
        """Return the names that the user said, or a usual one."""
        chosen = (self.inputs or _one_of(names, INPUTS), self.labels or _one_of(names, LABELS))
        for name, wanted in zip(chosen, ("inputs", "labels"), strict=True):
            if name not in names:
                raise DataError(
                    f"{path}: no array '{name}' for npz.{wanted}; it holds {_listed(names)}"
                )
        return chosen

    def _load(
        self, arrays: "_Npz | _NpyFolder", names: tuple[str, str], name: str, path: Path
    ) -> Dataset:
        images, labels = arrays.read(names)
        where = f"{path}: {names[0]}"
        if images.dtype.kind not in "uifb" or labels.dtype.kind not in "uifb":
            kinds = f"{images.dtype} and {labels.dtype}"
            raise DataError(f"{path}: wanted numbers as {names[0]} and {names[1]}, got {kinds}")
        if labels.ndim == 2 and labels.shape[1] == 1 and labels.dtype.kind != "f":
            labels = labels[:, 0]  # as in MedMNIST
        images = channels_first(_pixels(images, where), self.layout, where=where)
        return Dataset.from_arrays(
            torch.from_numpy(np.ascontiguousarray(images)),
            labels,
            name=name,
            layout="channels_first",
        )


class _Npz:
    """The arrays of an npz file, or the one of an npy file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix.lower() == ".npy":
            raise DataError(
                f"{path}: wanted inputs and labels, got one array; put x_train.npy, y_train.npy, "
                "x_test.npy and y_test.npy in a folder and name that, or save all in one npz"
            )
        if path.suffix.lower() != ".npz":
            raise DataError(f"{path}: wanted a name that ends in .npz, or a folder of .npy files")

    def names(self) -> list[str]:
        """Return what is in the file."""
        return self._open(lambda stored: list(stored.files))

    def read(self, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """Return two arrays; their sizes were compared with that of the file and the memory."""
        return self._open(lambda stored: (stored[names[0]], stored[names[1]]))

    def _open(self, work: Callable[[np.lib.npyio.NpzFile], T]) -> T:
        try:
            with self.path.open("rb") as file:
                stored = read_npz(file, self.path, fits=check_fits)
                return work(stored)
        except DAMAGE as error:
            raise DataError(f"{self.path}: wanted a whole npz file: {_reason(error)}") from None


class _NpyFolder:
    """The npy files of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Return the names of the files, without their suffix."""
        return sorted(path.stem for path in self.path.glob("*.npy"))

    def read(self, names: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """Return two arrays; what a file claims was compared with its size."""
        return self._one(names[0]), self._one(names[1])

    def _one(self, name: str) -> np.ndarray:
        path = self.path / f"{name}.npy"
        try:
            with path.open("rb") as file:
                shape, dtype, start = npy_header(file)
                wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
                if dtype.hasobject:
                    raise DataError(f"{path}: wanted numbers, it holds Python objects")
                if wanted != path.stat().st_size - start:
                    raise DataError(
                        f"{path}: claims {wanted:,} bytes of array and holds "
                        f"{path.stat().st_size - start:,}"
                    )
                check_fits(str(path), shape or (1,), itemsize=dtype.itemsize)
                file.seek(0)
                found: np.ndarray = np.load(io.BytesIO(file.read()), allow_pickle=False)
                return found
        except DAMAGE as error:
            raise DataError(f"{path}: wanted a whole npy file: {_reason(error)}") from None


def _pixels(images: np.ndarray, where: str) -> np.ndarray:
    """Return inputs as uint8, floats or token numbers; wider integers of 0 .. 255 are pixels."""
    if images.dtype == bool:
        return images.astype(np.float32)
    if images.dtype.kind in "ui" and images.dtype != np.uint8 and images.ndim > 2:
        if images.size:
            check_pixels(int(images.min()), int(images.max()), str(images.dtype), where=where)
        return images.astype(np.uint8)
    return images


def check_pixels(low: int, high: int, dtype: str, *, where: str) -> None:
    """Refuse integers wider than uint8 that are no pixels, or may not be: 0 and 1 may be grey.

    Raises:
        DataError: the least is below 0, or the largest above 255, or not above 1.

    Example:
        >>> check_pixels(0, 255, "int64", where="x")
        >>> check_pixels(0, 1, "int64", where="x")
        Traceback (most recent call last):
        bitproof.core.errors.DataError: x: wanted pixels from 0 to 255, or floats in [0, 1], got ...
    """
    if low < 0 or high <= 1 or high > 255:
        cure = "; store uint8 if 255 is white, or floats if 1 is" if low >= 0 and high <= 1 else ""
        raise DataError(
            f"{where}: wanted pixels from 0 to 255, or floats in [0, 1], got {dtype} "
            f"from {low} to {high}{cure}"
        )


def _of_part(names: list[str], words: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    """Return the array of a part, such as `x_train`, `train_images` or `X_train`; else nothing."""
    wanted = {
        form.lower()
        for word, kind in product(words, kinds)
        for form in (f"{kind}_{word}", f"{word}_{kind}", f"{kind}{word}", f"{word}{kind}")
    }
    return next((name for name in names if name.lower() in wanted), "")


def _one_of(names: list[str], usual: tuple[str, ...]) -> str:
    low = {name.lower(): name for name in reversed(names)}
    return next((low[each.lower()] for each in usual if each.lower() in low), "")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:LONGEST_LIST]) or "no arrays"
    return shown + (f", ... ({len(names)})" if len(names) > LONGEST_LIST else "")


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
