"""Results for the console, in plain characters: those of a run, and those of a campaign.

Tables of campaigns fit a terminal of 100 columns.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitproof.report.campaign_summary import CampaignSummary, Slice, slices
from bitproof.report.corruption import corruption_rows
from bitproof.report.findings import focus_level, main_threats
from bitproof.report.multipliers import approximations, conditions
from bitproof.report.run import Condition, Run, read_run
from bitproof.report.wording import METRIC_NAMES, confidence_text, outcome_name, span, value
from bitproof.stats.intervals import Interval
from bitproof.stats.results import Row

PLAIN = {"ε": "eps"}
"""Symbols that some terminals lack."""
NAME_WIDTH, LABEL_WIDTH = 14, 24
FEW_GROUPS = 3
MOST_BITS = 8
ABSENT = "-"


@dataclass(frozen=True)
class ConsoleTable:
    """A table of plain text; all columns but the first are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def result_table(run_dir: Path) -> list[list[str]]:
    """Return header and rows: accuracies in per cent with half the width of their interval.

    Of each threat it takes the lowest, the middle and the highest level; the report has all. Where
    networks are on approximate multipliers, names are long and rows many: they stand last by rising
    power, which has a column, and there is one level of the main fault and of the main attack.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    run = read_run(run_dir)
    found = {each.variant: each.multiplier.power_mw for each in approximations(run)}
    columns = conditions(run) if found else _few_levels(run)
    header = ["variant", *(["mW"] if found else []), "clean"]
    table = [header + [_column_title(run, *column) for column in columns]]
    for name in [*(name for name in run.variants if name not in found), *found]:
        watts = found.get(name)
        power = [ABSENT if watts is None else f"{watts:.3g}"] if found else []
        rows = [run.clean(name), *(run.find(name, *column) for column in columns)]
        table.append([name, *power, *(_accuracy(row) for row in rows)])
    return table


def corruption_lines(run_dir: Path) -> list[list[str]]:
    """Return header and rows of silent data corruption in per cent; none where none was counted.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    return corruption_rows(read_run(run_dir))


def console_table(summary: CampaignSummary) -> list[ConsoleTable]:
    """Return layer by bit for each kind of fault at each kind of site, then totals by outcome.

    Layer by bit: SDC-1 in per cent with half the width of its interval. Words of more than eight
    bits show the eight where faults do most.
    """
    maps = [_layers(part) for part in slices(summary) if part.layer_names]
    return [*maps, *([_totals(summary)] if summary.totals else [])]


def compact(rate: Interval | None) -> str:
    """Return a rate in per cent with half the width of its interval, six characters at most.

    Example:
        >>> compact(Interval(0.001, 0.004, 0.007)), compact(Interval(0.101, 0.1234, 0.149))
        ('0.4±.3', '12±2')
        >>> compact(Interval(0.96, 1.0, 1.0)), compact(Interval(0.0, 0.0, 0.0004))
        ('100±2', '0.0±.0')
    """
    if rate is None:
        return ABSENT
    half = 50 * (rate.high - rate.low)
    number = 100 * rate.value
    left = f"{number:.1f}" if number < 9.95 else f"{number:.0f}"
    right = f"{half:.1f}"[1:] if half < 0.95 else f"{half:.0f}"
    return f"{left}±{right}"


def short_names(names: Sequence[str], width: int = NAME_WIDTH) -> list[str]:
    """Return the ends of long names; where these are alike, the number of the name before them.

    Example:
        >>> short_names(["conv1", "block1.features.weight", "block2.features.weight"])
        ['conv1', '2…tures.weight', '3…tures.weight']
    """
    ends = [name if len(name) <= width else f"…{name[1 - width :].lstrip('.')}" for name in names]
    seen = Counter(ends)
    return [
        end if seen[end] == 1 else f"{number}…{end[len(str(number)) + 1 :].lstrip('.')}"
        for number, end in enumerate(ends, 1)
    ]


def _few_levels(run: Run) -> list[Condition]:
    """Return the lowest, the middle and the highest level of each threat."""
    found = []
    for threat in run.threats:
        positive = [level for level in run.levels(threat) if level > 0]
        chosen = {*positive[:1], focus_level(positive), *positive[-1:]} - {None}
        found += [(threat, level) for level in positive if level in chosen]
    return found


def _column_title(run: Run, threat: str, level: float) -> str:
    """Return the head of a column: of the main threats, what their level is called."""
    label = run.label(threat)
    name = PLAIN.get(label.symbol, label.symbol) if threat in main_threats(run) else threat
    return f"{name} {label.level_text(level)}"


def _accuracy(row: Row | None) -> str:
    if row is None:
        return ABSENT
    half = f" ±{50 * (row.interval.high - row.interval.low):.1f}" if row.interval else ""
    return f"{100 * row.value:.1f}{half}"


def _layers(part: Slice) -> ConsoleTable:
    bits = _few_bits(part)
    lines = part.lines(bits)
    names = short_names([_printable(name) for name, _ in lines])
    rows = tuple(
        (name, *(compact(row.rate() if row else None) for row in found))
        for name, (_, found) in zip(names, lines, strict=True)
    )
    left_out = len(part.bit_numbers) - len(bits)
    note = f"; {left_out} bits with lower rates not shown" if left_out else ""
    header = ("layer", *(f"bit {bit}" for bit in bits), "all")
    return ConsoleTable(f"{_printable(part.title)}: SDC-1, %, by layer and bit{note}", header, rows)


def _few_bits(part: Slice) -> list[int]:
    """Return at most eight bits, the most significant first."""

    def rank(bit: int) -> tuple[float, int]:
        row = part.row(None, bit)
        rate = row.rate() if row is not None else None
        return (-rate.value if rate is not None else 0.0, -bit)

    return sorted(sorted(part.bit_numbers, key=rank)[:MOST_BITS], reverse=True)


def _totals(summary: CampaignSummary) -> ConsoleTable:
    """Return outcomes by group; of many groups, each has a row of its own and fewer digits."""
    confidence = confidence_text(summary.campaign.confidence)
    names = short_names(
        [_printable(summary.label(row.group)) for row in summary.totals], LABEL_WIDTH
    )
    few = len(names) <= FEW_GROUPS
    show = _wide if few else compact
    columns = []
    more = list(dict.fromkeys(name for row in summary.totals for name in row.metrics))
    for name, row in zip(names, summary.totals, strict=True):
        rates = [*map(row.rate, summary.outcomes), row.acc if row.trials else None]
        rates += map(row.metrics.get, more)
        columns.append((name, *map(show, rates), str(row.trials)))
    outcomes = [outcome_name(_printable(outcome)) for outcome in summary.outcomes]
    named = [METRIC_NAMES.get(name, _printable(name)) for name in more]
    if few:
        heads = ("outcome", *outcomes, "accuracy", *named, "trials")
        header, *rows = zip(heads, *columns, strict=True)
        return ConsoleTable(f"Outcomes, % ({confidence} interval)", header, tuple(rows))
    heads = ("faults", *(name.removesuffix(" %") for name in outcomes), "acc", *named, "trials")
    return ConsoleTable(f"Outcomes, % (half {confidence} interval)", heads, tuple(columns))


def _wide(rate: Interval | None) -> str:
    return ABSENT if rate is None else f"{value(rate)} ({span(rate, '-')})"


def _printable(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
