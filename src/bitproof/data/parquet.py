"""Tables of images as Hugging Face publishes them: parquet shards, or sets saved by `datasets`.

Model:  files are those of `shards`. Images are structs of `bytes` and `path`, or
        bytes, decoded as in `decoding`; other inputs are lists of numbers, as wide in every row.
        Names of classes come from the features that `datasets` writes into the file.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from bitproof.core.errors import DataError, near, shorten
from bitproof.data.arrays import check_pixels
from bitproof.data.axes import AxisLayout, channels_first
from bitproof.data.base import DATA
from bitproof.data.dataset import Dataset, Published
from bitproof.data.decoding import Decoder
from bitproof.data.folder import PictureSource
from bitproof.data.loading import INPUTS, LABELS
from bitproof.data.memory import FEWER, check_fits
from bitproof.data.own import cut_note, cut_test, mixed_order, publish, with_test
from bitproof.data.shards import Shard, find_shards, pieces_of, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 256
"""Images that are decoded before the next ones are read."""
UNPUBLISHED = -1
"""Label of rows whose class was kept back."""
LARGEST = 2**31 - 1
"""Bytes of one image's file."""


@DATA.register
class Parquet(PictureSource):
    """Images or other inputs in parquet files, or in a folder that `datasets` saved.

    Example:
        >>> Parquet(path="cifar10", size=32).label
        ''
    """

    kind: Literal["parquet"] = "parquet"
    image: str = ""
    """Column of the inputs; none: the usual names (image, img, ...)."""
    label: str = ""
    """Column of the labels; none: the usual names (label, fine_label, ...)."""
    layout: AxisLayout = "auto"
    """Where the channels of lists of numbers are, as in `npz`; pictures in files need none."""

    def read(self, data_dir: Path | None) -> Published:
        """Return the images of all parts, decoded.

        Raises:
            DataError: files are missing or damaged; columns are other ones; an image does not
                decode; classes differ between parts; all together do not fit into memory.
        """
        path = self.find(data_dir)
        name = path.resolve().stem if path.is_file() else path.resolve().name
        shards = find_shards(path)
        if "train" not in shards:
            raise DataError(f"{path}: wanted a training part, got {', '.join(shards)}")
        notes: list[str] = []
        train = _Table(shards["train"], self.image, self.label)
        tables = {}
        for part, own in shards.items():
            table = train if part == "train" else _Table(own, self.image, self.label, like=train)
            if part != "train" and bool((table.labels == UNPUBLISHED).all()):
                notes.append(f"the {part} part has no labels (all are -1): left out")
            else:
                table.check_labels(train)
                tables[part] = table
        tables = with_test(tables, notes)
        rows = {part: torch.arange(len(table.labels)) for part, table in tables.items()}
        if "test" not in tables:
            labels = tables["train"].labels
            kept, held = cut_test(labels, self.test_fraction, seed=self.split_seed)
            if not len(held):
                raise DataError(
                    f"{path}: wanted enough rows to cut a test part of, got {len(kept)}"
                )
            notes.append(cut_note(len(held), len(labels), self))
            tables["test"] = tables["train"]
            # Mixed here, before sizes are cut off: shards are often sorted by class.
            rows = {"train": kept, "test": held}
        rows = {part: own[mixed_order(len(own))] for part, own in rows.items()}
        sizes = {"train": self.train_size, "test": self.test_size}
        sets = {
            part: self._load(tables[part], own[: sizes.get(part)], name)
            for part, own in rows.items()
        }
        every = {part: tables[part].labels[own] for part, own in rows.items()}
        return publish(self, sets, notes=notes, labels=every)

    def _load(self, table: "_Table", rows: Tensor, name: str) -> Dataset:
        """Return the images of some rows, in that order."""
        labels = table.labels[rows]
        names = table.class_names
        n_classes = len(names) or int(table.labels.max()) + 1
        place_of = torch.full((len(table.labels),), -1)
        place_of[rows] = torch.arange(len(rows))
        if table.holds_pictures and self.layout != "auto":
            raise DataError(
                f"{name}: wanted no layout = '{self.layout}' of pictures in files, whose axes are "
                "known; leave it out"
            )
        images = (
            self._pictures(table, place_of, len(rows), name)
            if table.holds_pictures
            else table.numbers(place_of, len(rows), self.layout)
        )
        return Dataset.from_arrays(
            images, labels, name=name, n_classes=n_classes, layout="channels_first"
        ).with_names(names)

    def _pictures(self, table: "_Table", place_of: Tensor, n: int, name: str) -> Tensor:
        decoder = Decoder(name, n, self.form)
        for first, column in table.pieces():
            wanted = [
                (int(place_of[first + at]), at)
                for at in range(len(column))
                if place_of[first + at] >= 0
            ]
            files = [_content(column[at].as_py(), table, first + at) for _, at in wanted]
            names = [f"{table.column}, row {first + at}" for _, at in wanted]
            decoder.decode([place for place, _ in wanted], files, names)
        return decoder.images


