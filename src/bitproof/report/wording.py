"""Numbers as people read them: per cent, points, rates with intervals, durations."""

import math
import re
from collections.abc import Mapping
from typing import Any

from bitproof.stats.intervals import Interval

MINUS = "−"
NBSP = "\N{NO-BREAK SPACE}"
ABSENT = "not recorded"
MOST_DECIMALS = 6
OUTCOME_NAMES = {
    "masked": "masked",
    "sdc1": "SDC-1",
    "sdc5": "SDC-5",
    "sdc10": "SDC-10 %",
    "sdc20": "SDC-20 %",
    "due": "DUE",
}

METRIC_NAMES = {"miou": "mIoU", "exact": "exact", "label_acc": "labels right", "mae": "MAE"}
"""What tasks count beside right answers."""


def percent(fraction: float) -> str:
    """Return a fraction as per cent with one decimal, without the sign of per cent.

    Example:
        >>> percent(0.8425)
        '84.2'
    """
    return f"{_tenths(fraction):.1f}".replace("-", MINUS)


def points(fraction: float) -> str:
    """Return a difference of fractions as signed percentage points.

    Example:
        >>> points(0.124), points(-0.006), points(0.0001)
        ('+12.4', '−0.6', '0.0')
    """
    tenths = _tenths(fraction)
    return f"{tenths:+.1f}".replace("-", MINUS) if tenths else "0.0"


def seconds(duration: float) -> str:
    """Return a duration in the two largest units that matter.

    Example:
        >>> seconds(0.25), seconds(75.0), seconds(7260.0)
        ('0.25 s', '1 min 15 s', '2 h 01 min')
    """
    if not math.isfinite(duration):
        return ABSENT
    if duration < 59.95:
        return f"{duration:.2g} s" if duration < 1 else f"{duration:.1f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def grouped(number: int) -> str:
    """Return a count with its thousands set apart.

    Example:
        >>> grouped(89314816).replace(NBSP, " ")
        '89 314 816'
    """
    return f"{number:,}".replace(",", NBSP)


def count(number: int, noun: str) -> str:
    """Return a number with its noun; groups of thousands, plural where it is one.

    Example:
        >>> count(1, "image"), count(540, "image")
        ('1 image', '540 images')
    """
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def figure(number: float | None) -> str:
    """Return three digits that matter, or more, never in powers of ten that a reader must count.

    Example:
        >>> figure(-12.345), figure(12345.6).replace(NBSP, " "), figure(None)
        ('−12.3', '12 346', '–')
    """
    if number is None:
        return "–"
    if abs(number) >= 1e15:
        return f"{number:.2e}"
    text = grouped(round(number)) if abs(number) >= 100 else f"{number:.3g}"
    return text.replace("-", MINUS)


def share(fraction: float | None) -> str:
    """Return a fraction as per cent, with two digits where it is small.

    Example:
        >>> share(0.74), share(0.0033), share(None)
        ('74.0 %', '0.33 %', '–')
    """
    if fraction is None:
        return "–"
    return f"{100 * fraction:.1f} %" if fraction >= 0.1 else f"{100 * fraction:.2g} %"


def outcome_name(outcome: str) -> str:
    """Return the name of an outcome in the literature.

    Example:
        >>> outcome_name("sdc10"), outcome_name("hang")
        ('SDC-10 %', 'hang')
    """
    return OUTCOME_NAMES.get(outcome, outcome)


def outcome_meanings(task: Mapping[str, Any]) -> dict[str, str]:
    """Return what the silent outcomes of a task mean, by name; empty: of a classification."""
    kind, logits = task.get("kind", "classification"), not task.get("probabilities")
    share = f"{100 * task.get('tolerance', 0):g} %"
    first = "Another class is first than without the fault."
    five = {"SDC-5": "The class that is first is not among the first five without the fault."}
    moved = "moves by more than a tenth, a fifth, of what it was."
    both = "SDC-10 %, SDC-20 %"
    softmax = " (softmax)" if logits else ""
    found = {
        "binary": {
            "SDC-1": "The answer is the other one.",
            both: f"The probability of the answer without the fault {moved}",
        },
        "multi_label": {
            "SDC-1": "Another set of labels is given.",
            both: "More than a tenth, a fifth, of the labels differ.",
        },
        "regression": {
            "SDC-1": f"An output moves by more than {task.get('tolerance')}.",
            both: f"An output {moved}",
        },
        "own": {"SDC-1": "The answer is judged otherwise than without the fault."},
        "segmentation": {
            "SDC-1": f"More than {share} of the pixels are given another class.",
            both: "More than a tenth, a fifth, of the pixels are given another class.",
        },
        "sequence": {
            "SDC-1": f"More than {share} of the places are given another class.",
            both: "More than a tenth, a fifth, of the places are given another class.",
        },
    }
    of_class = f"The probability{softmax} of the class that is first without the fault {moved}"
    found["classification"] = {"SDC-1": first, **five, both: of_class}
    meant = found.get(str(kind), {"SDC-1": "The answer differs from that without the fault."})
    meant["SDC-1"] += (
        " This page says that the answer changes. (Outputs that are neither masked, nor SDC of any "
        "kind, nor DUE differ without harm.)"
    )
    return meant


def slug(text: str) -> str:
    """Return text as part of a file name, or of an address within a page.

    Example:
        >>> slug("accuracy random_flips"), slug("../<b>")
        ('accuracy-random-flips', 'b')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "figure"


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


def confidence_text(confidence: float) -> str:
    """Return how often an interval holds the truth.

    Example:
        >>> confidence_text(0.95), confidence_text(0.999)
        ('95 %', '99.9 %')
    """
    return f"{100 * confidence:.6g} %"


def settings(values: Mapping[str, Any]) -> str:
    """Return the settings of a component, its kind first.

    Example:
        >>> settings({"kind": "secded", "data_bits": 64, "sites": ["weight", "bias"]})
        'secded (data_bits = 64, sites = weight, bias)'
    """
    rest = ", ".join(f"{key} = {one}" for key, one in flat(values).items() if key != "kind")
    kind = str(values.get("kind", "unnamed"))
    return f"{kind} ({rest})" if rest else kind


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return settings one by one, those of settings within settings with dots; unset ones left out.

    Example:
        >>> flat({"epochs": 4, "optimization": {"decay": 0.1, "steps": [1, 2], "clip": None}})
        {'epochs': '4', 'optimization.decay': '0.1', 'optimization.steps': '1, 2'}
    """
    found: dict[str, str] = {}
    for key, one in values.items():
        name = f"{prefix}{key}"
        if isinstance(one, Mapping):
            found |= flat(one, f"{name}.")
        elif isinstance(one, list | tuple) and any(isinstance(each, Mapping) for each in one):
            for number, each in enumerate(one, 1):
                whole = each if isinstance(each, Mapping) else {"value": each}
                found |= flat(whole, f"{name}.{number}.")
        elif one is not None:
            found[name] = ", ".join(map(str, one)) if isinstance(one, list | tuple) else str(one)
    return found


def _tenths(fraction: float) -> float:
    """Return per cent rounded to one decimal, never a negative zero."""
    return round(100 * fraction, 1) + 0.0


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
