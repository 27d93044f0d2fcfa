"""Tables of images as Hugging Face publishes them: parquet shards, or sets saved by `datasets`.

Model:  a folder with shards `train-00000-of-00002.parquet`, `test-....parquet` (in any folder below
        it), or one file; or what `save_to_disk` wrote (`dataset_dict.json`, `state.json`, Arrow
        streams), which is read without that package. Images are structs of `bytes` and `path`, or
        bytes, decoded as in `decoding`; other inputs are lists of numbers, as wide in every row.
        Names of classes come from the features that `datasets` writes into the file.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from bitproof.core.errors import DataError, near, shorten
from bitproof.data.axes import channels_first
from bitproof.data.base import DATA
from bitproof.data.dataset import Dataset, Published
from bitproof.data.decoding import Decoder
from bitproof.data.folder import PictureSource
from bitproof.data.loading import INPUTS, LABELS
from bitproof.data.memory import FEWER, check_fits
from bitproof.data.own import cut_note, cut_test, mixed_order, publish

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""Words that file names, or the names of their folders, begin with; a number may follow."""
ROWS = 256
"""Images that are decoded before the next ones are read."""
UNPUBLISHED = -1
"""Label of rows whose class was kept back."""
LARGEST = 2**31 - 1
"""Bytes of one image's file."""


@dataclass(frozen=True)
class Shard:
    """Part of a table in one file."""

    path: Path
    is_stream: bool = False
    """An Arrow stream, as `save_to_disk` writes it; else parquet."""


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

    def read(self, data_dir: Path | None) -> Published:
        """Return the images of all parts, decoded.

        Raises:
            DataError: files are missing or damaged; columns are other ones; an image does not
                decode; classes differ between parts; all together do not fit into memory.
        """
        path = self.find(data_dir)
        name = path.resolve().stem if path.is_file() else path.resolve().name
        shards = find_shards(path)
        notes: list[str] = []
        tables = {}
        for part, own in shards.items():
            table = _Table(own, self.image, self.label)
            if part != "train" and bool((table.labels == UNPUBLISHED).all()):
                notes.append(f"the {part} part has no labels (all are -1): left out")
            else:
                table.check_labels()
                tables[part] = table
        if "train" not in tables:
            raise DataError(f"{path}: wanted a training part, got {', '.join(tables)}")
        if "test" not in tables and "validation" in tables:
            notes.append("there is no test part: validation is the test part")
            tables["test"] = tables.pop("validation")
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
        return publish(
            self,
            sets["train"],
            validation=sets.get("validation"),
            test=sets["test"],
            notes=notes,
        )

    def _load(self, table: "_Table", rows: Tensor, name: str) -> Dataset:
        """Return the images of some rows, in that order."""
        labels = table.labels[rows]
        names = table.class_names
        n_classes = len(names) or int(table.labels.max()) + 1
        place_of = torch.full((len(table.labels),), -1)
        place_of[rows] = torch.arange(len(rows))
        images = (
            self._pictures(table, place_of, len(rows), name)
            if table.holds_pictures
            else table.numbers(place_of, len(rows))
        )
        return Dataset.from_arrays(images, labels, name=name, n_classes=n_classes).with_names(names)

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


def find_shards(path: Path) -> dict[str, list[Shard]]:
    """Return the files of each part.

    Raises:
        DataError: there are none, or a file belongs to no part.
    """
    if path.is_file():
        if path.suffix.lower() != ".parquet":
            raise DataError(f"{path}: wanted a name that ends in .parquet, or a folder of such")
        return {"train": [Shard(path)]}
    if (path / "dataset_dict.json").is_file():
        return _saved_parts(path)
    if (path / "state.json").is_file():
        return {"train": _saved(path)}
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise DataError(
            f"{path}: wanted .parquet files, or a set that `datasets` saved; there are none"
        )
    found: dict[str, list[Shard]] = {}
    if len(files) == 1 and _part_of(files[0].relative_to(path)) is None:
        return {"train": [Shard(files[0])]}
    for file in files:
        part = _part_of(file.relative_to(path))
        if part is None:
            raise DataError(
                f"{file}: belongs to no part; wanted names such as train-0.parquet, test.parquet"
            )
        found.setdefault(part, []).append(Shard(file))
    return found


def _saved_parts(folder: Path) -> dict[str, list[Shard]]:
    """Return the files of each part of several that `save_to_disk` wrote."""
    path = folder / "dataset_dict.json"
    names = _read_json(path).get("splits", [])
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: wanted a list 'splits'")
    found: dict[str, list[Shard]] = {}
    for name in map(str, names):
        part = _part_of(Path(name)) if Path(name).name == name else None
        if part is None or part in found:
            known = ", ".join(map(str, names))
            raise DataError(
                f"{path}: wanted parts train, validation and test, got {shorten(known)}; save "
                "those that you mean under these names"
            )
        found[part] = _saved(folder / name)
    return found


def _part_of(path: Path) -> str | None:
    """Return the part that a file belongs to, by its name, else by that of its folders."""
    for word in reversed(path.parts):
        stem = word.lower().removesuffix(".parquet")
        for part, names in PARTS.items():
            if any(re.fullmatch(rf"{name}([-_.]?\d.*)?", stem) for name in names):
                return part
    return None


