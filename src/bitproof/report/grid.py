"""Tables with a column for each variant: accuracies, and the spread between chips.

Conditions are rows, so that twenty levels still fit a printed page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitproof.report.findings import focus_level
from bitproof.report.run import Run
from bitproof.report.threats import family, pretty_level, symbol, title
from bitproof.report.wording import count, percent
from bitproof.stats.results import Row


@dataclass(frozen=True)
class Cell:
    """One number and the smaller text below it."""

    main: str
    sub: str = ""


@dataclass(frozen=True)
class GridRow:
    """One condition over all variants."""

    label: str
    cells: tuple[Cell, ...]
    focus: bool = False
    """The level that headline and matrix use."""


@dataclass(frozen=True)
class Group:
    """The conditions of one threat."""

    title: str
    note: str
    rows: tuple[GridRow, ...]


ABSENT = Cell("–")


def accuracy_groups(run: Run, variants: Sequence[str]) -> list[Group]:
    """Return accuracies in per cent: clean, then each threat at each level, then its mean."""

    def clean(variant: str) -> Cell:
        return accuracy_cell(run.clean(variant))

    rows = [row for row in run.rows if row.threat == "none" and row.metric == "acc"]
    groups = [Group("Clean", _units(rows, "image"), (_row(variants, "no threat", clean),))]
    return groups + [_threat_group(run, threat, variants) for threat in run.threats]


def chip_groups(run: Run, variants: Sequence[str]) -> list[Group]:
    """Return the worst chip and the standard deviation between chips, in per cent."""
    groups = []
    for threat in run.threats:
        levels = sorted({*run.levels(threat, "acc_min"), *run.levels(threat, "acc_std")})
        rows = tuple(
            _row(variants, pretty_level(threat, level), _chip_cells(run, threat, level))
            for level in levels
            if level > 0
        )
        if rows:
            groups.append(Group(title(threat), symbol(threat), rows))
    return groups


def _threat_group(run: Run, threat: str, variants: Sequence[str]) -> Group:
    focus = focus_level(run.levels(threat))

    def at(level: float) -> Callable[[str], Cell]:
        return lambda variant: accuracy_cell(run.find(variant, threat, level))

    rows = [
        _row(variants, pretty_level(threat, level), at(level), focus=level == focus)
        for level in run.levels(threat)
    ]
    if any(row.metric == "auc_fr" and row.threat == threat for row in run.rows):

        def mean(variant: str) -> Cell:
            return accuracy_cell(run.find(variant, threat, None, metric="auc_fr"))

        rows.append(_row(variants, "AUC", mean))
    measured = [row for row in run.rows if row.threat == threat and row.metric == "acc"]
    units = _units(measured, "chip" if family(threat) == "fault" else "image")
    return Group(title(threat), ", ".join(filter(None, [symbol(threat), units])), tuple(rows))


def _chip_cells(run: Run, threat: str, level: float) -> Callable[[str], Cell]:
    def cell(variant: str) -> Cell:
        worst = run.find(variant, threat, level, metric="acc_min")
        spread = run.find(variant, threat, level, metric="acc_std")
        if worst is None and spread is None:
            return ABSENT
        return Cell(
            percent(worst.value) if worst else ABSENT.main,
            f"σ {percent(spread.value)}" if spread else "",
        )

    return cell


def _row(
    variants: Sequence[str], label: str, cell: Callable[[str], Cell], *, focus: bool = False
) -> GridRow:
    return GridRow(label, tuple(cell(variant) for variant in variants), focus)


def accuracy_cell(row: Row | None) -> Cell:
    """Return an accuracy in per cent with its interval below, a dash where there is none."""
    if row is None:
        return ABSENT
    if row.unit != "fraction":
        return Cell(f"{row.value:.3g}", row.unit)
    if row.ci_low is None or row.ci_high is None:
        return Cell(percent(row.value))
    return Cell(percent(row.value), f"{percent(row.ci_low)}–{percent(row.ci_high)}")


def _units(rows: list[Row], noun: str) -> str:
    """Return the number of independent units, as a range where rows differ."""
    sizes = sorted({row.n for row in rows if row.n is not None})
    if not sizes:
        return ""
    return count(sizes[0], noun) if len(sizes) == 1 else f"{sizes[0]} to {count(sizes[-1], noun)}"
