"""Cell libraries in the Liberty format: areas and functions of cells, and where libraries lie.

Model:  of each cell, `area`, the direction and `function` of its pins, and whether it holds a state
        (`ff`, `latch`, `statetable`) or lets go of its output (`three_state`). Timing and power
        stay in the file, for OpenSTA to read. Text is scanned once, nothing in it is executed.
Source: Liberty User Guide; SkyWater 130 nm, high density (Apache-2.0), from the data folder; OSU
        0.18 um, from Debian's package qflow-tech-osu018.
"""

import gzip
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from bitproof.circuits.cells import STATEFUL, CellKind
from bitproof.circuits.logic import parse
from bitproof.core.errors import CircuitError, shorten

TOKEN = re.compile(
    r"""/\*.*?\*/
    | (?P<group>[A-Za-z_]\w*)\s*\((?P<name>[^(){};]*)\)\s*\{
    | (?P<open>\{)
    | (?P<close>\})
    | \b(?P<key>area|direction|function|three_state)\s*:\s*(?P<value>"[^"]*"|[^;\n}]+)
    | "[^"]*"
    """,
    re.VERBOSE | re.DOTALL,
)
STATES = ("ff", "latch", "statetable", "ff_bank", "latch_bank")


@dataclass(frozen=True)
class NamedLibrary:
    """A library that has a name here."""

    file: str
    """Below the data folder, or absolute."""
    where: str
    """Where to get it."""


NAMED: Mapping[str, NamedLibrary] = {
    "sky130": NamedLibrary("liberty/sky130hd_tt.lib.gz", "the data folder (see BITPROOF_DATA)"),
    "osu018": NamedLibrary(
        "/usr/share/qflow/tech/osu018/osu018_stdcells.lib", "apt-get install qflow-tech-osu018"
    ),
}
"""Libraries by name."""


@dataclass(frozen=True, eq=False)
class Library:
    r"""The cells of one library.

    Example:
        >>> text = 'library (l) { cell (INV) { area : 2; pin (A) { direction : input; } ' \
        ...     'pin (Y) { direction : output; function : "!A"; } } }'
        >>> library = parse_library(text, "l.lib")
        >>> library.kinds["INV"].area, library.kinds["INV"].inputs
        (2.0, ('A',))
    """

    name: str
    path: Path
    kinds: Mapping[str, CellKind]

    def text(self) -> str:
        """Return the text of the file, for tools that read it themselves."""
        return _read(self.path)


def find_library(name: str, data_dir: Path | None) -> Library:
    """Return the library of a name (`sky130`, `osu018`) or a path; `data_dir` is the data folder.

    Raises:
        CircuitError: there is none, or it is malformed.
    """
    known = NAMED.get(name)
    if known is None:
        path = Path(name).expanduser()
        if not path.is_file():
            raise CircuitError(
                f"library: wanted {', '.join(NAMED)}, unit, or the path of a Liberty file, "
                f"got {shorten(name)}"
            )
    else:
        path = Path(known.file) if data_dir is None else data_dir / known.file
        if not path.is_file():
            raise CircuitError(f"library {name}: wanted {path}, there is none; from {known.where}")
    return _library(name if known else path.name, path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _library(name: str, path: Path, changed: int) -> Library:  # noqa: ARG001 - part of the key
    found = parse_library(_read(path), str(path))
    return Library(name, path, found.kinds)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode(
            "utf-8", "replace"
        )
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise CircuitError(f"{path}: wanted a Liberty file, got {error}") from error


@dataclass
class _Cell:
    """What has been read of a cell."""

    name: str
    depth: int
    area: float | None = None
    refused: str = ""
    inputs: list[str] = field(default_factory=list)
    functions: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


def parse_library(text: str, origin: str) -> Library:
    """Return the library in a text; `origin` is what errors call it.

    Raises:
        CircuitError: it is malformed, or has no cells.
    """
    kinds: dict[str, CellKind] = {}
    path: list[tuple[str, str]] = []
    cell: _Cell | None = None
    for match in TOKEN.finditer(text):
        group = match["group"]
        if group is not None or match["open"]:
            path.append((group or "", (match["name"] or "").strip(' "')))
            if group == "cell" and cell is None:
                cell = _Cell(path[-1][1], len(path))
            elif cell is not None and group in STATES:
                cell.refused = STATEFUL
        elif match["close"]:
            if not path:
                raise CircuitError(f"{origin}: wanted a Liberty file, got one '}}' too many")
            if cell is not None and len(path) == cell.depth:
                kinds[cell.name] = _kind(cell)
                cell = None
            path.pop()
        elif match["key"] and cell is not None:
            _note(cell, path, match["key"], match["value"].strip().strip('"'), origin)
    if path or not kinds:
        what = f"one that ends inside {path[-1][0]} ({path[-1][1]})" if path else "no cell in it"
        raise CircuitError(f"{origin}: wanted a Liberty file, got {what}")
    return Library(origin, Path(origin), kinds)


def _note(cell: _Cell, path: Sequence[tuple[str, str]], key: str, value: str, origin: str) -> None:
    """Keep one attribute of a cell or of a pin of it."""
    here = len(path) - cell.depth
    if here == 0 and key == "area":
        try:
            cell.area = float(value)
        except ValueError:
            cell.area = -1.0
        if not 0 <= cell.area < math.inf:
            raise CircuitError(
                f"{origin}: cell {cell.name}: wanted a number as area, got {shorten(value)}"
            )
    if here < 1 or path[-1][0] != "pin":
        return
    pin = path[-1][1]
    if key == "direction":
        side = {"input": cell.inputs, "output": cell.outputs}.get(value)
        if side is None:
            cell.refused = f"has a pin {pin} that is {value}"
        else:
            side.append(pin)
    elif key == "function":
        cell.functions[pin] = value
    elif key == "three_state":
        cell.refused = STATEFUL


def _kind(cell: _Cell) -> CellKind:
    pins = tuple(cell.inputs)
    refused = cell.refused
    if set(cell.outputs) - set(cell.functions):
        refused = refused or "has an output without a function"
    if len({*cell.inputs, *cell.outputs}) < len(cell.inputs) + len(cell.outputs):
        refused = refused or "has a pin twice"
    try:
        functions = (
            {} if refused else {pin: parse(cell.functions[pin], pins) for pin in cell.outputs}
        )
    except CircuitError as error:
        functions, refused = {}, f"has a function that is not understood: {error}"
    return CellKind(cell.name, pins, functions, cell.area, refused)