class _Table:
    """The shards of one part: labels in memory, inputs read piece by piece."""

    def __init__(
        self, shards: Sequence[Shard], image: str, label: str, *, like: "_Table | None" = None
    ) -> None:
        """Read the labels; words get the numbers that they have in the table `like`.

        Raises:
            DataError: columns are other ones, labels are none, or a word is not in that table.
        """
        self.shards = shards
        schema = schema_of(shards[0])
        for shard in shards[1:]:
            if not schema_of(shard).equals(schema):
                raise DataError(f"{shard.path}: wanted the columns of {shards[0].path.name}")
        self.column = _column(schema, image, INPUTS, "image", shards[0].path)
        self.label = _column(schema, label, LABELS, "label", shards[0].path)
        self.holds_pictures = _holds_pictures(schema.field(self.column).type)
        self.class_names = _class_names(schema, self.label)
        self.holds_words = _holds_words(schema.field(self.label).type)
        self.labels = self._labels(like)

    def _labels(self, like: "_Table | None") -> Tensor:
        """Return all labels; words are numbered in their order, or as in another table."""
        import pyarrow as pa  # noqa: PLC0415 (slow to import)

        words: list[Any] = []
        for _, column in pieces_of(self.shards, self.label, rows=2**16):
            words += column.to_pylist()
        where = f"{self.shards[0].path}: {self.label}"
        if not words:
            raise DataError(f"{where}: wanted rows, there are none")
        if any(word is None for word in words):
            raise DataError(f"{where}: wanted a label in every row, some have none")
        kind = schema_of(self.shards[0]).field(self.label).type
        if self.holds_words:
            self.class_names = tuple(sorted({*words}))
            if like is not None and like.holds_words:
                self.class_names = like.class_names
            numbers = {word: number for number, word in enumerate(self.class_names)}
            if other := sorted({*words} - {*numbers}):
                shown = ", ".join(map(shorten, other[:3])) + (", ..." if len(other) > 3 else "")
                raise DataError(
                    f"{where}: wanted the classes of training, got {shown}, which training lacks. "
                    f"{near(other[0], self.class_names)}"
                )
            return torch.tensor([numbers[word] for word in words])
        if not pa.types.is_integer(kind) and not pa.types.is_boolean(kind):
            raise DataError(f"{where}: wanted whole numbers or words as labels, got {kind}")
        return torch.tensor([int(word) for word in words])

    def check_labels(self, train: "_Table") -> None:
        """Refuse classes that there are not.

        Raises:
            DataError: one is below 0, or without a name where there are names; labels are words,
                and numbers in the training part, or the other way round.
        """
        where = f"{self.shards[0].path}: {self.label}"
        if self.holds_words != train.holds_words:
            kinds = ("whole numbers", "words")
            raise DataError(
                f"{where}: wanted {kinds[train.holds_words]} as labels, as training has, "
                f"got {kinds[self.holds_words]}"
            )
        if int(self.labels.min()) < 0:
            raise DataError(
                f"{where}: wanted classes from 0, got {int(self.labels.min())}; -1 marks rows "
                "whose label was not published"
            )
        if self.class_names and int(self.labels.max()) >= len(self.class_names):
            raise DataError(
                f"{where}: wanted classes below {len(self.class_names)}, "
                f"got {int(self.labels.max())}"
            )

    def pieces(self) -> Iterator[tuple[int, "pa.Array"]]:
        """Yield inputs, a few rows at a time, and the number of the first of them."""
        yield from pieces_of(self.shards, self.column, rows=ROWS)

    def numbers(self, place_of: Tensor, n: int, layout: AxisLayout) -> Tensor:
        """Return inputs that are lists of numbers, by their places."""
        found: np.ndarray | None = None
        kind = _kind_of_numbers(schema_of(self.shards[0]).field(self.column).type)
        brightest = None
        for first, column in self.pieces():
            where = f"{self.shards[0].path}: {self.column}, rows from {first}"
            try:
                values = np.array(column.to_pylist())
            except ValueError as error:
                raise DataError(f"{where}: wanted lists of one length ({error})") from None
            if values.dtype.kind not in "uif" or values.ndim < 2 or not values.size:
                raise DataError(f"{where}: wanted images, or lists of numbers of one length")
            if values.dtype.kind in "ui" and values.ndim > 2:
                low, high = int(values.min()), int(values.max())
                brightest = max(brightest or 0, high)
                # Whether 0 and 1 are all that there is, is known after the last piece.
                if low < 0 or high > 1:
                    check_pixels(low, high, kind, where=where)
                values = values.astype(np.uint8)
            values = channels_first(values, layout, where=where)
            if found is None:
                check_fits(
                    where, (n, *values.shape[1:]), itemsize=values.dtype.itemsize, cure=FEWER
                )
                found = np.zeros((n, *values.shape[1:]), values.dtype)
            if values.shape[1:] != found.shape[1:]:
                raise DataError(f"{where}: wanted lists of one length in all rows")
            places = place_of[first : first + len(values)].numpy()
            found[places[places >= 0]] = values[places >= 0]
        assert found is not None
        if brightest is not None and kind != "uint8":
            check_pixels(0, brightest, kind, where=f"{self.shards[0].path}: {self.column}")
        if found.dtype.kind in "ui" and found.ndim == 2:
            found = found.astype(np.int64)
        return torch.from_numpy(found)


