"""Rates with the digits that their intervals support, and faults in words."""

import math
import re
from collections.abc import Mapping
from typing import Any

from bitproof.report.campaign_summary import TOGETHER, CampaignSummary, Group, Row
from bitproof.report.threats import pretty_level
from bitproof.stats.intervals import Interval

NBSP = "\N{NO-BREAK SPACE}"
MOST_DECIMALS = 6
OUTCOME_NAMES = {
    "masked": "masked",
    "sdc1": "SDC-1",
    "sdc5": "SDC-5",
    "sdc10": "SDC-10 %",
    "sdc20": "SDC-20 %",
    "due": "DUE",
}


def outcome_name(outcome: str) -> str:
    """Return the name of an outcome in the literature.

    Example:
        >>> outcome_name("sdc10"), outcome_name("hang")
        ('SDC-10 %', 'hang')
    """
    return OUTCOME_NAMES.get(outcome, outcome)


def value(rate: Interval) -> str:
    """Return a rate in per cent, without the sign, with the digits that its interval supports.

    Example:
        >>> value(Interval(0.0035, 0.0042, 0.005)), value(Interval(0.101, 0.1234, 0.149))
        ('0.42', '12')
        >>> value(Interval(0.0, 0.0, 0.004)), value(Interval(0.25, 0.25, 0.25))
        ('0.0', '25.0')
    """
    return _percent(rate.value, _decimals(rate))


def span(rate: Interval, between: str = " to ") -> str:
    """Return the interval of a rate in per cent, without the sign.

    Example:
        >>> span(Interval(0.0035, 0.0042, 0.005))
        '0.35 to 0.50'
    """
    decimals = _decimals(rate)
    return f"{_percent(rate.low, decimals)}{between}{_percent(rate.high, decimals)}"


def measured(rate: Interval, confidence: float) -> str:
    """Return a rate with its interval, for a sentence.

    Example:
        >>> measured(Interval(0.0035, 0.0042, 0.005), 0.95).replace(NBSP, " ")
        '0.42 % (95 %: 0.35 to 0.50 %)'
    """
    told = f"{value(rate)} % ({confidence_text(confidence)}: {span(rate)} %)"
    return told.replace(" %", f"{NBSP}%").replace(" to ", f"{NBSP}to{NBSP}")


def confidence_text(confidence: float) -> str:
    """Return how often an interval holds the truth.

    Example:
        >>> confidence_text(0.95), confidence_text(0.999)
        ('95 %', '99.9 %')
    """
    return f"{100 * confidence:.6g} %"


def grouped(number: int) -> str:
    """Return a count with its thousands set apart.

    Example:
        >>> grouped(89314816).replace(NBSP, " ")
        '89 314 816'
    """
    return f"{number:,}".replace(",", NBSP)


def plain(number: float) -> str:
    """Return a number of any unit with three digits.

    Example:
        >>> plain(0.012345), plain(1234567.0).replace(NBSP, " ")
        ('0.0123', '1 230 000')
    """
    if number >= 1000:
        step = 10 ** (math.floor(math.log10(number)) - 2)
        return grouped(round(number / step) * step) if number < 1e15 else f"{number:.2e}"
    return f"{number:.3g}"


def settings(values: Mapping[str, Any]) -> str:
    """Return the settings of a component, its kind first.

    Example:
        >>> settings({"kind": "secded", "data_bits": 64, "sites": ["weight", "bias"]})
        'secded (data_bits = 64, sites = weight, bias)'
    """
    rest = ", ".join(
        f"{key} = {', '.join(str(each) for each in one) if isinstance(one, list) else one}"
        for key, one in values.items()
        if key != "kind"
    )
    kind = str(values.get("kind", "unnamed"))
    return f"{kind} ({rest})" if rest else kind


def sentence(summary: CampaignSummary, total: Row, rate: Interval) -> str:
    """Return what faults of one group do to the answer, in one sentence."""
    subject, several = _subject(summary, total.group)
    verb = "change" if several else "changes"
    told = measured(rate, summary.campaign.confidence)
    due = total.rates.get("due")
    detected = f"; errors are detected (DUE) in {value(due)}{NBSP}%" if due and due.value else ""
    return f"{subject} {verb} the answer of {told.replace('(', 'of images (', 1)}{detected}."


def kind_words(group: Group, *, several: bool) -> str:
    """Return what breaks, in words.

    Example:
        >>> group = Group(group=0, label="x", kind={"kind": "flip"}, sites=("weight",), trials=1)
        >>> kind_words(group, several=True)
        'flipped weight bits'
    """
    sites = " or ".join(site.replace("_", " ") for site in group.sites)
    bits = " ".join(filter(None, [sites, "bits" if several else "bit"]))
    kind = group.kind.get("kind")
    if kind == "flip":
        return f"flipped {bits}"
    if kind == "stuck_at":
        return f"{bits} stuck at {group.kind.get('value', 0)}"
    noun = "faults" if several else "fault"
    return f"{noun} of the kind “{group.label}”"


def _subject(summary: CampaignSummary, number: int) -> tuple[str, bool]:
    """Return who acts in the sentence of a group, and whether there are several."""
    group = next((each for each in summary.groups if each.group == number), None)
    if group is not None and group.extent == "together" and not group.population:
        return "The listed faults", True  # replayed, not drawn
    if group is None or number == TOGETHER or group.extent == "together":
        return "All kinds of faults together", True
    if group.rate is not None:
        words = kind_words(group, several=True)
        return f"At a rate of {pretty_level('random_flips', group.rate)}, {words}", True
    places = re.match(r"(\d+)", group.extent)
    if places and int(places[1]) > 1:
        return f"{places[1]} {kind_words(group, several=True)} together", True
    return f"One {kind_words(group, several=False)}", False


def _decimals(rate: Interval) -> int:
    """Return how many decimals of per cent are worth showing."""
    sides = [side for side in (rate.value - rate.low, rate.high - rate.value) if side > 1e-12]
    if sides:
        wanted = math.ceil(-math.log10(100 * min(sides)) - 1e-9)
    elif rate.value > 0:
        wanted = 2 - math.floor(math.log10(100 * rate.value))
    else:
        wanted = 1
    # A lone failure in many trials must not read as none.
    if rate.value > 0:
        wanted = max(wanted, math.ceil(-math.log10(100 * rate.value)))
    return min(max(wanted, 0), MOST_DECIMALS)


def _percent(fraction: float, decimals: int) -> str:
    return f"{100 * fraction + 0.0:.{decimals}f}"
