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
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from bitproof.core.errors import DataError
from bitproof.core.files import read_bytes, write_text
from bitproof.core.spec import describe_problem
from bitproof.stats.intervals import Interval

Name = Annotated[str, Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class Row:
    """One measured number with its 95 % interval.

    Example:
        >>> Row("s1", "random_flips", 1e-3, "acc", 0.9, 0.88, 0.92, 50, "fraction").level
        0.001
    """

    variant: Name
    threat: Name
    """Kind of the attack or fault model; `clean` for clean inputs on a healthy chip."""
    level: Annotated[Finite, Field(ge=0)] | None
    metric: Name
    value: Finite
    ci_low: Finite | None = None
    ci_high: Finite | None = None
    n: Annotated[int, Field(ge=0)] | None = None
    unit: str = "fraction"

    @property
    def interval(self) -> Interval | None:
        """The value between its ends, None where these are not known."""
        if self.ci_low is None or self.ci_high is None:
            return None
        return Interval(self.ci_low, self.value, self.ci_high)


COLUMNS = tuple(field.name for field in fields(Row))
TEXTS = {"variant", "threat", "metric", "unit"}
_ROW = TypeAdapter(Row)


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
        text = read_bytes(path).decode()
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
            raise DataError(f"wanted the columns {wanted}, got {came}")
        for cells in reader:
            row = _row(cells)
            key = (row.variant, row.threat, row.level, row.metric)
            first = seen.setdefault(key, reader.line_num)
            if first != reader.line_num:
                raise DataError(f"wanted a new row, got line {first} again")
            rows.append(row)
    except ValidationError as error:
        problem = describe_problem(dict(error.errors()[0]), BaseModel)
    except (DataError, csv.Error) as error:
        problem = str(error)
    else:
        return rows
    raise DataError(f"{path}, line {max(reader.line_num, 1)}: {problem}")


def as_written(number: float) -> float:
    """Return a number as a result table holds it: levels of other files compare with its own.

    Example:
        >>> as_written(4 / 255) == 4 / 255, as_written(as_written(4 / 255)) == as_written(4 / 255)
        (False, True)
    """
    return float(_digits(number))


def _row(cells: list[str]) -> Row:
    """Return one checked row."""
    if len(cells) != len(COLUMNS):
        raise DataError(f"wanted {len(COLUMNS)} cells, got {len(cells)}")
    row = _ROW.validate_python(
        {
            name: cell if cell or name in TEXTS else None
            for name, cell in zip(COLUMNS, cells, strict=True)
        }
    )
    ends = (row.ci_low, row.ci_high)
    if ends.count(None) == 1 or (row.interval and row.interval.low > row.interval.high):
        raise DataError(f"wanted ci_low <= ci_high, or both empty, got {cells[5:7]}")
    if row.metric == "acc" and row.unit == "fraction" and not 0 <= row.value <= 1:
        raise DataError(f"wanted an accuracy from 0 to 1, got {row.value:g}")
    return row


def _cell(value: str | float | int | None, row: Row) -> str:
    """Return the text of one value."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        raise DataError(f"results: wanted finite numbers, got {row}")
    return _digits(value)


def _digits(value: float) -> str:
    return f"{value + 0.0:.10g}"  # + 0.0 turns -0.0 into 0.0
