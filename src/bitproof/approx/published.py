"""The published figures of EvoApproxLib, worked out anew from the tables.

Model:  a figure agrees if ours, rounded as the library rounds, is the printed one: percentages to
        two decimals, but at least two digits; distances and squares to whole numbers, but at least
        two digits, and to eight digits from a million on. Half-way cases may go either way.
        Area, power and delay cannot be checked without the gates.
Source: headers of the C models of EvoApproxLib, releases v1.1 and v2022.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bitproof.approx.base import ProductTable
from bitproof.approx.evoapprox import Circuit, library_path, read_circuits, read_tables
from bitproof.approx.figures import RANGE, ErrorFigures, error_figures, zero_operand_errors

PER_CENT = 100
MILLION = 10**6


@dataclass(frozen=True)
class Figure:
    """One published figure: its column, how it is defined, and ours."""

    column: str
    meaning: str
    ours: Callable[[ErrorFigures], float]

    @property
    def in_per_cent(self) -> bool:
        """Whether it is printed as a percentage."""
        return self.column.endswith("_pct")


FIGURES = (
    Figure("mae", "mean |e|", lambda f: f.med),
    Figure("mae_pct", "mean |e| / 2^16", lambda f: PER_CENT * f.med_of_range),
    Figure("wce", "largest |e|", lambda f: f.wce),
    Figure("wce_pct", "largest |e| / 2^16", lambda f: PER_CENT * f.wce_of_range),
    Figure("wcre_pct", "largest |e| / |p| where p != 0", lambda f: PER_CENT * f.wcre),
    Figure("ep_pct", "share of pairs with e != 0", lambda f: PER_CENT * f.ep),
    Figure("mre_pct", "mean |e| / |p| over pairs with p != 0", lambda f: PER_CENT * f.mred),
    Figure("mse", "mean e^2", lambda f: f.mse),
)
"""The conventions under which the published figures come out."""


@dataclass(frozen=True)
class Comparison:
    """One figure of one circuit: published, and worked out from its table."""

    circuit: Circuit
    figure: Figure
    ours: float

    @property
    def published(self) -> float:
        """What was printed."""
        return self.circuit.published[self.figure.column]

    @property
    def agrees(self) -> bool:
        """Whether ours rounds to what was printed."""
        unit = printed_unit(self.ours, in_per_cent=self.figure.in_per_cent)
        # The last digit of ours is a float's, so that half a unit is not met to the bit.
        return abs(self.ours - self.published) <= unit * (0.5 + 1e-6)

    @property
    def explanation(self) -> str:
        """Why the printed figure is another, as far as the printed figures tell; else empty."""
        if self.agrees:
            return ""
        printed = self.circuit.published
        whole = self.figure.column.removesuffix("_pct")
        if self.figure.in_per_cent and whole in printed:
            taken = PER_CENT * printed[whole] / RANGE
            if Comparison(self.circuit, self.figure, taken).agrees:
                return f"worked out from the distance as printed, {printed[whole]:g}"
        elif abs(self.ours - self.published) < printed_unit(self.ours, in_per_cent=False):
            return "rounded to the wrong side by less than one unit of the last digit"
        return ""


@dataclass(frozen=True)
class Check:
    """Everything that was compared, and what about the library is worth knowing."""

    comparisons: list[Comparison]
    other_conventions: dict[str, int]
    """Circuits whose published figure comes out under a convention that is not the library's."""
    transposed: list[str]
    """Circuits whose C model takes (B, A), and whose table is not symmetric: it matters."""
    nonzero_for_zero: list[str]
    """Circuits with a product that is not 0 although an operand is."""
    second_names: dict[str, str]
    """Circuits that have the table of another one, which comes first."""

    @property
    def disagreements(self) -> list[Comparison]:
        """The figures that do not come out."""
        return [each for each in self.comparisons if not each.agrees]


def check_library(data_dir: Path | str | None = None) -> Check:
    """Work out all published figures of all circuits.

    Raises:
        DataError: the library is missing or malformed.
    """
    path = library_path(data_dir)
    circuits = read_circuits(path)
    tables = read_tables(path, circuits)
    first = {circuit.key: circuit for circuit in reversed(circuits)}
    read = list(zip(circuits, tables, strict=True))
    figures = [error_figures(table) for table in tables]
    return Check(
        comparisons=[
            Comparison(circuit, figure, float(figure.ours(ours)))
            for circuit, ours in zip(circuits, figures, strict=True)
            for figure in FIGURES
        ],
        other_conventions=_other_conventions(circuits, tables, figures),
        transposed=[
            circuit.title
            for circuit, table in read
            if circuit.first_argument == "B" and not table.commutes
        ],
        nonzero_for_zero=[circuit.title for circuit, table in read if zero_operand_errors(table)],
        second_names={
            each.title: first[each.key].title for each in circuits if first[each.key] is not each
        },
    )


def printed_unit(value: float, *, in_per_cent: bool) -> float:
    """Return the worth of the last digit that the library prints of a figure.

    Example:
        >>> printed_unit(0.0046, in_per_cent=True), printed_unit(471649806.25, in_per_cent=False)
        (0.0001, 10.0)
    """
    if value == 0:
        return 0.0
    first = math.floor(math.log10(abs(value)))
    if not in_per_cent and abs(value) >= MILLION:
        return float(f"1e{first - 7}")
    return float(f"1e{min(-2 if in_per_cent else 0, first - 1)}")


def _other_conventions(
    circuits: list[Circuit], tables: list[ProductTable], figures: list[ErrorFigures]
) -> dict[str, int]:
    """Count the circuits whose figures come out under conventions that one might expect."""
    mre, wcre = (next(f for f in FIGURES if f.column == name) for name in ("mre_pct", "wcre_pct"))
    agreed = {
        "mre_pct with the 511 pairs with p = 0 in the count": 0,
        "mre_pct with |e| / max(1, |p|) over all pairs": 0,
        "wcre_pct with |e| / max(1, |p|) over all pairs": 0,
    }
    counted, clamped, worst = agreed
    for circuit, table, ours in zip(circuits, tables, figures, strict=True):
        relative = PER_CENT * table.errors.abs().double() / table.exact.abs().clamp(min=1).double()
        share = float((table.exact != 0).double().mean())
        agreed[counted] += Comparison(circuit, mre, mre.ours(ours) * share).agrees
        agreed[clamped] += Comparison(circuit, mre, float(relative.mean())).agrees
        agreed[worst] += Comparison(circuit, wcre, float(relative.max())).agrees
    return agreed
