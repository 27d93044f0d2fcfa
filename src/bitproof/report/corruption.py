"""Silent data corruption of networks side by side, where threats count it."""

from collections.abc import Sequence

from bitproof.report.page_table import DASH, PageTable, make_table, rate_text
from bitproof.report.run import Run
from bitproof.report.wording import OUTCOME_NAMES, outcome_name, span, value
from bitproof.stats.intervals import Interval

Column = tuple[str, float, str]
"""Threat, level and outcome."""


def corruption_table(run: Run, names: Sequence[str]) -> PageTable | None:
    """Return the rates of silent corruption of some networks; None where none was counted."""
    columns = _columns(run)
    if not columns:
        return None
    heads = [
        f"{outcome_name(outcome)}\n{run.label(threat).title}, "
        f"{run.label(threat).pretty_level(level)}"
        for threat, level, outcome in columns
    ]
    rows = [[name, *(rate_text(_rate(run, name, each)) for each in columns)] for name in names]
    return make_table(["network", *heads], rows, look="wide names")


def corruption_rows(run: Run) -> list[list[str]]:
    """Return header and rows for the console, empty where nothing was counted."""
    columns = _columns(run)
    if not columns:
        return []
    header = [
        f"{outcome_name(outcome)}, {threat.replace('_', ' ')} {run.label(threat).level_text(level)}"
        for threat, level, outcome in columns
    ]
    rows = []
    for name in run.variants:
        rates = [_rate(run, name, each) for each in columns]
        if any(rates):
            texts = [f"{value(rate)} ({span(rate, '-')})" if rate else DASH for rate in rates]
            rows.append([name, *texts])
    return [["variant", *header], *rows]


def _columns(run: Run) -> list[Column]:
    return [
        (threat, level, outcome)
        for threat in run.threats
        for level in run.levels(threat)
        for outcome in OUTCOME_NAMES
        if any(run.find(name, threat, level, metric=outcome) for name in run.variants)
    ]


def _rate(run: Run, name: str, column: Column) -> Interval | None:
    threat, level, outcome = column
    row = run.find(name, threat, level, metric=outcome)
    return row.interval if row else None
