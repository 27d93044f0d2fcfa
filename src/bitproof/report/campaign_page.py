"""One offline HTML file about a fault-injection campaign: no script, no font, no request.

Every text that comes from the summary is escaped by the template, and a content security policy
in the page forbids scripts and requests once more.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from bitproof.core.files import write_text
from bitproof.report import campaign_wording as wording
from bitproof.report import threats
from bitproof.report.campaign_charts import Bar, bars, convergence_chart, outcome_bars
from bitproof.report.campaign_heat import heat_map, legend
from bitproof.report.campaign_slices import Slice, slices
from bitproof.report.campaign_summary import (
    MAIN,
    SUMMARY,
    CampaignSummary,
    Group,
    Row,
    Total,
    read_summary,
)
from bitproof.report.curves import Line, Point, line_chart
from bitproof.report.environment import make_environment
from bitproof.report.marks import styles, swatch
from bitproof.report.wording import ABSENT, count, percent, seconds
from bitproof.stats.sample_size import sample_size

REPORT = "report.html"
SENTENCES = 3
"""Groups that the headline tells about one by one."""
CHANNELS_SHOWN = 20
SINGLE = frozenset({"one place", "exhaustive"})
ENDLESS = 1 << 62


@dataclass(frozen=True)
class Planned:
    """One kind of fault: what was planned, and what came of it."""

    group: Group
    asked: int | None
    """Trials by Leveugle's formula, for the margin of the campaign."""
    share: str
    """Trials as a share of all possible faults."""
    reached: str
    """Half the width of the interval of SDC-1, in points."""


@dataclass(frozen=True)
class Bars:
    """A bar chart with its title."""

    title: str
    bars: list[Bar]
    end: str
    """The rate at the right end, in per cent."""
    trials: bool = True
    """Whether bars differ in their number of trials."""


def write_campaign_report(folder: Path) -> Path:
    """Write `report.html` into a campaign directory and return its path.

    Raises:
        DataError: `summary.json` is missing or damaged.
        StorageError: the disk is full, or the place cannot be written.
    """
    path = folder / REPORT
    write_text(path, render_campaign(read_summary(folder / SUMMARY)))
    return path


def render_campaign(summary: CampaignSummary) -> str:
    """Return the page; equal summaries give equal pages."""
    page = _environment().get_template("campaign.html.j2").render(_context(summary))
    return page.encode("utf-8", errors="replace").decode("utf-8")


@cache
def _environment() -> Environment:
    return make_environment(
        value=wording.value, span=wording.span, grouped=wording.grouped, plain=wording.plain
    )


def _context(summary: CampaignSummary) -> dict[str, Any]:
    campaign = summary.campaign
    parts = slices(summary)
    chart, looks = rate_chart(summary)
    return {
        "campaign": campaign,
        "heading": campaign.title or "Fault-injection campaign",
        "confidence": wording.confidence_text(campaign.confidence),
        "margin": None if campaign.margin is None else f"{100 * campaign.margin:.4g}",
        "images": count(campaign.images, "image"),
        "trials": count(campaign.trials, "trial"),
        "outcomes": [(name, wording.outcome_name(name)) for name in summary.outcomes],
        "headline": headline(summary),
        "tiles": [(summary.label(row.group), row) for row in summary.totals[:6]],
        "main": MAIN,
        "totals": [(summary.label(row.group), row) for row in summary.totals],
        "planned": planned(summary),
        "protections": [wording.settings(each) for each in campaign.protections],
        "maps": [
            found for part in parts if (found := heat_map(part, confidence=campaign.confidence))
        ],
        "legend": legend(),
        "layer_bars": [each for part in parts if (each := _layer_bars(part)).bars],
        "bit_bars": [each for part in parts if (each := _bit_bars(part)).bars],
        "outcome_bars": [
            each for row in summary.totals if (each := _outcome_bars(summary, row)).bars
        ],
        "channels": summary.channels[:CHANNELS_SHOWN],
        "channels_left": len(summary.channels) - CHANNELS_SHOWN,
        "label": summary.label,
        "rate_chart": chart,
        "rate_legend": looks,
        "convergence": convergence(summary),
        "environment": environment_facts(summary),
        "absent": ABSENT,
        "has_fit": any(row.fit for row in [*summary.totals, *summary.layers, *summary.bits]),
    }


def headline(summary: CampaignSummary) -> list[str]:
    """Return what the campaign found, in up to three sentences."""
    rated = [(row, row.rates[MAIN]) for row in summary.totals if row.trials and MAIN in row.rates]
    if not rated:
        return ["This campaign has no results yet."]
    if len(rated) <= SENTENCES:
        return [wording.sentence(summary, *pair) for pair in rated]
    worst = max(rated, key=lambda pair: pair[1].value)
    least = min(rated, key=lambda pair: pair[1].value)
    told = dict.fromkeys(wording.sentence(summary, *pair) for pair in (worst, least))
    return [f"Of {len(rated)} kinds of faults, these change answers most and least often:", *told]


