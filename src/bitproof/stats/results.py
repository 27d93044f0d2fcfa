"""The result table of a run: one measured number a row, as tidy CSV.

Rates are fractions; `level` is the strength of the threat (bit error rate, epsilon) and empty
where a row sums up several levels. `n` counts independent units: images, or chips.
"""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from bitproof.core.errors import DataError
from bitproof.core.files import write_text


@dataclass(frozen=True)
class Row:
    """One measured number with its 95 % interval.

    Example:
        >>> Row("s1", "random_flips", 1e-3, "acc", 0.9, 0.88, 0.92, 50, "fraction").level
        0.001
    """

    variant: str
    threat: str
    """Kind of the attack or fault model; `none` for clean inputs on a healthy chip."""
    level: float | None
    metric: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    unit: str = "fraction"


COLUMNS = tuple(field.name for field in fields(Row))


def write_results(rows: Iterable[Row], path: Path) -> None:
    """Write `rows` in their order; equal rows give equal bytes.

    Floats are written with the fewest digits that tell them apart, ten at most.

    Raises:
        DataError: a number is not finite.
        StorageError: the disk is full, or the place cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(value, row) for value in astuple(row)])
    write_text(path, text.getvalue())


def read_results(path: Path) -> list[Row]:
    """Return the rows of a result table.

    Raises:
        DataError: the file is missing or malformed; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            f"{path}: wanted the result table of a run, there is no such file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: wanted a table in UTF-8, got {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    seen: dict[tuple[object, ...], int] = {}
    try:
        header = next(reader, [])
        if header != list(COLUMNS):
            wanted, came = ",".join(COLUMNS), ",".join(header) or "nothing"
            raise DataError(f"line 1: wanted the columns {wanted}, got {came}")
        for cells in reader:
            row = _row(cells, f"line {reader.line_num}")
            key = (row.variant, row.threat, row.level, row.metric)
            first = seen.setdefault(key, reader.line_num)
            if first != reader.line_num:
                raise DataError(f"line {reader.line_num}: wanted a new row, got line {first} again")
            rows.append(row)
    except (DataError, csv.Error) as error:
        where = "" if isinstance(error, DataError) else f"line {reader.line_num}: "
        raise DataError(f"{path}, {where}{error}") from None
    return rows


def _row(cells: list[str], where: str) -> Row:
    """Return one checked row."""
    if len(cells) != len(COLUMNS):
        raise DataError(f"{where}: wanted {len(COLUMNS)} cells, got {len(cells)}")
    raw = dict(zip(COLUMNS, cells, strict=True))
    for name in ("variant", "threat", "metric"):
        if not raw[name]:
            raise DataError(f"{where}: wanted a name in '{name}', got nothing")
    value = _number(raw, "value", where)
    if value is None:
        raise DataError(f"{where}: wanted a number in 'value', got nothing")
    low, high = _number(raw, "ci_low", where), _number(raw, "ci_high", where)
    if (low is None) != (high is None) or (low is not None and high is not None and low > high):
        came = f"'{raw['ci_low']}' and '{raw['ci_high']}'"
        raise DataError(f"{where}: wanted ci_low <= ci_high, or both empty, got {came}")
    if raw["metric"] == "acc" and raw["unit"] == "fraction" and not 0 <= value <= 1:
        raise DataError(f"{where}: wanted an accuracy from 0 to 1, got {raw['value']}")
    level = _number(raw, "level", where)
    if level is not None and level < 0:
        raise DataError(f"{where}: wanted a level of 0 or more, got '{raw['level']}'")
    if raw["n"] and not (raw["n"].isascii() and raw["n"].isdigit()):
        raise DataError(f"{where}: wanted a count in 'n', got '{raw['n']}'")
    return Row(
        raw["variant"],
        raw["threat"],
        level,
        raw["metric"],
        value,
        low,
        high,
        int(raw["n"]) if raw["n"] else None,
        raw["unit"],
    )


def _number(raw: dict[str, str], name: str, where: str) -> float | None:
    """Return the finite number in a cell, None where the cell is empty."""
    if not raw[name]:
        return None
    try:
        number = float(raw[name])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: wanted a finite number in '{name}', got '{raw[name]}'")
    return number


def _cell(value: str | float | int | None, row: Row) -> str:
    """Return the text of one value."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        raise DataError(f"results: wanted finite numbers, got {row}")
    return f"{value + 0.0:.10g}"  # + 0.0 turns -0.0 into 0.0
