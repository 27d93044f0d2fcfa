"""The multipliers to choose from, with their tables and what each costs.

Model:  costs are those that somebody published, those of our circuits in a library of cells, or
        those of a CSV file; they are never mixed. Figures of a report are relative to the exact
        multiplier among them.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from pydantic import ValidationError

from bitproof.approx.base import Multiplier, ProductTable
from bitproof.approx.circuit import CircuitMultiplier
from bitproof.approx.naming import short_name
from bitproof.circuits import Library, find_library, synthesize
from bitproof.circuits.activity import activity, uniform_pairs
from bitproof.circuits.cost import cost_of
from bitproof.core.errors import DataError, SpecError, near, shorten
from bitproof.core.spec import canonical_json, describe_problems
from bitproof.data.layout import data_root
from bitproof.quant.products import Products
from bitproof.stats import Cost

PUBLISHED = "published"
UNIFORM = "uniform pairs"
COLUMNS = ("name", "area_um2", "power_mw", "delay_ns")
"""Of a file of costs."""


@dataclass(frozen=True, eq=False)
class CostedMultiplier:
    """One multiplier to choose."""

    name: str
    multiplier: Multiplier
    table: ProductTable
    cost: Cost

    @cached_property
    def is_exact(self) -> bool:
        """Whether all of its products are exact."""
        return not bool(self.table.errors.any())


@dataclass(frozen=True, eq=False)
class MultiplierSet:
    """All multipliers to choose from, in the order of the recipe."""

    all: tuple[CostedMultiplier, ...]
    library: Library | None = None
    """The cells that costs are of, if they are of a library."""
    by_layer: Mapping[str, Float64[np.ndarray, " blocks"]] = field(default_factory=dict)
    """Power in single layers, with the operands that they meet; see `layer_power`."""

    def __len__(self) -> int:
        return len(self.all)

    def only(self, numbers: Sequence[int]) -> "MultiplierSet":
        """Return some of them."""
        return replace(self, all=tuple(self.all[number] for number in numbers))

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [block.name for block in self.all]

    @property
    def signed(self) -> bool:
        """Whether operands are signed."""
        return self.all[0].table.signed

    @property
    def exact(self) -> int:
        """The number of the exact one; of several, of that with the least power."""
        exact = [n for n, block in enumerate(self.all) if block.is_exact]
        return min(exact, key=lambda n: self.all[n].cost.power_mw)

    @property
    def digest(self) -> str:
        """The SHA-256 of names, products and costs."""
        state = hashlib.sha256()
        for block in self.all:
            facts = [block.name, block.table.signed, block.cost.model_dump(mode="json")]
            state.update(canonical_json(facts).encode())
            state.update(block.table.products.numpy().tobytes())
        return state.hexdigest()

    def products(
        self, chosen: Int64[np.ndarray, " m"], device: torch.device | str
    ) -> Products | None:
        """Return what multiplies in a layer whose filters have these blocks; None: all exact."""
        used = sorted(set(chosen.tolist()))
        if all(self.all[number].is_exact for number in used):
            return None
        choice = torch.from_numpy(np.searchsorted(used, chosen)).to(device)
        return Products(
            tables=torch.stack([self.all[number].table.products for number in used]).to(device),
            signed=self.signed,
            choice=choice,
            offset=torch.zeros_like(choice).int(),
            names=tuple(short_name(self.all[number].multiplier) for number in used),
        )

    def power(self, layer: str) -> Float64[np.ndarray, " blocks"]:
        """Return milliwatts of each in a layer."""
        return self.by_layer[layer] if layer in self.by_layer else self.costs("power_mw")

    def costs(self, figure: str) -> Float64[np.ndarray, " blocks"]:
        """Return a figure of each: `area_um2`, `power_mw` or `delay_ns`."""
        return np.array([getattr(block.cost, figure) for block in self.all])


def read_multipliers(
    multipliers: Mapping[str, Multiplier],
    *,
    costs: str = PUBLISHED,
    data_dir: Path | None = None,
    folder: Path | None = None,
) -> MultiplierSet:
    """Return multipliers with their costs.

    Args:
        multipliers: by name.
        costs: `published`; a library of cells (`sky130`, `osu018`, a Liberty file), for circuits;
            or a CSV file with the columns name, area_um2, power_mw, delay_ns.
        data_dir: where data sets and libraries lie; None: `BITPROOF_DATA`.
        folder: what a CSV file's path is relative to; then the working directory.

    Raises:
        SpecError: there are fewer than two, none is exact, signs differ, or one has no cost.
        DataError: a table or a file of costs is missing or malformed.
        AdapterError: circuits need a package that is not installed.

    Example:
        >>> from bitproof.approx import Exact
        >>> read_multipliers({"a": Exact(), "b": Exact()})
        Traceback (most recent call last):
        bitproof.core.errors.SpecError: a: wanted a published cost, there is none; name costs of ...
    """
    if len(multipliers) < 2:
        raise SpecError(f"multipliers: wanted two or more to choose from, got {len(multipliers)}")
    library = None
    if costs != PUBLISHED and not costs.endswith(".csv"):
        library = find_library(costs, data_root(data_dir))
    known = _costs(multipliers, costs, library, data_dir, folder)
    blocks = tuple(
        CostedMultiplier(name, multiplier, multiplier.table(data_dir), known[name])
        for name, multiplier in multipliers.items()
    )
    signs = {block.name: block.table.signed for block in blocks}
    if len(set(signs.values())) > 1:
        signed = ", ".join(name for name, sign in signs.items() if sign)
        raise SpecError(f"multipliers: wanted all signed or all unsigned, only {signed} are signed")
    if not any(block.is_exact for block in blocks):
        raise SpecError(f"multipliers: wanted an exact one among {', '.join(signs)}, there is none")
    return MultiplierSet(blocks, library)


def _costs(
    multipliers: Mapping[str, Multiplier],
    costs: str,
    library: Library | None,
    data_dir: Path | None,
    folder: Path | None,
) -> Mapping[str, Cost]:
    if library is not None:
        return {name: _synthesized(name, each, library) for name, each in multipliers.items()}
    if costs == PUBLISHED:
        return {name: _published(name, each, data_dir) for name, each in multipliers.items()}
    return _listed(multipliers, costs, folder)


def _published(name: str, multiplier: Multiplier, data_dir: Path | None) -> Cost:
    cost = multiplier.cost(data_dir)
    if cost is None:
        raise SpecError(
            f"{name}: wanted a published cost, there is none; name costs of a library of cells "
            "(circuits) or of a CSV file"
        )
    return cost


def _synthesized(name: str, multiplier: Multiplier, library: Library) -> Cost:
    if not isinstance(multiplier, CircuitMultiplier):
        raise SpecError(
            f"{name}: wanted a multiplier of kind 'circuit' for costs in cells of {library.name}, "
            f"got '{multiplier.kind}'"
        )
    circuit = synthesize(multiplier.design.source(), library)
    cost = cost_of(circuit, activity(circuit.netlist, uniform_pairs(circuit.netlist), UNIFORM))
    if cost.counted:
        raise SpecError(
            f"{name}: wanted OpenSTA for delay and power in cells of {library.name}, it is not "
            "installed; name costs of a CSV file"
        )
    return Cost(
        area_um2=cost.area,
        power_mw=cost.power,
        delay_ns=cost.delay,
        source=f"cells of {library.name}, Yosys and OpenSTA; {cost.operands}",
    )


def _listed(
    multipliers: Mapping[str, Multiplier], costs: str, folder: Path | None
) -> Mapping[str, Cost]:
    places = [place / costs for place in (folder, Path()) if place is not None]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(f"costs: wanted a file {shorten(costs)}, there is none")
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: wanted a table in UTF-8, got {error}") from None
    header = rows[0] if rows else []
    if tuple(header) != COLUMNS:
        wanted, came = ",".join(COLUMNS), ",".join(header) or "nothing"
        raise DataError(f"{path}: wanted the columns {wanted}, got {came}")
    found: dict[str, Cost] = {}
    for number, cells in enumerate(rows[1:], 2):
        if len(cells) != len(COLUMNS):
            raise DataError(f"{path}, line {number}: wanted {len(COLUMNS)} cells, got {len(cells)}")
        if cells[0] in found:
            raise DataError(
                f"{path}, line {number}: wanted each name once, got {shorten(cells[0])} again"
            )
        found[cells[0]] = _cost(cells, path, number)
    for name in multipliers:
        if name not in found:
            raise DataError(f"{path}: wanted a row for {shorten(name)}. {near(name, found)}")
    return found


def _cost(cells: list[str], path: Path, number: int) -> Cost:
    figures: dict[str, Any] = {}
    for column, cell in zip(COLUMNS[1:], cells[1:], strict=True):
        try:
            figures[column] = float(cell)
        except ValueError:
            raise DataError(
                f"{path}, line {number}: {column}: wanted a number, got {shorten(cell)}"
            ) from None
    try:
        return Cost.model_validate({**figures, "source": path.name})
    except ValidationError as error:
        problems = "; ".join(describe_problems(error, Cost))
        raise DataError(f"{path}, line {number}: {problems}") from None
