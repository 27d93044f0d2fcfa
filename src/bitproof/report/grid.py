"""The tables of a page with a column for each variant: accuracies, and the spread of chips.

Conditions are rows, so that twenty levels still fit a printed page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.findings import focus_level
from bitproof.report.run import CLEAN, Run
from bitproof.report.wording import count, percent
from bitproof.stats.results import Row
from bitproof.stats.threats import Family

UNITS: dict[Family, str] = {"none": "image", "input_attack": "image"}
"""What is independent from one draw to the next, where it is not a chip."""


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
    cells = tuple(accuracy_cell(run.clean(variant)) for variant in variants)
    clean = Group("Clean", _units(run, CLEAN), (GridRow("no threat", cells),))
    return [clean] + [_threat_group(run, threat, variants) for threat in run.threats]


def chip_groups(run: Run, variants: Sequence[str]) -> list[Group]:
    """Return the worst chip and the standard deviation between chips, in per cent."""
    groups = []
    for threat in run.threats:
        label = run.label(threat)
        levels = sorted({*run.levels(threat, "acc_min"), *run.levels(threat, "acc_std")})
        rows = tuple(
            GridRow(
                label.pretty_level(level),
                tuple(_chip_cell(run, variant, threat, level) for variant in variants),
            )
            for level in levels
            if level > 0
        )
        if rows:
            groups.append(Group(label.title, label.symbol, rows))
    return groups


def accuracy_cell(row: Row | None) -> Cell:
    """Return an accuracy in per cent with its interval below, a dash where there is none."""
    if row is None:
        return ABSENT
    if row.unit != "fraction":
        return Cell(f"{row.value:.3g}", row.unit)
    if row.ci_low is None or row.ci_high is None:
        return Cell(percent(row.value))
    return Cell(percent(row.value), f"{percent(row.ci_low)}–{percent(row.ci_high)}")


def _threat_group(run: Run, threat: str, variants: Sequence[str]) -> Group:
    label, focus = run.label(threat), focus_level(run.levels(threat))

    def cells(level: float | None, metric: str = "acc") -> tuple[Cell, ...]:
        found = (run.find(variant, threat, level, metric=metric) for variant in variants)
        return tuple(accuracy_cell(row) for row in found)

    rows = [
        GridRow(label.pretty_level(level), cells(level), level == focus)
        for level in run.levels(threat)
    ]
    if any(row.metric == "auc_fr" and row.threat == threat for row in run.rows):
        rows.append(GridRow("AUC", cells(None, "auc_fr")))
    note = ", ".join(filter(None, [label.symbol, _units(run, threat)]))
    return Group(label.title, note, tuple(rows))


def _chip_cell(run: Run, variant: str, threat: str, level: float) -> Cell:
    worst = run.find(variant, threat, level, metric="acc_min")
    spread = run.find(variant, threat, level, metric="acc_std")
    if worst is None and spread is None:
        return ABSENT
    return Cell(
        percent(worst.value) if worst else ABSENT.main,
        f"σ {percent(spread.value)}" if spread else "",
    )


def _units(run: Run, threat: str) -> str:
    """Return the number of independent units, as a range where rows differ."""
    rows = [row for row in run.rows if row.threat == threat and row.metric == "acc"]
    sizes = sorted({row.n for row in rows if row.n is not None})
    noun = "image" if threat == CLEAN else UNITS.get(run.label(threat).family, "chip")
    if not sizes:
        return ""
    return count(sizes[0], noun) if len(sizes) == 1 else f"{sizes[0]} to {count(sizes[-1], noun)}"
