"""The report of a fault-injection campaign as one page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitproof.core.files import write_text
from bitproof.report import html, wording
from bitproof.report.campaign_slices import slices
from bitproof.report.campaign_summary import (
    MAIN,
    SUMMARY,
    CampaignSummary,
    Group,
    Row,
    read_summary,
)
from bitproof.report.html import REPORT, facts_text
from bitproof.stats.sample_size import sample_size

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


def write_campaign_report(folder: Path, *, interactive: bool = False) -> Path:
    """Write `report.html` into a campaign directory and return its path.

    Args:
        folder: the directory.
        interactive: draw figures in the browser, by a program inside the page.

    Raises:
        DataError: `summary.json` is missing or damaged.
        StorageError: the disk is full, or the place cannot be written.
    """
    path = folder / REPORT
    write_text(path, render_campaign(read_summary(folder / SUMMARY), interactive=interactive))
    return path


def render_campaign(summary: CampaignSummary, *, interactive: bool = False) -> str:
    """Return the page; equal summaries give equal pages."""
    from bitproof.report.campaign_charts import campaign_figures  # noqa: PLC0415 - slow to import

    drawn = campaign_figures(summary)
    return html.render("campaign.html.j2", _context(summary), drawn, interactive=interactive)


def _context(summary: CampaignSummary) -> dict[str, Any]:
    campaign = summary.campaign
    totals = [(summary.label(row.group), row) for row in summary.totals]
    return {
        "campaign": campaign,
        "heading": campaign.title or "Fault-injection campaign",
        "confidence": wording.confidence_text(campaign.confidence),
        "margin": None if campaign.margin is None else f"{100 * campaign.margin:.4g}",
        "images": wording.count(campaign.images, "image"),
        "trials": wording.count(campaign.trials, "trial"),
        "outcomes": [(name, wording.outcome_name(name)) for name in summary.outcomes],
        "headline": headline(summary),
        "tiles": totals[:6],
        "main": MAIN,
        "totals": totals,
        "planned": planned(summary),
        "protections": [wording.settings(each) for each in campaign.protections],
        "tables": tables(summary),
        "channels": summary.channels[:CHANNELS_SHOWN],
        "channels_left": len(summary.channels) - CHANNELS_SHOWN,
        "label": summary.label,
        "environment": environment_facts(summary),
        "has_fit": any(row.fit for row in [*summary.totals, *summary.layers, *summary.bits]),
    }


def headline(summary: CampaignSummary) -> str:
    """Return what the campaign found, in one sentence: the kind of fault that does most harm."""
    rated = [(row, row.rates[MAIN]) for row in summary.totals if row.trials and MAIN in row.rates]
    if not rated:
        return "This campaign has no results yet."
    row, rate = max(rated, key=lambda pair: pair[1].value)
    confidence = wording.confidence_text(summary.campaign.confidence)
    numbers = f"{wording.value(rate)} % of answers ({confidence}: {wording.span(rate)} %)"
    among = "" if len(rated) == 1 else f", most of {len(rated)} kinds of faults"
    return f"{summary.label(row.group)}: {numbers} change{among}."


def tables(summary: CampaignSummary) -> list[tuple[str, str, list[tuple[str, Row]]]]:
    """Return title, what its rows are, and rows by layer and by bit of every slice."""
    found = []
    for part in slices(summary):
        layers: list[tuple[str, Row]] = [(row.layer, row) for row in part.layers]
        numbers = ((str(bit), part.row(None, bit)) for bit in part.bit_numbers)
        bits = [(name, row) for name, row in numbers if row is not None]
        found += [(part.title, "layer", layers), (part.title, "bit", bits)]
    return [each for each in found if each[2]]


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
        "time": None if campaign.seconds is None else wording.seconds(campaign.seconds),
    }
    return facts_text(named | dict(campaign.versions))
