"""The results of a campaign for the console, narrow enough for a terminal of 100 columns."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.report.campaign_slices import Slice, slices
from bitproof.report.campaign_summary import MAIN, CampaignSummary, Row
from bitproof.report.wording import confidence_text, outcome_name, span, value
from bitproof.stats.intervals import Interval

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


def console_table(summary: CampaignSummary) -> list[ConsoleTable]:
    """Return layer by bit for each kind of fault at each kind of site, then totals by outcome.

    Layer by bit: SDC-1 in per cent with half the width of its interval. Words of more than eight
    bits show the eight where faults do most.
    """
    maps = [_layers(part) for part in slices(summary) if part.layer_names]
    return [*maps, *([_totals(summary)] if summary.totals else [])]


def compact(rate: Interval) -> str:
    """Return a rate in per cent with half the width of its interval, six characters at most.

    Example:
        >>> compact(Interval(0.001, 0.004, 0.007)), compact(Interval(0.101, 0.1234, 0.149))
        ('0.4±.3', '12±2')
        >>> compact(Interval(0.96, 1.0, 1.0)), compact(Interval(0.0, 0.0, 0.0004))
        ('100±2', '0.0±.0')
    """
    half = 50 * (rate.high - rate.low)
    number = 100 * rate.value
    left = f"{number:.1f}" if number < 9.95 else f"{number:.0f}"
    right = f"{half:.1f}"[1:] if half < 0.95 else f"{half:.0f}"
    return f"{left}±{right}"


def _layers(part: Slice) -> ConsoleTable:
    bits = _few_bits(part)
    columns: list[int | None] = [*bits, None]
    names = short_names([_clean(name) for name in part.layer_names])
    lines: list[str | None] = [*part.layer_names, None]
    rows = tuple(
        (name, *(_cell(part.row(layer, bit)) for bit in columns))
        for name, layer in zip([*names, "all"], lines, strict=True)
    )
    left_out = len(part.bit_numbers) - len(bits)
    note = f"; {left_out} bits with lower rates not shown" if left_out else ""
    header = ("layer", *(f"bit {bit}" for bit in bits), "all")
    return ConsoleTable(f"{_clean(part.title)}: SDC-1, %, by layer and bit{note}", header, rows)


def _few_bits(part: Slice) -> list[int]:
    """Return at most eight bits, the most significant first."""

    def rank(bit: int) -> tuple[float, int]:
        row = part.row(None, bit)
        rate = row.rates.get(MAIN) if row is not None else None
        return (-rate.value if rate is not None else 0.0, -bit)

    return sorted(sorted(part.bit_numbers, key=rank)[:MOST_BITS], reverse=True)


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


def _totals(summary: CampaignSummary) -> ConsoleTable:
    """Return outcomes by group; of many groups, each has a row of its own and fewer digits."""
    confidence = confidence_text(summary.campaign.confidence)
    names = [_clean(summary.label(row.group)) for row in summary.totals]
    outcomes = [(name, outcome_name(_clean(name))) for name in summary.outcomes]
    if len(names) > FEW_GROUPS:
        header = ("faults", *(name.removesuffix(" %") for _, name in outcomes), "acc", "trials")
        rows = tuple(
            (name, *(_cell(row, key) for key, _ in outcomes), _small(_acc(row)), str(row.trials))
            for name, row in zip(short_names(names, LABEL_WIDTH), summary.totals, strict=True)
        )
        return ConsoleTable(f"Outcomes, % (half {confidence} interval)", header, rows)
    lines = [
        (name, *(_wide(row.rates.get(key) if row.trials else None) for row in summary.totals))
        for key, name in outcomes
    ]
    lines.append(("accuracy", *(_wide(_acc(row)) for row in summary.totals)))
    lines.append(("trials", *(str(row.trials) for row in summary.totals)))
    header = ("outcome", *short_names(names, LABEL_WIDTH))
    return ConsoleTable(f"Outcomes, % ({confidence} interval)", header, tuple(lines))


def _cell(row: Row | None, outcome: str = MAIN) -> str:
    return _small(row.rates.get(outcome) if row is not None and row.trials else None)


def _acc(row: Row) -> Interval | None:
    return row.acc if row.trials else None


def _small(rate: Interval | None) -> str:
    return ABSENT if rate is None else compact(rate)


def _wide(rate: Interval | None) -> str:
    return ABSENT if rate is None else f"{value(rate)} ({span(rate, '-')})"


def _clean(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
