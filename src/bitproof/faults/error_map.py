"""Chips whose weak cells were measured: error maps in CSV or npz files.

Model:  a map lists the cells that err at some voltage, each with the highest voltage at which it
        does (`onset_voltage`) and what it does: `0->1` reads 1 and `1->0` reads 0 whatever is
        stored, `flip` (or `both`) reads the opposite. At a voltage v, the cells with onset at or
        above v err, in every draw; so what errs at one voltage errs at every lower one.

        A CSV file has the columns row, column, direction, onset_voltage, in any order. An npz file
        has four arrays of these names; there the direction may also be 1 (`0->1`), -1 (`1->0`) or
        0 (`flip`). Nothing in a file is ever executed. Several arrays of cells are stacked: row
        `array * rows + row`. Words lie in the cells as in `SimulatedSram`.
Source: METHODS E.7 (profiled chips). The file format is our own.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf, nan
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float64
from pydantic import Field, model_validator

from bitproof.core.errors import ChecksumError, DataError, SpecError, shorten
from bitproof.core.files import write_text
from bitproof.core.rng import draw_seed
from bitproof.core.types import Count, Positive
from bitproof.data.layout import data_root
from bitproof.data.packed import read_arrays
from bitproof.faults.base import FAULTS, FaultModel, Memory
from bitproof.faults.sram import FaultyCells, SimulatedSram
from bitproof.faults.table import FLIP, STUCK0, STUCK1
from bitproof.stats.threats import ThreatLabel

COLUMNS = ("row", "column", "direction", "onset_voltage")
DIRECTIONS = {"0->1": STUCK1, "1->0": STUCK0, "flip": FLIP, "both": FLIP}
NUMBERED = {1: "0->1", -1: "1->0", 0: "flip"}
"""Directions that an npz file gives as integers."""
DTYPES = {"row": "iu", "column": "iu", "direction": "iuU", "onset_voltage": "iuf"}
"""Kinds of the arrays in an npz file."""
WORDS = {"i": "integers", "u": "unsigned integers", "U": "strings", "f": "floats"}
Entry = Mapping[str, object]
"""One line of a map, by the names of `COLUMNS`."""


@FAULTS.register
class MeasuredChip(FaultModel):
    """Store the words in a chip of which the weak cells were measured.

    What is drawn is the cell in which the network begins. A lower `voltage` breaks more.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from bitproof.core.rng import make_generator
        >>> words = torch.tensor([5, 5, 5], dtype=torch.uint8)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "chip.csv")
        ...     write_error_map(SimulatedSram(ber=1.0, arrays=1, rows=2), path, lambda u: 1 - u)
        ...     chip = MeasuredChip(path=str(path), rows=2, voltage=0.4)
        ...     chip.corrupt(words, bits=4, generator=make_generator(0))
        tensor([1, 4, 6], dtype=torch.uint8)
    """

    level: ClassVar[str] = "voltage"

    kind: Literal["measured_chip"] = "measured_chip"
    path: str
    """The map, a .csv or .npz file: absolute, or relative to the working directory or to the data
    folder that BITPROOF_DATA names."""
    rows: Count
    """Rows of the memory, in cells; of all arrays together."""
    columns: Count = 64
    """Columns of the memory, in cells."""
    voltage: Positive
    """Supply voltage, in the unit of the map."""
    unit: Literal["V/Vmin", "V"] = "V/Vmin"
    """Unit of all voltages: shares of the lowest voltage without errors, or volts."""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Checksum of the file, which ties results to its content. Empty: taken from the file."""

    @model_validator(mode="after")
    def _check_file(self) -> "MeasuredChip":
        try:
            # Frozen to everybody else: a recipe written back names the content that was read.
            self.__dict__["sha256"] = self.sha256 or _checksum(_read(find_error_map(self.path)))
            self.error_map()
        except DataError as error:
            raise ValueError(f"error map {' '.join(str(error).split())}") from None
        return self

    @property
    def label(self) -> ThreatLabel:
        """Return how people read the faults and the voltage."""
        return ThreatLabel("memory_fault", f"Measured chip {Path(self.path).stem}", self.unit)

    def error_map(self) -> "ErrorMap":
        """Return the map, read once in each process.

        Raises:
            DataError: the file is missing or malformed, or names cells outside the memory.
            ChecksumError: it is not the file of the checksum.
        """
        path = find_error_map(self.path)
        return read_error_map(path, sha256=self.sha256, rows=self.rows, columns=self.columns)

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:
        """Read the words back from a random place of the chip; raises as `error_map` does."""
        offset = draw_seed(generator) % (self.rows * self.columns)
        self.error_map().at(self.voltage).break_(memory, offset=offset)


@dataclass(frozen=True, eq=False)
class ErrorMap:
    """The cells that err at some voltage.

    Example:
        >>> cells = FaultyCells(64, np.array([3, 6]), np.array([STUCK1, FLIP], np.uint8))
        >>> ErrorMap(cells, np.array([0.9, 0.8])).at(0.85).cells
        array([3])
    """

    weak: FaultyCells
    onset: Float64[np.ndarray, " f"]
    """Highest voltage at which each of them errs."""

    def at(self, voltage: float) -> FaultyCells:
        """Return the cells that err at a voltage."""
        return self.weak.select(self.onset >= voltage)


