"""One reproduced number as a small JSON file: `results/SIZE/TABLE/CELL.json`.

The keys and their order are a public contract. A file is only ever written whole, and read back
strictly: what reads is exactly what would be written again.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bitproof.core.errors import DataError
from bitproof.core.files import write_text
from bitproof.core.spec import describe_problems
from bitproof.core.types import Count, NonNegative, Seed
from bitproof.reproduce.cells import Cell
from bitproof.reproduce.jobs import SIZES, Size
from bitproof.reproduce.tables import TABLES

Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Word = Annotated[str, Field(pattern=r"^[\w+-]+$")]
DIGEST = r"^recipe:[0-9a-f]{16} behaviour:[0-9a-f]{16}$"


class CellResult(BaseModel):
    """A finished cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: Word
    cell: str
    """Name of the cell, and of the file."""
    network: Word
    dataset: Word
    variant: Word
    threat: Word
    """Kind of attack or fault; `clean` for clean inputs on a healthy chip."""
    level: Number | None
    """Bit error rate, radius in input units, or loss of accuracy for `energy_saved`; null where
    the metric sums up several."""
    metric: Word
    """`acc`, `auc_fr`, `gain` or `energy_saved`."""
    value: Number
    ci_low: Number
    """Ends of the 95 % interval."""
    ci_high: Number
    n: Count
    """Units of one run that the interval stands on: images, chips, or blocks of images."""
    unit: Word
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Seeds of training that the value is the mean of."""
    digest: Annotated[str, Field(pattern=DIGEST)]
    """Of the recipe that the number came from, and of how the code behaved; see `behaviour`."""
    versions: dict[str, str]
    """Of bitproof, torch, numpy and python."""
    device: str
    seconds: NonNegative
    """Time to train (`float`), harden (the others) and measure the variant, all seeds together."""
    published: Number | None
    """The number that a paper states, if any."""
    published_source: str
    trust: str
    """How far the published number can be trusted: a mark of METHODS."""

    @model_validator(mode="after")
    def _check(self) -> "CellResult":
        if self.cell != self.key.name:
            raise ValueError(f"cell: wanted '{self.key.name}', which its parts make")
        if not self.ci_low <= self.value <= self.ci_high:
            raise ValueError("value: wanted it between ci_low and ci_high")
        if list(self.versions) != ["bitproof", "torch", "numpy", "python"]:
            raise ValueError("versions: wanted those of bitproof, torch, numpy and python")
        if (self.published is None) != (not self.published_source) or (
            self.published is None and self.trust
        ):
            raise ValueError("published: wanted number, source and trust together, or none")
        return self

    @property
    def key(self) -> Cell:
        """The cell that it fills."""
        names = ("table", "network", "dataset", "variant", "threat", "level", "metric")
        return Cell(*(getattr(self, name) for name in names))

    def text(self) -> str:
        """Return the content of the file."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"


FIELDS = tuple(CellResult.model_fields)


def result_path(results: Path, size: Size, cell: Cell) -> Path:
    """Return where a cell's file lies.

    Example:
        >>> cell = Cell("resq-matrix", "lenet5", "mnist", "baseline", "clean", 0.0, "acc")
        >>> result_path(Path("results"), "small", cell).as_posix()
        'results/small/resq-matrix/lenet5-mnist.baseline.clean.acc.json'
    """
    return results / size / cell.table / f"{cell.name}.json"


def write_cell(result: CellResult, results: Path, size: Size) -> Path:
    """Write a finished cell in its place, atomically, and return the place.

    Raises:
        StorageError: it cannot be written.
    """
    path = result_path(results, size, result.key)
    write_text(path, result.text())
    return path


def read_cell(path: Path) -> CellResult:
    """Return the cell in a file.

    Raises:
        DataError: it is damaged, lies in the wrong place, or departs from the contract; one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        result = CellResult.model_validate(json.loads(text))
    except ValidationError as error:
        problems = "; ".join(describe_problems(error, CellResult))
        raise DataError(f"{path}: wanted a finished cell, {problems}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: wanted a finished cell ({error})") from None
    if path.name != f"{result.cell}.json" or path.parent.name != result.table:
        raise DataError(f"{path}: wanted it at {result.table}/{result.cell}.json")
    if result.text() != text:
        raise DataError(f"{path}: wanted it as bitproof writes it; it was changed by hand")
    return result


def read_cells(results: Path, size: Size, table: str) -> dict[str, CellResult]:
    """Return the finished cells of a table, by name.

    Raises:
        DataError: a file is damaged; see `read_cell`.
    """
    paths = sorted((results / size / table).glob("*.*.json"))
    return {result.cell: result for result in map(read_cell, paths)}


def check_places(results: Path) -> None:
    """Find files that lie where no table and size puts them.

    Raises:
        DataError: there is one.
    """
    for path in sorted(results.rglob("*.json")):
        # A cell, a kept network, or the behaviour of the table's jobs.
        size, table, *rest = (*path.relative_to(results).parts, "", "")
        if size not in SIZES or table not in TABLES or rest[:-3] not in ([], ["weights"]):
            raise DataError(
                f"{path}: wanted SIZE/TABLE/CELL.json, SIZE one of {', '.join(SIZES)}, TABLE one "
                f"of {', '.join(TABLES)}"
            )
