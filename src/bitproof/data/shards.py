"""Files that hold the parts of a table together: parquet shards, and Arrow streams of `datasets`.

Model:  a folder with shards `train-00000-of-00002.parquet`, `test-....parquet` (in any folder below
        it), or one file; or what `save_to_disk` wrote (`dataset_dict.json`, `state.json`, Arrow
        streams), which is read without that package.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitproof.core.errors import DataError, shorten
from bitproof.data.own import PARTS

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Shard:
    """Part of a table in one file."""

    path: Path
    is_stream: bool = False
    """An Arrow stream, as `save_to_disk` writes it; else parquet."""


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


def schema_of(shard: Shard) -> "pa.Schema":
    """Return the columns of a shard, with their types.

    Raises:
        DataError: it is damaged, or another file.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        if shard.is_stream:
            with pa.OSFile(str(shard.path), "rb") as source, pa.ipc.open_stream(source) as stream:
                return stream.schema
        return pq.read_schema(shard.path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(shard, error) from None


def pieces_of(
    shards: Sequence[Shard], column: str, *, rows: int
) -> Iterator[tuple[int, "pa.Array"]]:
    """Yield one column, at most `rows` rows at a time, and the number of the first of them.

    Raises:
        DataError: a shard is damaged.
    """
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
