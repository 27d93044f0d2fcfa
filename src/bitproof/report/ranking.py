"""Which layers and bits are worst, and which faults: in words, and as rows of tables."""

import csv
import io
from collections.abc import Sequence

from bitproof.report.campaign_summary import CampaignSummary, FaultHarm, RankedPlace, Ranking
from bitproof.report.wording import (
    confidence_text,
    count,
    figure,
    outcome_name,
    percent,
    points,
    span,
    value,
)
from bitproof.stats.intervals import Interval

RANKING_COLUMNS = (
    *("group", "site", "of", "place", "layer", "bit", "outcome", "value", "ci_low", "ci_high"),
    *("rank_low", "rank_high", "trials", "population"),
)
NOUNS = {"layer": "layer", "bit": "bit", "cell": "bit of a layer"}
PLURALS = {"layer": "layers", "bit": "bits", "cell": "bits of layers"}
ABSENT_VALUE = "-"
"""Of sites whose words differ from image to image."""
RANKING_HEAD = ("place", "SDC-1, %", "rank", "adds, points", "trials")
WORST_HEAD = ("fault", "value", "outcome", "answers changed", "accuracy lost, points")


def place_name(place: RankedPlace) -> str:
    """Return what a place is called.

    Example:
        >>> counts = {"trials": 9, "population": 9, "rate": Interval(0.0, 0.1, 0.2)}
        >>> place_name(RankedPlace(layer="fc", bit=7, ranks=(1, 1), **counts))
        'fc bit 7'
    """
    bit = "" if place.bit is None else f"bit {place.bit}"
    return " ".join(part for part in (_layer_name(place.layer), bit) if part)


def _layer_name(layer: str) -> str:
    """Return a layer's name; a bare number says what it is."""
    return f"layer {layer}" if layer.isdecimal() else layer


def ranking_title(summary: CampaignSummary, ranking: Ranking) -> str:
    """Return the head of a ranking's table."""
    label = summary.label(ranking.group)
    alone = {one.site for one in summary.rankings if one.group == ranking.group} == {ranking.site}
    where = label if alone else f"{label} ({ranking.site} alone)"
    return f"{where}: {PLURALS[ranking.of]} by harm"


def ranking_line(summary: CampaignSummary, ranking: Ranking) -> str:
    """Return which place is the worst, or that it is not known, in one or two sentences."""
    first, many = ranking.places[0], len(ranking.places)
    noun, outcome = NOUNS[ranking.of], outcome_name(ranking.outcome)
    start = f"{ranking_title(summary, ranking).rpartition(':')[0]}, by {noun}:"
    if first.rate.value == 0:
        tried = count(sum(place.trials for place in ranking.places), "trial")
        return f"{start} no {outcome} in {tried}, so no {noun} is known to be worse than another."
    rate = f"{outcome} {value(first.rate)} % ({span(first.rate)} %)"
    trials = count(first.trials, "trial")
    if not ranking.first.untold:
        sure = confidence_text(ranking.confidence)
        return (
            f"{start} {place_name(first)} is the worst of {many}, {rate}, told apart from all "
            f"others (all ranks together: {sure})."
        )
    named = [place_name(ranking.places[n]) for n in ranking.first.others]
    more = ranking.first.untold - len(named)
    others = ", ".join(named) + (f" and {more} more" if more else "")
    return (
        f"{start} {place_name(first)} has the highest rate of {many}, {rate}, and is not "
        f"distinguishable from {others} after {trials}{_advice(ranking, named[0])}."
    )


def _advice(ranking: Ranking, name: str) -> str:
    """Return how many trials would tell the first place from the next that it is mixed up with."""
    first, times = ranking.places[0], ranking.first.times
    if times is None and first.rate.value == ranking.places[ranking.first.others[0]].rate.value:
        return "; their rates are equal so far"
    both = (first, ranking.places[ranking.first.others[0]])
    if times is None or any(times * place.trials >= place.population for place in both):
        return f"; trying all places would tell it from {name}"
    more = figure(float(f"{times:.2g}"))
    return f"; about {more} times as many would tell it from {name}, if rates are what was seen"


def ranking_rows(ranking: Ranking, most: int | None = None) -> list[tuple[str, ...]]:
    """Return place, rate with interval, ranks, what it adds to the whole, and trials.

    `adds`: of all faults at such places, the share that strikes here and changes an answer, in
    points; its parts sum to the rate of all places.
    """
    whole = sum(place.population for place in ranking.places)
    rows: list[tuple[str, ...]] = []
    for place in ranking.places[:most]:
        share = place.population / whole if whole else 0.0
        added = Interval(*(share * end for end in place.rate))
        low, high = place.ranks
        rows.append(
            (
                place_name(place),
                f"{value(place.rate)} ({span(place.rate, '-')})",
                str(low) if low == high else f"{low}-{high}",
                f"{value(added)} ({span(added, '-')})",
                str(place.trials),
            )
        )
    return rows


def ranking_csv(summary: CampaignSummary) -> str:
    """Return all rankings, a place a row; rates and intervals are fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RANKING_COLUMNS)
    for one in summary.rankings:
        for number, place in enumerate(one.places, 1):
            low, middle, high = (f"{end + 0.0:.10g}" for end in place.rate)
            bit = "" if place.bit is None else place.bit
            where = (one.group, one.site, one.of, number, place.layer, bit, one.outcome)
            writer.writerow(
                [*where, middle, low, high, *place.ranks, place.trials, place.population]
            )
    return text.getvalue()


def worst_rows(faults: Sequence[FaultHarm]) -> list[tuple[str, ...]]:
    """Return place, value, outcome, changed answers and lost accuracy of faults."""
    return [
        (
            fault_name(one),
            ABSENT_VALUE if one.before is None else f"{one.before:.4g} -> {one.after:.4g}",
            outcome_name(one.outcome) + ("" if one.protection == "none" else f", {one.protection}"),
            f"{one.sdc1 + one.due} of {one.images}",
            points(one.acc_lost).lstrip("+"),
        )
        for one in faults
    ]


def fault_name(fault: FaultHarm) -> str:
    """Return where a fault is: trial, site, layer, element and bit."""
    tap = "" if fault.tap < 0 else f" tap {fault.tap}"
    more = "" if fault.faults == 1 else f" (1 of {fault.faults})"
    action = "" if fault.action == "flip" else f" {fault.action}"
    where = f"{_layer_name(fault.layer)} {fault.site} {fault.element}{tap} bit {fault.bit}"
    return f"#{fault.trial} {where}{action}{more}"


def worst_line(summary: CampaignSummary) -> str:
    """Return how bad the worst fault is, in one sentence; empty where that was not kept."""
    if summary.worst is None:
        return ""
    if not summary.worst:
        return f"No fault of {count(summary.campaign.trials, 'trial')} did harm."
    one = summary.worst[0]
    changed = f"{one.sdc1 + one.due} of {one.images} answers"
    return (
        f"Worst fault: {fault_name(one)}, {changed} changed, accuracy {percent(one.acc)} % "
        f"({points(-one.acc_lost)} points)."
    )
