"""Folders of images, one folder for each class: the layout of torchvision's ImageFolder.

Model:  DIR/train/CLASS/IMAGE, DIR/val (or valid, validation), DIR/test; or DIR/CLASS/IMAGE alone,
        from which a test part is cut. Classes are numbered in the order of their names, as
        ImageFolder does, so that weights trained there fit. Images come in a mixed order, the same
        on every machine: the first n are a fair sample.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field

from bitproof.core.errors import DataError, near, shorten
from bitproof.data.base import DATA
from bitproof.data.dataset import Dataset, Published
from bitproof.data.decoding import SUFFIXES, Decoder, Fit, Form
from bitproof.data.own import (
    PARTS,
    FileSource,
    cut_note,
    cut_test,
    mixed_order,
    shared_images,
    with_test,
)

Side = Annotated[int, Field(ge=1, le=8192, strict=True)]


def _square(size: object) -> object:
    """Return height and width of a square, whose side is said once."""
    return (size, size) if isinstance(size, int) and not isinstance(size, bool) else size


Size = Annotated[tuple[Side, Side] | None, BeforeValidator(_square)]
ClassNames = Annotated[tuple[str, ...], Field(max_length=100_000)]

Files = list[tuple[Path, int]]
"""Images of a part, with their classes."""


class PictureSource(FileSource):
    """Data whose images are pictures in files, and must be brought to one form."""

    size: Size = None
    """Height and width in pixels, one number where they are equal; none: as the files have it."""
    fit: Fit = "crop"
    """How another shape becomes that size: `crop` scales the shorter side and cuts the centre out,
    `stretch` changes the aspect. Bilinear, antialiased."""
    channels: Literal[1, 3] = 3
    """3: RGB; 1: grey."""

    @property
    def form(self) -> Form:
        """What every image becomes."""
        return Form(channels=self.channels, size=self.size, fit=self.fit)


@DATA.register
class Folder(PictureSource):
    """Images in one folder for each class.

    Example:
        >>> Folder(path="pets", size=64).form
        Form(channels=3, size=(64, 64), fit='crop')
    """

    kind: Literal["folder"] = "folder"
    classes: ClassNames = ()
    """Names of the classes in the order of the network's outputs; none: sorted."""

    def read(self, data_dir: Path | None) -> Published:
        """Return the images of all parts, decoded.

        Raises:
            DataError: there is no such folder, or it has another layout; classes differ between
                parts; a file is no image, or larger than memory.
        """
        root = self.find(data_dir)
        if not root.is_dir():
            raise DataError(f"folder: wanted a folder of images, {root} is a file")
        notes: list[str] = []
        names, files = self._files(root, notes)
        for part, size in (("train", self.train_size), ("test", self.test_size)):
            # Before decoding: what is not asked for is not read.
            files[part] = files[part][:size]
        name = root.resolve().name or "folder"
        sets = {part: self._decode(own, name, names, root) for part, own in files.items() if own}
        notes += shared_images(sets["train"], sets["test"])
        return Published(
            train=sets["train"],
            test=sets["test"],
            validation=sets.get("validation"),
            notes=tuple(notes),
        )

    def _files(self, root: Path, notes: list[str]) -> tuple[tuple[str, ...], dict[str, Files]]:
        """Return names of classes, and the files of each part in the order that they get."""
        found = {part: _first_folder(root, names) for part, names in PARTS.items()}
        folders = {part: folder for part, folder in found.items() if folder is not None}
        if "train" not in folders:
            if folders:
                raise DataError(f"folder: wanted {root / 'train'} beside {min(folders.values())}")
            folders = {"train": root}
        folders = with_test(folders, notes)
        names = self._names(_classes_in(folders["train"]), folders["train"])
        files = {}
        for part, folder in folders.items():
            _check_same_classes(names, _classes_in(folder), folder)
            files[part] = _mixed(_list_images(folder, names, notes))
        return names, files if "test" in files else self._cut(files, root, notes)

    def _cut(self, files: dict[str, Files], root: Path, notes: list[str]) -> dict[str, Files]:
        """Return the parts with a test part that is cut off the training part."""
        every = files["train"]
        labels = torch.tensor([label for _, label in every])
        kept, held = cut_test(labels, self.test_fraction, seed=self.split_seed)
        if not len(held):
            raise DataError(
                f"{root}: wanted enough images to cut a test part of {self.test_fraction:g}, "
                f"got {len(every)}"
            )
        notes.append(cut_note(len(held), len(every), self))
        parts = {"train": kept, "test": held}
        return files | {part: [every[n] for n in own.tolist()] for part, own in parts.items()}

    def _names(self, found: list[str], folder: Path) -> tuple[str, ...]:
        if len(found) < 2:
            raise DataError(
                f"{folder}: wanted one folder for each class, at least two, got "
                f"{', '.join(found) or 'none'}"
            )
        if not self.classes:
            return tuple(found)
        if sorted(self.classes) != sorted(found):
            _check_same_classes(self.classes, found, folder)
            raise DataError("folder.classes: wanted each name once")
        return self.classes

    def _decode(self, files: Files, name: str, names: tuple[str, ...], root: Path) -> Dataset:
        decoder = Decoder(name, len(files), self.form)
        paths = [path for path, _ in files]
        decoder.decode(range(len(files)), paths, [str(path.relative_to(root)) for path in paths])
        return Dataset(
            name=name,
            images=decoder.images,
            labels=torch.tensor([label for _, label in files]),
            n_classes=len(names),
            class_names=names,
        )


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _classes_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are none."""
    try:
        with os.scandir(folder) as entries:
            names = [each.name for each in entries if each.is_dir() and each.name[:1] != "."]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(names)


def _check_same_classes(wanted: Sequence[str], found: Sequence[str], folder: Path) -> None:
    lacking, other = sorted({*wanted} - {*found}), sorted({*found} - {*wanted})
    if not (lacking or other):
        return
    if not found:
        raise DataError(f"{folder}: wanted one folder for each class, there is none")
    said = []
    if lacking:
        said.append(f"no class {_few(lacking)}")
    if other:
        said.append(f"{_few(other)}, which training lacks")
    hint = f" {near(other[0], wanted)}" if other and len(wanted) <= 100 else ""
    raise DataError(f"{folder}: wanted the classes of training, got {', but '.join(said)}.{hint}")


def _list_images(folder: Path, names: Sequence[str], notes: list[str]) -> Files:
    """Return the images of all classes, sorted by name; what else lies there is noted."""
    files: Files = []
    others: list[str] = []
    for label, name in enumerate(names):
        own, left = _images_below(folder / name)
        if not own:
            raise DataError(
                f"{folder / name}: wanted images, there are none ({', '.join(sorted(SUFFIXES))})"
            )
        files += [(path, label) for path in own]
        others += left
    if others:
        shown = ", ".join(map(shorten, sorted(others)[:3])) + (", ..." if len(others) > 3 else "")
        notes.append(f"{folder}: left out what is no image: {len(others)} files ({shown})")
    return files


def _images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images below a folder, sorted, and the names of other files."""
    images, others = [], []
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith("."):
                continue
            path = Path(place) / name
            if path.suffix.lower() in SUFFIXES:
                images.append(path)
            else:
                others.append(name)
    return sorted(images), others


def _mixed(files: Files) -> Files:
    return [files[number] for number in mixed_order(len(files)).tolist()]


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(shorten, names[:3])) + (", ..." if len(names) > 3 else "")
