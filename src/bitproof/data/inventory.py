"""Which data sets are here, and whether their files are the right ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bitproof.core.errors import DataError
from bitproof.core.files import sha256_of_file
from bitproof.data.base import DATA, DataSource
from bitproof.data.download import md5_of_file
from bitproof.data.layout import Layout, data_root, find_file, find_layout
from bitproof.data.own import OwnSource

SUMS = "SHA256SUMS"


class Available(NamedTuple):
    """One set on disk in one layout, or one set that is not there."""

    kind: str
    present: bool
    layout: str
    """Name of the layout; if absent, empty; if unreadable, what is wrong."""
    n_train: int | None
    """Images before the validation split."""
    n_test: int | None
    path: Path | None


class Check(NamedTuple):
    """What became of one file, or of the whole set."""

    file: str
    status: str
    ok: bool


def available(data_dir: Path | None = None) -> list[Available]:
    """List every kind, once for each layout in which it is there; no image is decoded.

    Example:
        >>> [row.n_test for row in available() if row.kind == "digits"]
        [539]

    Raises:
        DataError: the data folder does not exist.
    """
    root = data_root(data_dir)
    rows: list[Available] = []
    for kind in published_kinds():
        found = list(_found(DATA.build(kind), root))
        rows += found or [Available(kind, False, "", None, None, None)]
    return rows


def published_kinds() -> list[str]:
    """Return the kinds that are published sets, not formats of a user's own data.

    Example:
        >>> "cifar10" in published_kinds(), "folder" in published_kinds()
        (True, False)
    """
    return [kind for kind in DATA.kinds() if not issubclass(DATA.find(kind), OwnSource)]


def verify(kind: str, data_dir: Path | None = None) -> list[Check]:
    """Check the files that `load` would take, then that they load.

    Checksums come from `SHA256SUMS` beside or above the files, else from the published MD5.

    Raises:
        UnknownKindError: there is no such source.
        DataError: the data folder does not exist.
    """
    if kind in DATA.kinds() and kind not in published_kinds():
        raise DataError(f"{kind}: wanted a published set, one of {', '.join(published_kinds())}")
    source = DATA.build(kind)
    checks: list[Check] = []
    data_root(data_dir)
    try:
        if source.layouts():
            layout, folder = find_layout(kind, source.layouts(), data_dir)
            checks += _check_files(layout, folder)
        published = source.read(data_dir)
    except DataError as error:
        return [*checks, Check(kind, str(error), False)]
    counts = f"{len(published.train)} training and {len(published.test)} test images"
    return [*checks, Check(kind, f"loads: {counts}", True)]


def _found(source: DataSource, root: Path | None) -> Iterator[Available]:
    if not source.layouts():
        published = source.read(None)
        counts = len(published.train), len(published.test)
        yield Available(source.kind, True, "needs no files", *counts, None)
    for layout in source.layouts():
        complete = (at for at in layout.candidates(root) if not layout.missing(at))
        folder = next(complete, None)
        if folder is not None:
            try:
                yield Available(source.kind, True, layout.name, *layout.count(folder), folder)
            except DataError as error:
                yield Available(source.kind, True, f"unreadable: {error}", None, None, folder)


def _check_files(layout: Layout, folder: Path) -> Iterator[Check]:
    sums = _read_sums(folder.parent) | _read_sums(folder)
    for name in layout.files:
        path = find_file(folder, name)
        if path is None or path.is_dir():
            continue
        if path in sums:
            what, wanted, came = "sha256", sums[path], sha256_of_file(path)
        elif path.name in layout.md5:
            what, wanted, came = "md5", layout.md5[path.name], md5_of_file(path)
        else:
            yield Check(str(path), "no checksum known", True)
            continue
        wrong = f"wanted {what} {wanted}, got {came}"
        yield Check(str(path), f"{what} is right" if came == wanted else wrong, came == wanted)


def _read_sums(folder: Path) -> dict[Path, str]:
    """Return the checksums that `SHA256SUMS` in `folder` gives, by path."""
    if not (folder / SUMS).is_file():
        return {}
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines)
    return {folder / pair[1].removeprefix("*"): pair[0] for pair in pairs if len(pair) == 2}
