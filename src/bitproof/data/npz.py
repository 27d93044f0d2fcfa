"""Arrays out of npz files that nobody vouches for: what they claim is checked before it is read.

Model:  a file of a few bytes may claim, or unpack to, more than any memory holds. An archive may
        hold a hundred times its own size, or `SMALL`; an array not more than its entry does.
"""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from bitproof.core.errors import BitproofError, DataError

DAMAGE = (
    *(OSError, ValueError, EOFError, LookupError, MemoryError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What reading raises on truncated and altered files."""
SMALL = 100_000_000
"""Bytes that any file may unpack to."""
RATIO = 100
"""How often larger than itself a file may become: weights that are mostly zero come near."""


def check_expansion(
    path: Path, *, stored: int, unpacked: int, problem: type[BitproofError] = DataError
) -> None:
    """Raise `problem` if a file of `stored` bytes claims to hold too many bytes.

    Example:
        >>> check_expansion(Path("x.npz"), stored=10_000_000, unpacked=900_000_000)
        >>> check_expansion(Path("x.npz"), stored=1_000_000, unpacked=900_000_000)
        Traceback (most recent call last):
            ...
        bitproof.core.errors.DataError: x.npz: unpacks to 900,000,000 bytes, 900 times its size...
    """
    if unpacked > max(SMALL, RATIO * stored):
        times = unpacked // max(stored, 1)
        raise problem(
            f"{path}: unpacks to {unpacked:,} bytes, {times:,} times its size (most: {RATIO})"
        )


def check_zip(
    file: BytesIO | BufferedReader, path: Path, *, problem: type[BitproofError] = DataError
) -> list[zipfile.ZipInfo]:
    """Return the entries of a zip file at `path`, each name once; or raise `problem`.

    Raises:
        Exception: one of `DAMAGE`, if it is damaged.
    """
    file.seek(0, 2)
    size = file.tell()
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    check_expansion(path, stored=size, unpacked=sum(e.file_size for e in entries), problem=problem)
    names = [entry.filename for entry in entries]
    if len({*names}) < len(names):
        raise problem(f"{path}: holds several entries of one name")
    file.seek(0)
    return entries


def npy_header(member: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return shape and dtype that an npy file claims, and how many bytes say so.

    Raises:
        Exception: one of `DAMAGE`, if it is damaged.
    """
    version = npy.read_magic(member)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    return shape, dtype, member.tell()


def check_npz(
    file: BytesIO | BufferedReader,
    path: Path,
    *,
    problem: type[BitproofError] = DataError,
    fits: Callable[[str, tuple[int, ...]], None] | None = None,
) -> None:
    """Raise `problem` if an npz file at `path`, or an array in it, claims too many bytes.

    `fits` is asked of the bytes of each array and may refuse them.

    Raises:
        Exception: one of `DAMAGE`, if it is damaged.
    """
    entries = check_zip(file, path, problem=problem)
    with zipfile.ZipFile(file) as archive:
        for entry in entries:
            with archive.open(entry) as member:
                shape, dtype, _ = npy_header(member)
            wanted = math.prod(shape) * max(dtype.itemsize, 1)
            if wanted > entry.file_size and not dtype.hasobject:
                raise problem(
                    f"{path}: {entry.filename} claims {wanted:,} bytes of array and holds "
                    f"{entry.file_size:,}"
                )
            if fits is not None:
                fits(f"{path}: {entry.filename}", (*shape, max(dtype.itemsize, 1)))
    file.seek(0)


def read_npz(
    file: BytesIO | BufferedReader,
    path: Path,
    *,
    problem: type[BitproofError] = DataError,
    fits: Callable[[str, tuple[int, ...]], None] | None = None,
) -> np.lib.npyio.NpzFile:
    """Open an npz file at `path`; arrays that are pickles are refused when they are read.

    Raises:
        BitproofError: as `problem`: it claims too much, or is a single array.
        Exception: one of `DAMAGE`, if it is damaged; so may reading an array of it.
    """
    start = file.read(6)
    file.seek(0)
    if start == npy.MAGIC_PREFIX:
        raise problem(f"{path}: wanted an npz file of named arrays, got a single array (.npy)")
    check_npz(file, path, problem=problem, fits=fits)
    found: np.lib.npyio.NpzFile = np.load(file, allow_pickle=False)
    return found