def _column(schema: "pa.Schema", said: str, usual: Sequence[str], field: str, path: Path) -> str:
    names = list(schema.names)
    if said:
        if said not in names:
            raise DataError(f"{path}: no column '{said}' for parquet.{field}. {near(said, names)}")
        return said
    found = next((name for name in usual if name in names), None)
    if found is None:
        raise DataError(
            f"{path}: wanted a column {' or '.join(usual[:3])}, got {', '.join(names)[:300]}; name "
            f"it with {field} = "
        )
    return found


def _holds_pictures(kind: "pa.DataType") -> bool:
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _kind_of_numbers(kind: "pa.DataType") -> str:
    """Return the type of the numbers in lists of lists."""
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return str(kind)


def _holds_words(kind: "pa.DataType") -> bool:
    import pyarrow as pa  # noqa: PLC0415

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _class_names(schema: "pa.Schema", label: str) -> tuple[str, ...]:
    """Return the names that `datasets` wrote into the file, if it did."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return ()
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return ()


def _content(value: Any, table: _Table, row: int) -> bytes:
    """Return the bytes of an image's file."""
    found = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(found, bytes) or not found or len(found) > LARGEST:
        raise DataError(
            f"{table.shards[0].path}: {table.column}, row {row}: wanted the bytes of an image, "
            "got none; a set that only names files cannot be read"
        )
    return found