def write_error_map(
    chip: SimulatedSram,
    path: Path,
    onset: Callable[[Float64[np.ndarray, " f"]], Float64[np.ndarray, " f"]],
) -> None:
    """Write the cells of a simulated chip that are faulty at `chip.ber` as a map, in CSV.

    The map has `arrays * rows` rows. `onset` turns thresholds, error rates at which cells become
    faulty, into voltages: the inverse of the error rate as a function of voltage.

    Raises:
        SpecError: `path` does not end in .csv, cells err now and then, of which a map says nothing,
            or a voltage is not positive.
        StorageError: the place cannot be written.
    """
    if path.suffix != ".csv":
        raise SpecError(f"{path}: wanted a name that ends in .csv")
    if chip.persistence < 1:
        raise SpecError(f"persistence: wanted 1 for an error map, got {chip.persistence}")
    faulty = chip.faulty_cells()
    voltages = np.asarray(onset(chip.thresholds()[faulty.cells]), np.float64)
    if voltages.shape != faulty.cells.shape or not ((voltages > 0) & (voltages < inf)).all():
        raise SpecError(f"onset: wanted a positive voltage for each cell, got {voltages}")
    names = {STUCK1: "0->1", STUCK0: "1->0"}
    lines = [",".join(COLUMNS)]
    for cell, action, volt in zip(
        faulty.cells.tolist(), faulty.actions.tolist(), voltages.tolist(), strict=True
    ):
        row, column = divmod(cell, chip.columns)
        lines.append(f"{row},{column},{names[action]},{volt!r}")
    write_text(path, "\n".join(lines) + "\n")


def find_error_map(name: str) -> Path:
    """Return where a map lies.

    Raises:
        DataError: there is no such file.
    """
    try:
        path = Path(name).expanduser()
        root = None if path.is_absolute() or path.is_file() else data_root(None)
        path = root / path if root else path
        found = path.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, a user unknown
        raise DataError(f"{name[:80]}: wanted a .csv or .npz file ({error})") from None
    if not found:
        raise DataError(f"{path}: wanted a .csv or .npz file, there is none")
    return path


@lru_cache(maxsize=8)
def read_error_map(path: Path, *, sha256: str, rows: int, columns: int) -> ErrorMap:
    """Return the map in a file with a given checksum, for a memory of a given size.

    Raises:
        DataError: the file is malformed, or names cells outside the memory.
        ChecksumError: it has another checksum.
    """
    content = _read(path)
    if _checksum(content) != sha256:
        raise ChecksumError(f"{path}: wanted sha256 {sha256}, got {_checksum(content)}")
    if path.suffix not in {".csv", ".npz"}:
        raise DataError(f"{path}: wanted a .csv or .npz file")
    entries = _npz_entries(path) if path.suffix == ".npz" else _csv_entries(path, content)
    found: dict[int, tuple[int, float]] = {}
    for place, entry in entries:
        try:
            cell = _whole(entry, "row", rows) * columns + _whole(entry, "column", columns)
            if cell in found:
                raise DataError(f"row {entry['row']}, column {entry['column']} came before")
            found[cell] = _action(entry["direction"]), _voltage(entry["onset_voltage"])
        except DataError as error:
            raise DataError(f"{path}: {place}: {error}") from None
    if not found:
        raise DataError(f"{path}: wanted at least one cell, got none")
    cells = np.array(sorted(found))
    actions, onset = zip(*(found[cell] for cell in cells.tolist()), strict=True)
    weak = FaultyCells(rows * columns, cells, np.array(actions, np.uint8))
    return ErrorMap(weak, np.array(onset, np.float64))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file ({error.strerror or error})") from None


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _csv_entries(path: Path, content: bytes) -> Iterator[tuple[str, Entry]]:
    """Yield each entry as text, and the line that it stands in."""
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: wanted text in UTF-8 ({error.reason})") from None
    try:
        names = [name.strip() for name in next(reader, [])]
        if sorted(names) != sorted(COLUMNS):
            got = " ".join(", ".join(names)[:80].split()) or "nothing"
            raise DataError(f"{path}: line 1: wanted the columns {', '.join(COLUMNS)}, got {got}")
        for cells in reader:
            place = f"line {reader.line_num}"
            if len(cells) not in {0, len(names)}:
                raise DataError(f"{path}: {place}: wanted {len(names)} values, got {len(cells)}")
            if cells:
                yield place, {n: cell.strip() for n, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from None


def _npz_entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """Yield each entry as Python values, and its number from 0."""
    try:
        arrays = read_arrays(path, COLUMNS)
    except RuntimeError as error:  # a zip file that is encrypted, or packed in an unknown way
        raise DataError(f"{path}: wanted a whole npz file: {error}") from None
    sizes = {arrays[name].shape for name in COLUMNS}
    if len(sizes) > 1 or arrays["row"].ndim != 1:
        raise DataError(
            f"{path}: wanted four lists of one length, got shapes {', '.join(map(str, sizes))}"
        )
    for name, kinds in DTYPES.items():
        if arrays[name].dtype.kind not in kinds:
            wanted = " or ".join(WORDS[kind] for kind in kinds)
            raise DataError(f"{path}: {name}: wanted {wanted}, got {arrays[name].dtype}")
    for number, values in enumerate(zip(*(arrays[n].tolist() for n in COLUMNS), strict=True)):
        yield f"entry {number}", dict(zip(COLUMNS, values, strict=True))


def _whole(entry: Entry, name: str, size: int) -> int:
    text = str(entry[name])
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < size):
        raise DataError(f"{name}: wanted a whole number from 0 to {size - 1}, got {shorten(text)}")
    return int(text)


def _action(value: object) -> int:
    name = NUMBERED.get(value, str(value)) if isinstance(value, int) else str(value)
    if name not in DIRECTIONS:
        raise DataError(f"no direction {shorten(name)}. Known: {', '.join(DIRECTIONS)}")
    return DIRECTIONS[name]


def _voltage(value: object) -> float:
    try:
        voltage = float(str(value))
    except ValueError:
        voltage = nan
    if not 0 < voltage < inf:
        raise DataError(f"onset_voltage: wanted a positive number, got {shorten(str(value))}")
    return voltage