def planned(summary: CampaignSummary) -> list[Planned]:
    """Return plan and outcome of each group."""
    found = []
    for group in summary.groups:
        total = summary.total(group.group)
        rate = total.rates.get(MAIN) if total is not None and total.trials else None
        share = ""
        if group.population and group.extent in SINGLE:
            share = f"{100 * group.trials / group.population:.3g} %"
        reached = "" if rate is None else f"±{50 * (rate.high - rate.low):.2g}"
        found.append(Planned(group, _leveugle(summary, group), share, reached))
    return found


def _leveugle(summary: CampaignSummary, group: Group) -> int | None:
    """Return the sample that the formula asks for; sets of several places are without number."""
    margin, confidence = summary.campaign.margin, summary.campaign.confidence
    size = group.population if group.extent in SINGLE else ENDLESS
    if not group.population or not size or margin is None or not 0 < margin < 1:
        return None
    return sample_size(size, margin=margin, confidence=confidence)


def rate_chart(summary: CampaignSummary) -> tuple[Markup, list[tuple[str, Markup]]]:
    """Draw accuracy against the fault rate, a line for each kind, and return it with its legend."""
    families: dict[tuple[str, ...], list[tuple[Group, Total]]] = {}
    for group in summary.groups:
        total = summary.total(group.group)
        if group.rate and total is not None and total.trials and total.acc:
            families.setdefault((wording.settings(group.kind), *group.sites), []).append(
                (group, total)
            )
    if not families:
        return Markup(""), []
    firsts = [members[0][0] for members in families.values()]
    names = [_family_name(group) for group in firsts]
    looks = styles(names, reference="", plain="", strong=None)
    lines = [
        Line(name, look, _rate_points(summary, members))
        for name, look, members in zip(names, looks, families.values(), strict=True)
    ]
    drawing = line_chart(
        lines,
        label="Accuracy against the rate of faults; the table of outcomes has the numbers",
        level_title="fault rate, per place (bit error rate)",
        tick_text=lambda level: threats.pretty_level("random_flips", level),
        logarithmic=True,
    )
    return drawing, [(name, swatch(look)) for name, look in zip(names, looks, strict=True)]


def convergence(summary: CampaignSummary) -> list[tuple[str, Markup]]:
    """Draw how each recorded estimate converged."""
    drawn = []
    for series in summary.convergence:
        title = f"{summary.label(series.group)}: {wording.outcome_name(series.outcome)}"
        chart = convergence_chart(series, summary.campaign.margin, title)
        if chart:
            drawn.append((title, chart))
    return drawn


def environment_facts(summary: CampaignSummary) -> list[tuple[str, str]]:
    """Return what the campaign was made of and on, name by name; missing facts say so."""
    campaign = summary.campaign
    named = {
        "model": campaign.model,
        "data": campaign.data,
        "images": campaign.images,
        "trials planned": campaign.planned,
        "trials done": campaign.trials,
        "seed": campaign.seed,
        "network (SHA-256)": campaign.network,
        "counts (SHA-256)": campaign.checksum,
        "device": campaign.device,
        "engine": campaign.engine,
        "time": None if campaign.seconds is None else seconds(campaign.seconds),
        **campaign.versions,
    }
    return [(k, ABSENT if v is None or v == "" else str(v)) for k, v in named.items()]


def _family_name(group: Group) -> str:
    kind = str(group.kind.get("kind", ""))
    if kind in {"flip", "stuck_at"}:
        return wording.kind_words(group, several=True)
    return f"{wording.settings(group.kind)} in {' or '.join(group.sites)}"


def _rate_points(summary: CampaignSummary, members: list[tuple[Group, Total]]) -> tuple[Point, ...]:
    """Return accuracies by rising rate, the accuracy without faults first."""
    golden = summary.campaign.golden_acc
    points = [] if golden is None else [(0.0, golden, "no faults")]
    for group, total in sorted(members, key=lambda pair: pair[0].rate or 0.0):
        if group.rate and total.acc is not None:
            name = f"rate {threats.pretty_level('random_flips', group.rate)}"
            points.append((group.rate, total.acc, name))
    return tuple(
        Point(
            level,
            acc.value,
            acc.low,
            acc.high,
            f"{name}: {percent(acc.value)} % ({percent(acc.low)} to {percent(acc.high)})",
        )
        for level, acc, name in points
    )


def _layer_bars(part: Slice) -> Bars:
    rows: list[tuple[str, Row]] = [(row.layer, row) for row in part.layers]
    drawn, end = bars(rows, MAIN)
    return Bars(part.title, drawn, f"{100 * end:g}")


def _bit_bars(part: Slice) -> Bars:
    rows: list[tuple[str, Row]] = [
        (f"bit {bit}", row) for bit in part.bit_numbers if (row := part.row(None, bit)) is not None
    ]
    drawn, end = bars(rows, MAIN)
    return Bars(part.title, drawn, f"{100 * end:g}")


def _outcome_bars(summary: CampaignSummary, row: Total) -> Bars:
    """Return the outcomes of a group that do harm: where most trials are masked, that bar hides."""
    harmful = [name for name in summary.outcomes if name != "masked"]
    drawn, end = outcome_bars(row, harmful)
    return Bars(summary.label(row.group), drawn, f"{100 * end:g}", trials=False)
