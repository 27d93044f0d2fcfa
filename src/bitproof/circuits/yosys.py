"""Synthesis with Yosys: from hardware descriptions to netlists of gates, or of a library's cells.

Model:  modules are synthesized one by one and stay apart: what is there twice on purpose, such as
        the copies of triple modular redundancy, would otherwise be found equal and merged. In each,
        Yosys's `synth`, then ABC. Yosys runs in a process of its own, on copies of the sources in a
        temporary folder. A source is read, never executed: nothing of its names becomes part of a
        command, foreign functions are off, and it reads no files but headers of its own folder.
Source: Wolf et al., "Yosys - A Free Verilog Synthesis Suite", Austrochip 2013; Brayton and
        Mishchenko, "ABC: An Academic Industrial-Strength Verification Tool", CAV 2010; through the
        package pyosys (ISC licence).
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from bitproof.circuits.cells import GATES
from bitproof.circuits.liberty import Library
from bitproof.circuits.netlist import Netlist
from bitproof.circuits.yosys_json import only_top, read_netlist
from bitproof.core.errors import AdapterError, CircuitError, shorten
from bitproof.core.packages import Package

PYOSYS = Package("pyosys", wanted_by="circuits", install="pip install 'bitproof[circuits]'")
AVOIDED = ("*lpflow*", "*probe*")
"""Cells that synthesis may not use: for power gating and for tests of chips."""
GATE_NAMES = "AND,OR,XOR,NAND,NOR,XNOR"
"""Gates of netlists without a library, besides inverters."""
RUNNER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1], encoding="utf-8"):
    libyosys.run_pass(line.rstrip("\\n"), design)
"""
SOURCES = (".v", ".sv", ".il", ".json")
HEADERS = (".vh", ".svh")
INCLUDE = re.compile(r"`include\b\s*(?:\"([^\"\n]*)\")?")
MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
"""Names of modules that can be on top: what Verilog calls a simple identifier."""
PLAIN = re.compile(r"\w+")
OTHERS_NAME = "circuit"
"""What a module on top is called in files for other tools, if its own name is not plain."""
READERS = {
    ".v": "read_verilog -nodpi -noassert",
    ".sv": "read_verilog -sv -nodpi -noassert",
    ".il": "read_rtlil",
    ".json": "read_json",
}
WRITE = ("write_json out.json", "write_verilog -noattr out.v")
READ = ("proc", "tribuf", "design -save read", "flatten", "check -assert", "design -load read")
"""What every description goes through: nothing may be undriven, driven twice or a loop."""


@dataclass(frozen=True)
class Source:
    """A hardware description: files of Verilog, RTLIL or Yosys JSON, by name."""

    files: Mapping[str, str]
    """Text of each file."""
    top: str
    """Module on top; empty: the one that no other uses."""


@dataclass(frozen=True, eq=False)
class Synthesized:
    """A circuit made of cells."""

    netlist: Netlist
    verilog: str
    """The same, modules inside modules."""
    library: Library | None
    """None: gates that are no library's."""

    @property
    def module(self) -> str:
        """What `verilog` calls the module on top."""
        return _plain(self.netlist.name)


