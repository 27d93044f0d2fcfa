"""Lists of bits that break: drawn or written by hand, stored, edited and replayed.

Model:  a fault is one bit of one word that flips or is stuck; a trial is all faults that one
        execution meets. Every kind of fault comes down to such rows, so a list says exactly which
        bits were hit, also where a trial has many.
"""

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from bitproof.core.errors import FaultListError, near
from bitproof.core.files import write_text
from bitproof.core.progress import SILENT, Progress

ArraySite = Literal["pe_input", "pe_weight", "pe_product", "pe_sum"]
"""Registers of the processing elements of an array: `element` is the number of the processing
element, `tap` the cycle of the layer, or -1 where the fault is permanent."""
ARRAY_SITES: tuple[ArraySite, ...] = get_args(ArraySite)

FaultSite = Literal[
    "weight",
    "bias",
    "activation",
    "output",
    "input",
    "operand",
    "weight_operand",
    "product",
    "accumulator",
    ArraySite,
]
"""Where a bit breaks; `FaultSpace.sites` says what each is."""
SITES: tuple[FaultSite, ...] = get_args(FaultSite)
TAP_SITES: frozenset[str] = frozenset({"operand", "weight_operand", "product"})
"""Sites that lie in one product, and so also need its number within the sum."""


WORD_SITES: tuple[FaultSite, ...] = tuple(site for site in SITES if site not in ARRAY_SITES)
"""Sites that do not depend on what a layer runs on."""

Action = Literal["flip", "stuck0", "stuck1"]
"""What happens to the bit."""
ACTIONS: tuple[Action, ...] = get_args(Action)
FLIP, STUCK0, STUCK1 = range(3)
"""Indices into `ACTIONS`."""
MOST_TRIALS = 50_000_000
"""Trials of a campaign; more do not fit in memory."""
COLUMNS = ("trial", "site", "layer", "element", "tap", "bit", "action")
FaultRow = tuple[int, str, str, int, int, int, str]
"""A fault by names, in the order of `COLUMNS`."""
LIMITS = {
    "trial": (0, MOST_TRIALS - 1),
    "element": (0, 2**40),
    "tap": (-1, 2**31 - 1),
    "bit": (0, 63),
}
"""Least and largest number of columns that hold one."""


LONGEST_HINT = 200
"""Characters of the names that a message lists; a network may have thousands."""


@dataclass(frozen=True, eq=False)
class FaultTable:
    """Faults in columns, one bit a row, ordered by trial.

    Example:
        >>> table = FaultTable.from_rows([(0, "weight", "conv1", 5, -1, 7, "flip")])
        >>> table.n_trials, len(table), table.layers
        (1, 1, ('conv1',))
    """

    layers: tuple[str, ...]
    """Names of nodes, which the column `layer` counts."""
    n_trials: int
    """Trials, also those without a fault."""
    trial: Int64[np.ndarray, " f"]
    site: UInt8[np.ndarray, " f"]
    """Index into `SITES`."""
    layer: Int32[np.ndarray, " f"]
    element: Int64[np.ndarray, " f"]
    """Place of the word in its tensor, or in one image's output, as if laid out flat."""
    tap: Int32[np.ndarray, " f"]
    """Number of the product within the sum of `element`; -1 for other sites."""
    bit: UInt8[np.ndarray, " f"]
    """0 is the least significant."""
    action: UInt8[np.ndarray, " f"]
    """Index into `ACTIONS`."""

    def __len__(self) -> int:
        return len(self.trial)

    @classmethod
    def build(cls, layers: Sequence[str], n_trials: int, **columns: np.ndarray) -> "FaultTable":
        """Return a table of columns of any integer type, put in the order of trials."""
        order = np.argsort(columns["trial"], kind="stable")
        types = {"trial": np.int64, "layer": np.int32, "element": np.int64, "tap": np.int32}
        ready = {
            name: np.ascontiguousarray(columns[name][order].astype(types.get(name, np.uint8)))
            for name in COLUMNS
        }
        return cls(tuple(layers), n_trials, **ready)

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[FaultRow],
        *,
        layers: Sequence[str] | None = None,
        n_trials: int | None = None,
    ) -> "FaultTable":
        """Return a table of rows; layers as they come and no trial after the last, if not given."""
        names = list(dict.fromkeys(row[2] for row in rows)) if layers is None else list(layers)
        places = {name: place for place, name in enumerate(names)}
        cells = [
            (trial, SITES.index(site), places[layer], element, tap, bit, ACTIONS.index(action))
            for trial, site, layer, element, tap, bit, action in rows
        ]
        columns = np.array(cells, np.int64).reshape(-1, len(COLUMNS)).T
        last = int(columns[0].max()) + 1 if len(rows) else 0
        count = last if n_trials is None else n_trials
        return cls.build(names, count, **dict(zip(COLUMNS, columns, strict=True)))

    def select(self, keep: np.ndarray) -> "FaultTable":
        """Return the rows that a mask or an index array keeps; trials keep their numbers."""
        return replace(self, **{name: getattr(self, name)[keep] for name in COLUMNS})

    def of_trial(self, trial: int) -> "FaultTable":
        """Return the faults of one trial."""
        ends = np.searchsorted(self.trial, [trial, trial + 1])
        return self.select(np.arange(*ends))

    def rows(self) -> list[FaultRow]:
        """Return the rows by names, as `from_rows` takes them."""
        return [
            (int(t), SITES[s], self.layers[n], int(e), int(k), int(b), ACTIONS[a])
            for t, s, n, e, k, b, a in zip(*(getattr(self, name) for name in COLUMNS), strict=True)
        ]


