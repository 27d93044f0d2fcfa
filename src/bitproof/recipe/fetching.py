"""What `bitproof data fetch` brings: data sets, published weights, the library of multipliers."""

from pathlib import Path

from bitproof.approx.evoapprox import FILE
from bitproof.approx.fetch_library import fetch_library, wrong_tables
from bitproof.core.errors import UnknownKindError, near, shorten
from bitproof.core.progress import SILENT, Progress
from bitproof.data import fetch
from bitproof.data.inventory import Available, Check, available, published_kinds, verify
from bitproof.data.layout import data_root
from bitproof.models.pretrained import PUBLISHED_WEIGHTS, fetch_weights, is_right, weights_path

LIBRARY = "evoapprox"
OTHERS = (*PUBLISHED_WEIGHTS, LIBRARY)
"""What is no data set."""


def fetch_anything(
    name: str, data_dir: Path, *, progress: Progress = SILENT, mirror: str | None = None
) -> list[Path]:
    """Download a data set, weights, or the multipliers; return the files now in place.

    Raises:
        UnknownKindError: nothing has that name.
        DataError: in its kinds, as `fetch`, `fetch_weights` and `fetch_library` tell.
    """
    if name in PUBLISHED_WEIGHTS:
        return fetch_weights(name, data_dir, progress=progress, mirror=mirror)
    if name == LIBRARY:
        return fetch_library(data_dir, progress=progress, mirror=mirror)
    _check_name(name)
    return fetch.fetch(name, data_dir, progress=progress, mirror=mirror)


def everything(data_dir: Path | None = None) -> list[Available]:
    """List data sets, weights and multipliers: what is there, and what is not."""
    root = data_root(data_dir)
    rows = available(data_dir)
    for name in OTHERS:
        path = None if root is None else _place(name, root)
        there = path is not None and path.is_file()
        what = "64 tables" if name == LIBRARY else "weights"
        rows.append(
            Available(name, there, what if there else "", None, None, path if there else None)
        )
    return rows


def verify_anything(name: str, data_dir: Path | None = None) -> list[Check]:
    """Check a data set, weights, or the multipliers, against what was published.

    Raises:
        UnknownKindError: nothing has that name.
        DataError: the data folder does not exist.
    """
    if name not in OTHERS:
        _check_name(name)
        return verify(name, data_dir)
    root = data_root(data_dir)
    path = None if root is None else _place(name, root)
    if path is None or not path.is_file():
        where = f"looked for {path}" if path else "there is no data folder"
        return [Check(name, f"not there, {where}; get it with `bitproof data fetch {name}`", False)]
    if name == LIBRARY:
        wrong = wrong_tables(path)
        said = f"other products: {', '.join(wrong[:3])}" if wrong else "every table is as published"
        return [Check(str(path), said, not wrong)]
    right = is_right(name, path)
    said = "every array is as published" if right else "other weights than the published ones"
    return [Check(str(path), said, right)]


def _place(name: str, root: Path) -> Path:
    return root / FILE if name == LIBRARY else weights_path(name, root)


def _check_name(name: str) -> None:
    known = [*published_kinds(), *OTHERS]
    if name not in known:
        raise UnknownKindError(f"data: no kind {shorten(name)}. {near(name, known)}")