def _saved(folder: Path) -> list[Shard]:
    """Return the Arrow files of a set that `save_to_disk` wrote."""
    files = _read_json(folder / "state.json").get("_data_files", [])
    files = files if isinstance(files, list) else []
    names = [each.get("filename") for each in files if isinstance(each, dict)]
    if not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise DataError(f"{folder / 'state.json'}: wanted the names of its files as '_data_files'")
    if _read_json(folder / "state.json").get("_indices_data_files"):
        raise DataError(f"{folder}: wanted a set without indices; call flatten_indices() first")
    return [Shard(folder / str(name), is_stream=True) for name in names]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: wanted a table, got {shorten(found)}")
    return found


class _Table:
    """The shards of one part: labels in memory, inputs read piece by piece."""

    def __init__(self, shards: Sequence[Shard], image: str, label: str) -> None:
        self.shards = shards
        schema = _schema(shards[0])
        for shard in shards[1:]:
            if not _schema(shard).equals(schema):
                raise DataError(f"{shard.path}: wanted the columns of {shards[0].path.name}")
        self.column = _column(schema, image, INPUTS, "image", shards[0].path)
        self.label = _column(schema, label, LABELS, "label", shards[0].path)
        self.holds_pictures = _holds_pictures(schema.field(self.column).type)
        self.class_names = _class_names(schema, self.label)
        self.labels = self._labels()

    def _labels(self) -> Tensor:
        """Return all labels; words are numbered in their order."""
        import pyarrow as pa  # noqa: PLC0415 (slow to import)

        words: list[Any] = []
        for _, column in _pieces(self.shards, self.label, rows=2**16):
            words += column.to_pylist()
        where = f"{self.shards[0].path}: {self.label}"
        if not words:
            raise DataError(f"{where}: wanted rows, there are none")
        if any(word is None for word in words):
            raise DataError(f"{where}: wanted a label in every row, some have none")
        kind = _schema(self.shards[0]).field(self.label).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self.class_names = tuple(sorted({*words}))
            numbers = {word: number for number, word in enumerate(self.class_names)}
            return torch.tensor([numbers[word] for word in words])
        if not pa.types.is_integer(kind) and not pa.types.is_boolean(kind):
            raise DataError(f"{where}: wanted whole numbers or words as labels, got {kind}")
        return torch.tensor([int(word) for word in words])

    def check_labels(self) -> None:
        """Refuse classes that there are not.

        Raises:
            DataError: one is below 0, or without a name where there are names.
        """
        where = f"{self.shards[0].path}: {self.label}"
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
        yield from _pieces(self.shards, self.column, rows=ROWS)

    def numbers(self, place_of: Tensor, n: int) -> Tensor:
        """Return inputs that are lists of numbers, by their places."""
        found: np.ndarray | None = None
        for first, column in self.pieces():
            where = f"{self.shards[0].path}: {self.column}, rows from {first}"
            try:
                values = np.array(column.to_pylist())
            except ValueError as error:
                raise DataError(f"{where}: wanted lists of one length ({error})") from None
            if values.dtype.kind not in "uif" or values.ndim < 2:
                raise DataError(f"{where}: wanted images, or lists of numbers of one length")
            if values.dtype.kind in "ui" and values.ndim > 2:
                if values.min() < 0 or values.max() > 255:
                    raise DataError(f"{where}: wanted pixels from 0 to 255")
                values = values.astype(np.uint8)
            values = channels_first(values, "auto", where=where)
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
        if found.dtype.kind in "ui" and found.ndim == 2:
            found = found.astype(np.int64)
        return torch.from_numpy(found)


def _schema(shard: Shard) -> "pa.Schema":
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        if shard.is_stream:
            with pa.OSFile(str(shard.path), "rb") as source, pa.ipc.open_stream(source) as stream:
                return stream.schema
        return pq.read_schema(shard.path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(shard, error) from None


def _pieces(shards: Sequence[Shard], column: str, *, rows: int) -> Iterator[tuple[int, "pa.Array"]]:
    """Yield one column, at most `rows` rows at a time, and the number of the first of them."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    first = 0
    for shard in shards:
        try:
            if shard.is_stream:
                with pa.OSFile(str(shard.path), "rb") as source:
                    for batch in pa.ipc.open_stream(source):
                        whole = batch.column(column)
                        for start in range(0, len(whole), rows):
                            piece = whole.slice(start, rows)
                            yield first, piece
                            first += len(piece)
                continue
            with pq.ParquetFile(shard.path) as file:
                for batch in file.iter_batches(batch_size=rows, columns=[column]):
                    yield first, batch.column(0)
                    first += batch.num_rows
        except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
            raise _damaged(shard, error) from None


def _damaged(shard: Shard, error: BaseException) -> DataError:
    what = "an Arrow stream" if shard.is_stream else "a parquet file"
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return DataError(f"{shard.path}: wanted {what}, whole and undamaged: {reason}")


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