def write_fault_list(table: FaultTable, path: Path) -> None:
    """Write a table as CSV, one bit a line, to be edited and replayed.

    Raises:
        StorageError: the place cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(table.rows())
    write_text(path, text.getvalue())


def read_fault_list(
    path: Path, *, layers: Sequence[str], progress: Progress = SILENT
) -> FaultTable:
    """Return the faults of a CSV file; its trials are those that have a line, in rising order.

    Where numbers are missing, as after lines were taken out, trials are numbered anew from 0 and
    `progress` says so: a trial without a fault has no line, so it takes no part in rates.

    Raises:
        FaultListError: the file is missing, holds no fault, or a line is none; the message names
            the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FaultListError(f"{path}: cannot read the fault list ({reason})") from None
    rows: list[FaultRow] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if header != list(COLUMNS):
            wanted, came = ",".join(COLUMNS), " ".join(",".join(header)[:80].split()) or "nothing"
            raise FaultListError(f"wanted the columns {wanted}, got {came}")
        rows = [_row(cells, set(layers)) for cells in reader if cells]
    except (FaultListError, csv.Error) as error:
        raise FaultListError(f"{path}: line {reader.line_num}: {error}") from None
    if not rows:
        raise FaultListError(f"{path}: wanted at least one fault, got only the header")
    numbers = sorted({row[0] for row in rows})
    if numbers[-1] >= len(numbers):
        progress.say(
            f"{path}: {len(numbers)} trials have faults, with numbers up to {numbers[-1]}; "
            f"they are numbered anew, 0 to {len(numbers) - 1}"
        )
    anew = {number: place for place, number in enumerate(numbers)}
    renumbered = [(anew[row[0]], *row[1:]) for row in rows]
    return FaultTable.from_rows(renumbered, layers=layers)


def _row(cells: list[str], layers: set[str]) -> FaultRow:
    if len(cells) != len(COLUMNS):
        raise FaultListError(f"wanted {len(COLUMNS)} cells, got {len(cells)}")
    names: dict[str, Collection[str]] = {"site": SITES, "layer": layers, "action": ACTIONS}
    for name, text in zip(COLUMNS, cells, strict=True):
        if name in names and text not in names[name]:
            hint = near(text[:40], names[name])
            hint = hint if len(hint) <= LONGEST_HINT else f"{hint[:LONGEST_HINT]}..."
            raise FaultListError(f"no {name} {text[:40]!r}. {hint}")
        if name in LIMITS:
            low, high = LIMITS[name]
            digits = text.removeprefix("-")
            fits = digits.isascii() and digits.isdigit() and len(digits) < 20
            if not fits or not low <= int(text) <= high:
                raise FaultListError(
                    f"{name}: wanted a whole number from {low} to {high}, got {text[:40]!r}"
                )
    trial, site, layer, element, tap, bit, action = cells
    return int(trial), site, layer, int(element), int(tap), int(bit), action