def toolchain() -> dict[str, str]:
    """Return the versions of what decides which gates a design becomes.

    Example:
        >>> sorted(toolchain())
        ['amaranth', 'pyosys']
    """
    found = {}
    for name in ("amaranth", "pyosys"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def read_sources(place: Path, top: str = "") -> Source:
    """Return the description in a file, or in all files of a folder.

    Raises:
        CircuitError: there is none, or it is no text.
    """
    if not place.exists():
        raise CircuitError(f"{place}: wanted Verilog, there is no such file or folder")
    folder = place if place.is_dir() else place.parent
    found = [place]
    if place.is_dir():
        found = sorted(path for path in place.iterdir() if path.suffix in SOURCES)
    if not found:
        raise CircuitError(f"{place}: wanted files that end in {', '.join(SOURCES)}, got none")
    headers = sorted(path for path in folder.iterdir() if path.suffix in HEADERS)
    try:
        texts = {path.name: path.read_text("utf-8", "replace") for path in (*found, *headers)}
    except OSError as error:
        raise CircuitError(f"{place}: wanted Verilog, got {error}") from error
    for name, text in texts.items():
        for match in INCLUDE.finditer(text):
            if match[1] not in texts:
                raise CircuitError(
                    f"{name}: wanted includes of headers beside it ({', '.join(HEADERS)}), "
                    f"got {shorten(match[1] or 'another')}"
                )
        if "$readmem" in text:
            raise CircuitError(f"{name}: wanted no $readmemb or $readmemh: no data files are read")
    return Source(texts, top)


def as_written(source: Source, library: Library | None = None) -> Synthesized:
    """Return the gates of a description as they are written; those that reach no output go.

    Word-level operators become gates in the plainest way. Cells of a library may be in it.

    Raises:
        CircuitError: it cannot be read, or is not combinational.
        AdapterError: Yosys is not installed.
    """
    steps = (
        *READ,
        "flatten",
        "techmap",
        "simplemap",
        "opt_clean -purge",
        *WRITE,
    )
    return _synthesized(_run(source, steps, library), source, library)


def synthesize(source: Source, library: Library | None, *, flatten: bool = False) -> Synthesized:
    """Return a description as cells of a library, or as plain gates for None.

    `flatten`: let synthesis work across modules, which also merges whatever is redundant.

    Raises:
        CircuitError: it cannot be read, or is not combinational.
        AdapterError: Yosys is not installed.
    """
    avoided = " ".join(f"-dont_use {each}" for each in AVOIDED)
    cells = f"-liberty cells.lib {avoided}" if library else f"-g {GATE_NAMES}"
    steps = (
        *READ,
        "flatten" if flatten else "setattr -mod -set keep_hierarchy 1 *",
        "synth",
        f"abc {cells}",
        "opt_clean -purge",
        "rename -enumerate",
        *WRITE,
    )
    return _synthesized(_run(source, steps, library), source, library)


def to_verilog(source: Source) -> str:
    """Return a description as Verilog, names and modules as they are.

    Raises:
        CircuitError: it cannot be read.
        AdapterError: Yosys is not installed.
    """
    return _run(source, ("proc -noopt", "opt_clean", "write_verilog -noattr out.v"))["out.v"]


def _synthesized(found: Mapping[str, str], source: Source, library: Library | None) -> Synthesized:
    kinds = GATES if library is None else {**GATES, **library.kinds}
    netlist = read_netlist(
        json.loads(found["out.json"]), kinds=kinds, origin=", ".join(source.files)
    )
    return Synthesized(replace(netlist, name=found["top"]), found["out.v"], library)


def _run(source: Source, steps: Sequence[str], library: Library | None = None) -> dict[str, str]:
    """Read a source, take the steps; return the texts of what they wrote, and the name on top."""
    if not PYOSYS.is_there:
        raise AdapterError(PYOSYS.problem)
    with TemporaryDirectory() as folder:
        place, names, reads = Path(folder), {}, []
        for number, (name, text) in enumerate(source.files.items()):
            if name.endswith(HEADERS):
                (place / name).write_text(text, "utf-8")
                continue
            suffix = next((end for end in SOURCES if name.endswith(end)), SOURCES[0])
            own = f"source_{number}{suffix}"
            (place / own).write_text(text, "utf-8")
            names[own] = name
            reads.append(f"{READERS[suffix]} {own}")
        if library is not None:
            (place / "cells.lib").write_text(library.text(), "utf-8")
        top = source.top
        if not top:
            _execute(place, [*reads, "proc", "write_json tops.json"], names)
            top = only_top(json.loads((place / "tops.json").read_text("utf-8")), "Verilog")
        if not MODULE.fullmatch(top):
            raise CircuitError(
                f"wanted the name of a module, of letters, digits, _ and $, got {shorten(top)}"
            )
        if library is not None:
            reads.insert(0, "read_liberty -lib cells.lib")
        plain = _plain(top)
        begin = [*reads, f"hierarchy -check -top {top}", f"rename {top} {plain}"]
        _execute(place, [*(begin if plain != top else begin[:-1]), *steps], names)
        written = {path.name: path for path in place.iterdir() if path.name.startswith("out.")}
        return {"top": top} | {name: path.read_text("utf-8") for name, path in written.items()}


def _execute(place: Path, lines: Sequence[str], names: Mapping[str, str]) -> None:
    """Let Yosys take steps in a folder; `names` are the user's names of files."""
    (place / "steps").write_text("\n".join(lines) + "\n", "utf-8")
    command = [sys.executable, "-c", RUNNER, "steps"]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise CircuitError(_problem(done.stdout + "\n" + done.stderr, names))


def _plain(top: str) -> str:
    return top if PLAIN.fullmatch(top) else OTHERS_NAME


def _problem(log: str, names: Mapping[str, str]) -> str:
    """Return what Yosys says went wrong, with the user's own names of files."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    found = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no output")
    if "in 'check -assert'" in found:  # what it found is in the warnings of that pass
        last = max(n for n, line in enumerate(lines) if "Executing CHECK pass" in line)
        warnings = [line for line in lines[last:] if line.startswith("Warning: ")]
        found = warnings[0].removeprefix("Warning: ") if warnings else found
    for own, name in names.items():
        found = found.replace(own, name)
    return f"yosys: {found.replace('ERROR: ', '')}"
