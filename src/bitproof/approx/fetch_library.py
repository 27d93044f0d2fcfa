"""Getting `evoapprox8.npz`: the authors' C models, worked out to tables, each with its checksum.

Model:  the published figures of the 99 circuits, and the SHA-1 of each one's table, are part of
        this package (`evoapprox8.json.xz`). The 64 C models behind them are downloaded from the
        authors' repository, at the commits of the releases, and read without being run
        (`c_model`). A table that differs in one product is refused.
Source: github.com/ehw-fit/evoapproxlib, releases v1.1 and v2022. Copyright 2018 EHW@FIT, Brno
        University of Technology; MIT-style terms; they ask to cite 10.23919/DATE.2017.7926993.
"""

import hashlib
import io
import json
import lzma
import tempfile
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from bitproof.approx.c_model import products_of_c
from bitproof.approx.evoapprox import FILE, ROWS
from bitproof.core.errors import ChecksumError, DataError
from bitproof.core.files import sha256_of_file, write_bytes
from bitproof.core.progress import SILENT, Progress
from bitproof.data.download import download

REPOSITORY = "https://raw.githubusercontent.com/ehw-fit/evoapproxlib"
REVISIONS = {
    "v1.1": ("d321f7f68c81141a7eed7556e1614b86d4ba629a",),
    "v2022": ("5c6185e1e19dd7553e1c6c0946983312b56724e4", "187ff57", "v2022"),
}
"""Revisions that hold the C models of each release, best first. Of v2022 we know the first digits
of the release's commit, and an earlier one with the same models; products tell whether they are."""
SHA256 = "9d6016d1853abc81543d0bfa82e61d4856aabba1c20f77fe03848c5eb4de5d89"
"""Of the file that others have from us; another zlib packs the same arrays into another file."""


def library_rows() -> tuple[bytes, list[dict[str, Any]]]:
    """Return the published figures of all circuits: as stored, and read.

    Example:
        >>> len(library_rows()[1])
        99
    """
    packed = files("bitproof.approx").joinpath("evoapprox8.json.xz").read_bytes()
    text = lzma.decompress(packed)
    rows: list[dict[str, Any]] = json.loads(text)
    return text, rows


def fetch_library(
    data_dir: Path, *, progress: Progress = SILENT, mirror: str | None = None
) -> list[Path]:
    """Download the C models that are needed, and write the library; return its path.

    A `mirror` is an address below which the files lie as in the authors' repository
    (`multiplers/8x8_signed/...`), or which holds `evoapprox8.npz` itself.

    Raises:
        ChecksumError: a table has another product than the published circuit.
        DataError: no server gave a file, or it is no such C model.
        StorageError: the disk is full, or the folder cannot be written.
    """
    target = data_dir / FILE
    text, rows = library_rows()
    if target.is_file() and not wrong_tables(target):
        progress.say(f"{target}: already there")
        return [target]
    if mirror and _take_whole(target, mirror, progress):
        return [target]
    by_key = {row["name"]: row for row in rows}
    keys = list(dict.fromkeys(row["lut"] for row in rows))
    arrays: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bitproof-") as scratch:
        for key in progress.track(keys, label="C models", total=len(keys)):
            row = by_key[key]
            path = Path(scratch) / f"{key}.c"
            _download(row, path, mirror)
            products = products_of_c(
                path.read_text(encoding="utf-8", errors="replace"), path.name, signed=row["signed"]
            )
            _check(products, row)
            arrays[key] = products
    buffer = io.BytesIO()
    arrays[ROWS] = np.frombuffer(text, np.uint8)
    np.savez_compressed(buffer, **arrays)
    write_bytes(target, buffer.getvalue())
    same = "as known" if sha256_of_file(target) == SHA256 else "packed anew, every table as known"
    progress.say(f"{target}: {len(keys)} tables of {len(rows)} circuits, {same}")
    return [target]


def wrong_tables(path: Path) -> list[str]:
    """Return the names of tables that are missing or differ from the published circuits'.

    Example:
        >>> wrong_tables(Path("/nowhere"))[:2]
        ['mul8s_1KR3', 'mul8s_1KR8']
    """
    from bitproof.approx.stored import read_products  # noqa: PLC0415 (a circle otherwise)

    rows = [row for row in library_rows()[1] if row["lut"] == row["name"]]
    wrong = []
    for row in rows:
        try:
            (found,) = read_products(path, [row["name"]])
        except (DataError, OSError):
            wrong.append(row["name"])
            continue
        if hashlib.sha1(found.tobytes(), usedforsecurity=False).hexdigest() != row["sha1"]:
            wrong.append(row["name"])
    return wrong


def _take_whole(target: Path, mirror: str, progress: Progress) -> bool:
    """Return whether the mirror holds the finished file."""
    try:
        download(f"{mirror.rstrip('/')}/{FILE}", target, sha256=SHA256, progress=progress, tries=1)
    except DataError:
        return False
    return True


def _download(row: dict[str, Any], path: Path, mirror: str | None) -> None:
    """Ask one address after the other for a C model."""
    failures = []
    for url in _addresses(row, mirror):
        try:
            download(url, path)
        except DataError as error:
            failures.append(error)
        else:
            return
    raise type(failures[-1])("; ".join(str(failure) for failure in failures))


def _addresses(row: dict[str, Any], mirror: str | None) -> Iterable[str]:
    release, _, file = row["c_file"].partition(":")
    if mirror:
        return [f"{mirror.rstrip('/')}/{file}"]
    return [f"{REPOSITORY}/{revision}/{file}" for revision in REVISIONS[release]]


def _check(products: np.ndarray, row: dict[str, Any]) -> None:
    came = hashlib.sha1(products.tobytes(), usedforsecurity=False).hexdigest()
    if came != row["sha1"]:
        raise ChecksumError(
            f"{row['c_file']}: wanted the products of {row['name']} (sha1 {row['sha1']}), got "
            f"others ({came}); nothing was written"
        )
