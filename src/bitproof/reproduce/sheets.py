"""The cells of jobs as sheets: tables of text with lines below, for console and page alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bitproof.recipe.recipe import BASELINE, FLOAT
from bitproof.report.wording import outcome_name, percent, points
from bitproof.reproduce.cells import Cell
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.result import CellResult
from bitproof.reproduce.tables import Table
from bitproof.stats.threats import FAMILIES, ThreatLabel

Column = tuple[str, float | None, str]
"""Threat, level and metric."""
Labels = Mapping[str, ThreatLabel]
"""How threats are written, by name."""
RANDOM_FLIPS = "random_flips"
EMPTY = "–"


@dataclass(frozen=True)
class TextTable:
    """Text in lines and columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Sheet:
    """A table, and the lines below it."""

    title: str
    grid: TextTable | None
    lines: tuple[str, ...] = ()


def cell_table(texts: Mapping[Cell, str], labels: Labels) -> TextTable:
    """Return a line for each variant, a column for each threat and level, with what to write."""
    written = {cell.key: text for cell, text in texts.items()}
    variants = sorted({cell.variant for cell in texts}, key=_place_of_variant)
    columns = sorted({cell.key[1:] for cell in texts}, key=lambda column: _place(column, labels))
    rows = (
        (variant, *(written.get((variant, *column), "") for column in columns))
        for variant in variants
    )
    return TextTable(
        ("variant", *(column_title(column, labels) for column in columns)), tuple(rows)
    )


def column_title(column: Column, labels: Labels) -> str:
    """Return the head of a column.

    Example:
        >>> labels = {"linf_pgd": ThreatLabel("input_attack", "L∞ PGD", "ε", "pixels")}
        >>> column_title(("linf_pgd", 8 / 255, "acc"), labels)
        'L∞ PGD 8/255'
        >>> labels = {"random_flips": ThreatLabel("memory_fault", "Flips", "BER", "scientific")}
        >>> column_title(("random_flips", 1e-3, "gain"), labels)
        'gain: BER 1e-3'
    """
    threat, level, metric = column
    label = labels.get(threat, ThreatLabel(title=threat))
    if level is None:
        name = metric.upper().replace("_", "-")
        return name if threat == RANDOM_FLIPS else f"{name} {threat.replace('_', ' ')}"
    if metric == "energy_saved":
        return f"energy saved: {threat.replace('_', ' ')} {points(-level)}"
    name = label.symbol if threat == RANDOM_FLIPS else threat.replace("_", " ")
    name = label.title if label.family == "input_attack" else name
    text = "clean" if threat == "clean" else f"{name} {label.level_text(level)}"
    return text if metric == "acc" else f"{outcome_name(metric)}: {text}"


def value_text(result: CellResult) -> str:
    """Return value and half interval: per cent, or percentage points for a gain."""
    half = percent((result.ci_high - result.ci_low) / 2)
    show = points if result.metric == "gain" else percent
    return f"{show(result.value)} ± {half}"


def gain_text(gain: CellResult) -> str:
    """Return a gain with its interval, in percentage points."""
    value, low, high = (100 * number for number in (gain.value, gain.ci_low, gain.ci_high))
    return f"{value:+.2f} points, {low:+.2f} to {high:+.2f}"


def labels_of(jobs: Iterable[Job]) -> Labels:
    """Return how the threats of several jobs are written."""
    return {name: label for job in jobs for name, label in job.labels().items()}


def against_theirs(table: Table, results: Sequence[CellResult], labels: Labels) -> list[str]:
    """Return one line for each number that the paper of a table states, beside our best cell.

    Gains of other networks stand beside it as well; accuracies and savings of others say nothing.
    """
    lines = []
    for number in table.published:
        value = f"{100 * number.value:+.2f} points"
        if number.metric != "gain":
            value = f"{percent(number.value)} %"
        theirs = f"{number.about}: theirs {value} [{number.trust}]"
        ours = [
            r
            for r in results
            if number.fits(r.variant, r.threat, r.metric, r.level)
            and (number.metric == "gain" or number.covers(r.network, r.dataset))
        ]
        text = "not measured"
        if ours:
            best = max(ours, key=lambda result: result.value)
            level = labels.get(best.threat, ThreatLabel()).level_text(best.level or 0.0)
            where = f"{best.network} on {best.dataset}, {best.variant}, {best.threat} at {level}"
            shown = gain_text(best) if best.metric == "gain" else f"{value_text(best)} %"
            text = f"{shown} ({where})"
            if not number.covers(best.network, best.dataset):
                text += ", which is none of the paper's"
        lines.append(f"{theirs}, ours {text}")
    return lines


def _place_of_variant(variant: str) -> tuple[int, int, str]:
    first = {FLOAT: 0, BASELINE: 1}
    return first.get(variant, 2), variant.count("+"), variant


def _place(column: Column, labels: Labels) -> tuple[bool, int, str, bool, float, str]:
    threat, level, metric = column
    place = FAMILIES.index(labels.get(threat, ThreatLabel()).family)
    return metric == "gain", place, threat, level is None, level or 0.0, metric
