"""The energy part of a run in words: a sentence for each network, a table for the page."""

from collections.abc import Sequence
from contextlib import suppress

from bitproof.core.errors import DataError, SpecError
from bitproof.report.fault_counts import rate_threats
from bitproof.report.multipliers import shown
from bitproof.report.operating_points import EnergyQuestion, OperatingPoint, answer
from bitproof.report.page_table import PageTable, table_of
from bitproof.report.run import FLOAT, Run
from bitproof.report.wording import percent, share
from bitproof.stats.energy import failing_words

ON_PAGES = EnergyQuestion(weight_traffic=True)
"""What pages and figures answer: at a loss of one point, per weight."""


def energy_text(point: OperatingPoint) -> str:
    """Return the answer for one network in one line, without its name."""
    rate, saved = point.rate, point.saved
    if rate.verdict == "clean_unsafe":
        return (
            f"at no voltage: clean accuracy {percent(rate.acc)} %, {percent(rate.drop)} points "
            f"below that of {point.against}"
        )
    if rate.verdict == "none_safe":
        voltage, less = point.lowest
        return (
            f"above {voltage:.3f} V/Vmin, less than {percent(less)} % energy saved: loss "
            f"{percent(rate.drop)} points already at BER {share(point.levels[0])}, the lowest "
            "measured"
        )
    beyond = rate.verdict == "all_safe"
    most, least = ("at most ", "at least ") if beyond else ("", "")
    volts = "{1:.3f} V/Vmin ({0:.3f} to {2:.3f})".format(*point.voltage)
    ends = f"({percent(saved.low)} to {percent(saved.high)})"
    return (
        f"{most}{volts}, {least}{percent(saved.value)} % energy saved {ends}, "
        f"accuracy {percent(rate.acc)} % at BER {share(rate.ber.value)}"
        f"{_limit_text(point) if beyond else ''}, loss {percent(rate.drop)} points"
        f"{'' if beyond else ' at most'}{_code_text(point)}"
    )


def energy_table(run: Run) -> PageTable | None:
    """Return the answers for a page, at a loss of one point; None where there are none."""
    found = points_of_page(run)
    if not found:
        return None
    return table_of(
        found,
        [
            ("network", lambda each: line_name(each, found, "\n")),
            ("voltage, V/Vmin", _voltage_text),
            ("energy saved, %", _saved_text),
            ("accuracy, %", lambda each: percent(each.rate.acc)),
            ("at BER", lambda each: share(each.rate.ber.value or each.levels[0])),
        ],
        look="wide names",
    )


def points_of_page(run: Run) -> list[OperatingPoint]:
    """Return the answers that pages and figures show, of quantized networks.

    They are about the first threat of the run at bit error rates, with and without protections; of
    others `bitproof energy` tells. Whatever is not known is left out: a page tells what there is.
    """
    names = [name for name in shown(run) if name != FLOAT]
    found: list[OperatingPoint] = []
    with suppress(DataError, SpecError):
        threats = rate_threats(run)
        for threat in threats:
            if threat.unprotected != threats[0].unprotected:
                continue
            answers = [answer(run, name, threat, ON_PAGES) for name in names]
            found += [each for each in answers if isinstance(each, OperatingPoint)]
    return found


def line_name(point: OperatingPoint, points: Sequence[OperatingPoint], between: str = " ") -> str:
    """Return the name of a network, with the threat where there are several."""
    several = len({each.threat for each in points}) > 1
    return point.variant + (f"{between}{point.threat}" if several else "")


def _limit_text(point: OperatingPoint) -> str:
    """Return why higher rates are not known."""
    whole = len(point.levels) == len(point.counts.threat.levels)
    return f", the highest {'measured' if whole else 'measured that the table has'}"


def _code_text(point: OperatingPoint) -> str:
    """Return how many code words are beyond repair, where there are some."""
    if point.code_bits is None:
        return ""
    failing = failing_words(point.rate.ber.value, bits=point.code_bits)
    return f", {share(failing)} of code words beyond repair"


def _voltage_text(point: OperatingPoint) -> str:
    if point.rate.verdict == "none_safe":
        return f"above {point.lowest[0]:.3f}"
    low, value, high = point.voltage
    most = "at most " if point.rate.verdict == "all_safe" else ""
    return f"{most}{value:.3f}\n{low:.3f}–{high:.3f}"


def _saved_text(point: OperatingPoint) -> str:
    if point.rate.verdict == "none_safe":
        return f"less than {percent(point.lowest[1])}"
    low, value, high = point.saved
    least = "at least " if point.rate.verdict == "all_safe" else ""
    return f"{least}{percent(value)}\n{percent(low)} to {percent(high)}"
