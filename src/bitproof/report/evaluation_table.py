"""Accuracies of networks with their intervals: every level in one table, and in sentences."""

from collections.abc import Sequence

from bitproof.report.findings import FAULTS
from bitproof.report.run import FLOAT, Run
from bitproof.report.wording import span, value
from bitproof.stats.results import Row

ABSENT = "-"
PLAIN = {"ε": "eps"}
"""Symbols that some terminals lack."""
UNITS = {True: "chips", False: "images"}
"""What intervals lie between, by whether memory or arithmetic breaks."""


def accuracy_table(run: Run) -> list[list[str]]:
    """Return header and rows: accuracy in per cent with its interval, a row for each condition.

    Networks stand side by side, and `interval` says between how many of what it lies.
    """
    header = ["condition", *run.variants, "interval between"]
    rows = [["clean", *_cells([run.clean(name) for name in run.variants], breaks=False)]]
    for threat in run.threats:
        label = run.label(threat)
        breaks = label.family in FAULTS
        for level in run.levels(threat):
            name = f"{threat}, {PLAIN.get(label.symbol, label.symbol)} {label.level_text(level)}"
            found = [run.find(variant, threat, level) for variant in run.variants]
            rows.append([name, *_cells(found, breaks=breaks)])
    return [header, *rows]


def accuracy_lines(run: Run) -> list[str]:
    """Return one sentence for each integer network, with all that was measured of it."""
    lines = []
    reference = run.clean(FLOAT)
    for variant in run.variants:
        if variant == FLOAT:
            continue
        parts = []
        if row := run.clean(variant):
            compared = f" (float {_text(reference)})" if reference else ""
            parts.append(f"{_text(row)} clean{compared}")
        for threat in run.threats:
            label = run.label(threat)
            for level in run.levels(threat):
                if row := run.find(variant, threat, level):
                    symbol = PLAIN.get(label.symbol, label.symbol)
                    parts.append(
                        f"{_text(row)} under {threat} at {symbol} {label.level_text(level)}"
                    )
        if parts:
            lines.append(f"{variant}: accuracy {'; '.join(parts)}")
    return lines


def _cells(rows: Sequence[Row | None], *, breaks: bool) -> list[str]:
    counted = {row.n for row in rows if row is not None}
    number = str(counted.pop()) if len(counted) == 1 else "different"
    return [*(_cell(row) for row in rows), f"{number} {UNITS[breaks]}"]


def _cell(row: Row | None) -> str:
    if row is None:
        return ABSENT
    if row.interval is None:
        return f"{100 * row.value:.1f}"
    return f"{value(row.interval)} ({span(row.interval, '-')})"


def _text(row: Row) -> str:
    if row.interval is None:
        return f"{100 * row.value:.1f} %"
    return f"{value(row.interval)} % ({span(row.interval)} %)"
