"""Tables of numbers on disk: sealed Parquet files.

Two checksums guard a file. The *seal* is the SHA-256 of the file itself, with 64 zeros in the
seal's place: any flipped bit and any cut is found before a byte is parsed. `sha256` is that of the
columns' names, dtypes, lengths and little-endian bytes: it tells equal results from others also
where another pyarrow wrote them.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bitproof.core.errors import DataError
from bitproof.core.files import read_bytes, write_bytes
from bitproof.core.seal import BLANK_SEAL, SEAL, is_sound, seal
from bitproof.faults.kinds import MOST_ROWS
from bitproof.faults.table import ACTIONS, COLUMNS, LIMITS, MOST_TRIALS, SITES, FaultTable

SCHEMA = 1
"""Version of the files' metadata."""
FAULTS = "faults"
"""What the metadata of a fault table say in place of a chunk's number."""


def write_fault_table(table: FaultTable, path: Path) -> None:
    """Write a fault table as Parquet, sealed as parts are."""
    columns = prepare({name: getattr(table, name) for name in COLUMNS})
    facts = {
        "part": FAULTS,
        "layers": json.dumps(table.layers),
        "n_trials": str(table.n_trials),
        "sha256": digest_columns(columns),
    }
    write_bytes(path, encode(columns, facts))


def read_fault_table(path: Path) -> FaultTable:
    """Return the fault table in a file, or raise a DataError if it holds none that is sound."""
    try:
        file = decode(read_bytes(path))
        facts = read_facts(file)
        if facts.get("part") != FAULTS:
            raise DataError(f"holds part {facts.get('part', 'nothing')} of a campaign")
        rows, names = file.metadata.num_rows, file.schema_arrow.names
        if not 0 <= rows <= MOST_ROWS or sorted(names) != sorted(COLUMNS):
            raise DataError(f"{rows} rows of {', '.join(names)[:100]}")
        columns = read_columns(file)
        if digest_columns(columns) != facts["sha256"]:
            raise DataError("its columns are not those that were written")
        layers, n_trials = json.loads(facts["layers"]), int(facts["n_trials"])
        _check_counts(layers, n_trials, columns)
        table = FaultTable.build(layers, n_trials, **columns)
    except OSError as error:
        raise DataError(f"{path}: cannot read the faults ({error.strerror or error})") from None
    except (DataError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: no sound fault table ({_one_line(error)})") from None
    return table


def _check_counts(layers: object, n_trials: int, columns: Mapping[str, np.ndarray]) -> None:
    """Check the numbers of a fault table, or raise a DataError."""
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise DataError("layers are no names")
    if not 0 <= n_trials <= MOST_TRIALS:
        raise DataError(f"wanted at most {MOST_TRIALS} trials, got {n_trials}")
    counts = {"site": len(SITES), "layer": len(layers), "action": len(ACTIONS), "trial": n_trials}
    ends = {**LIMITS, **{name: (0, count - 1) for name, count in counts.items()}}
    for name, (low, high) in ends.items():
        column = columns[name]
        if column.dtype.kind not in "iu":
            raise DataError(f"{name}: wanted integers, got {column.dtype}")
        if len(column) and not low <= column.min() <= column.max() <= high:
            raise DataError(f"{name} out of range")


def prepare(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return integer or float64 columns as stored: contiguous, little-endian, of one length."""
    for name, column in columns.items():
        if column.dtype.kind not in "iu" and column.dtype.newbyteorder("<") != np.dtype("<f8"):
            raise DataError(f"column '{name}': wanted integers or float64, got {column.dtype}")
    shapes = sorted({column.shape for column in columns.values()})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise DataError(f"wanted columns of one length, got the shapes {shapes}")
    return {
        name: np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
        for name, column in columns.items()
    }


def list_types(columns: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return the name and dtype of each column."""
    return [(name, column.dtype.str) for name, column in columns.items()]


def digest_columns(columns: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of names, dtypes, lengths and bytes, for columns as stored."""
    lengths = [len(column) for column in columns.values()]
    digest = hashlib.sha256(json.dumps([list_types(columns), lengths]).encode())
    for column in columns.values():
        digest.update(column.data)
    return digest.hexdigest()


def encode(columns: Mapping[str, np.ndarray], facts: dict[str, str]) -> bytes:
    """Return a sealed Parquet file of columns as stored; `facts` go to its metadata."""
    wide = {name for name, column in columns.items() if column.dtype.itemsize >= 4}
    # A dictionary of floats would merge NaNs of different bits.
    integers = {name for name in wide if columns[name].dtype.kind != "f"}
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=[name for name in columns if name not in wide],
        column_encoding=dict.fromkeys(sorted(integers), "DELTA_BINARY_PACKED"),
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"schema": str(SCHEMA), **facts, "seal": BLANK_SEAL})
    content = sink.getvalue().to_pybytes()
    return seal(content, content.rindex(SEAL))


def decode(content: bytes) -> pq.ParquetFile:
    """Return a sealed Parquet file, or raise a DataError if it is damaged or of another schema."""
    if not is_sound(content, content.rfind(SEAL)):
        raise DataError("cut short or altered")
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
    except (OSError, ValueError) as error:
        raise DataError(f"no Parquet file: {_one_line(error)}") from None
    schema = read_facts(file).get("schema")
    if schema != str(SCHEMA):
        raise DataError(f"schema {schema}, wanted {SCHEMA}")
    return file


def read_facts(file: pq.ParquetFile) -> dict[str, str]:
    """Return what a file's metadata say."""
    metadata = file.metadata.metadata or {}
    return {key.decode(): value.decode(errors="replace") for key, value in metadata.items()}


def read_columns(file: pq.ParquetFile) -> dict[str, np.ndarray]:
    """Return the columns of a file, or raise a DataError if they cannot be decoded."""
    try:
        table = file.read(use_threads=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot decode: {_one_line(error)}") from None
    return {name: table[name].to_numpy() for name in file.schema_arrow.names}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
