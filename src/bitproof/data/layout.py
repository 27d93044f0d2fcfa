"""The ways in which a data set may lie on disk, and the search for one that is there."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.data.dataset import Dataset, Published

Variant = Literal["auto", "full", "mini"]
VARIABLE = "BITPROOF_DATA"
"""Environment variable that names the data folder where no argument does."""
USUAL = (Path("data"), Path("../shared/data"))
"""Where data lie if nobody says so: where `data fetch` puts them, then beside a checkout."""


@dataclass(frozen=True)
class Layout:
    """One way in which a data set may lie on disk.

    A folder is looked for below the data folder; its leading parts may already be the end of the
    data folder's own path, so `--data-dir x/MNIST` finds `MNIST/raw`. An absolute folder is taken
    as it is. In `files`, `a|b` means that either will do.
    """

    name: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    read: Callable[[Path], Published]
    count: Callable[[Path], tuple[int, int]]
    """Returns the numbers of training and test images, without decoding them."""
    variant: Literal["full", "mini"] = "full"
    md5: dict[str, str] = field(default_factory=dict)
    """Published MD5 of files, where it is known."""

    def missing(self, folder: Path) -> list[str]:
        """Return the entries of `files` that are not in `folder`."""
        return [name for name in self.files if find_file(folder, name) is None]

    def candidates(self, root: Path | None) -> list[Path]:
        """Return the folders in which the files may lie, best first."""
        places = []
        for folder in self.folders:
            parts = Path(folder).parts
            if Path(folder).is_absolute():
                places.append(Path(folder))
            elif root is not None:
                places += [
                    root.joinpath(*parts[known:])
                    for known in range(len(parts) + 1)
                    if root.parts[len(root.parts) - known :] == parts[:known]
                ]
        return places


def two_part_layout(
    name: str,
    folders: tuple[str, ...],
    *,
    train: Sequence[str],
    test: Sequence[str],
    read: Callable[[list[Path]], Dataset],
    count: Callable[[list[Path]], int],
    groups: Callable[[list[Path]], Tensor] | None = None,
    md5: dict[str, str] | None = None,
) -> Layout:
    """Return a layout whose training and test files are read by the same functions."""

    def paths(folder: Path, names: Sequence[str]) -> list[Path]:
        return [locate(folder, name) for name in names]

    return Layout(
        name=name,
        folders=folders,
        files=(*train, *test),
        read=lambda at: Published(
            train=read(paths(at, train)),
            test=read(paths(at, test)),
            groups=groups(paths(at, train)) if groups else None,
        ),
        count=lambda at: (count(paths(at, train)), count(paths(at, test))),
        md5=md5 or {},
    )


def of_variant(wanted: Variant, layouts: Sequence[Layout]) -> tuple[Layout, ...]:
    """Return the layouts of one variant; `auto` takes all."""
    return tuple(layout for layout in layouts if wanted in {"auto", layout.variant})


def data_root(data_dir: Path | str | None) -> Path | None:
    """Return the argument, else the folder of `BITPROOF_DATA`, else the first of `USUAL`, or None.

    Raises:
        DataError: there is no such folder.
    """
    named = data_dir or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is None:
        return next((folder.resolve() for folder in USUAL if folder.is_dir()), None)
    root = Path(named).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist (--data-dir, {VARIABLE})")
    return root


def find_file(folder: Path, name: str) -> Path | None:
    """Return the first of the alternatives `a|b|...` that exists in `folder`."""
    paths = (folder / alternative for alternative in name.split("|"))
    return next((path for path in paths if path.exists()), None)


def locate(folder: Path, name: str) -> Path:
    """Return `find_file`, or where the first alternative would be."""
    return find_file(folder, name) or folder / name.partition("|")[0]


def find_layout(kind: str, layouts: Sequence[Layout], data_dir: Path | None) -> tuple[Layout, Path]:
    """Return the first complete layout and its folder.

    Half a full set never falls through to the mini set: it is an error.

    Raises:
        DataError: none is there, or only a part of one.
    """
    root = data_root(data_dir)
    partial = ""
    for layout in layouts:
        if partial and layout.variant == "mini":
            break
        for folder in layout.candidates(root):
            missing = layout.missing(folder)
            if not missing:
                return layout, folder
            if len(missing) < len(layout.files) and not partial:
                partial = f"{kind}: incomplete in {folder}, wanted also {_listing(missing)}"
    raise DataError(
        f"{partial or _nothing_found(kind, layouts, root)}. Get them with `bitproof data fetch "
        f"{kind}`, or name the folder that holds them with --data-dir or {VARIABLE}."
    )


def _nothing_found(kind: str, layouts: Sequence[Layout], root: Path | None) -> str:
    places = [
        f"{' or '.join(map(str, folders))} ({_listing(layout.files)})"
        for layout in layouts
        if (folders := layout.candidates(root) if root else layout.folders)
    ]
    where = "" if root else f"no --data-dir, and {VARIABLE} is not set; "
    return f"{kind}: not found: {where}looked for {'; or '.join(places)}"


def _listing(names: Sequence[str]) -> str:
    """Return names for a message: all, or the ends of a long list."""
    shown = [name.partition("|")[0] for name in names]
    if len(shown) > 6:
        shown = [shown[0], shown[1], f"... ({len(shown)} in all)", shown[-1]]
    return ", ".join(shown)
