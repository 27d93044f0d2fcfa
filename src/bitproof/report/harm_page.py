"""The part of a campaign's page that says which layers, bits and faults are worst."""

from dataclasses import dataclass

from bitproof.report.campaign_summary import CampaignSummary
from bitproof.report.page_table import PageCell, PageTable, make_table
from bitproof.report.ranking import (
    RANKING_HEAD,
    WORST_HEAD,
    ranking_line,
    ranking_rows,
    ranking_title,
    worst_line,
    worst_rows,
)
from bitproof.report.wording import confidence_text

MOST_PLACES = 20
"""Places of a ranking that a page lists; ranking.csv has all."""


@dataclass(frozen=True)
class HarmPart:
    """What the template shows."""

    lines: list[str]
    tables: list[PageTable]
    left: int
    """Places that no table lists."""
    confidence: str
    worst_line: str
    worst: PageTable | None


def harm_part(summary: CampaignSummary) -> HarmPart:
    """Return which layers, bits and faults are worst."""
    rankings = summary.rankings
    tables = [
        make_table(
            RANKING_HEAD,
            ranking_rows(one, MOST_PLACES),
            title=ranking_title(summary, one),
            look="wide dense names",
        )
        for one in rankings
    ]
    worst = None
    if summary.worst:
        cells: list[list[PageCell | str]] = [
            [row[0], *map(_text, row[1:])] for row in worst_rows(summary.worst)
        ]
        worst = make_table(WORST_HEAD, cells, look="wide dense names")
    return HarmPart(
        lines=[ranking_line(summary, one) for one in rankings],
        tables=tables,
        left=sum(max(0, len(one.places) - MOST_PLACES) for one in rankings),
        confidence=confidence_text(summary.campaign.confidence),
        worst_line=worst_line(summary),
        worst=worst,
    )


def _text(content: str) -> PageCell:
    return PageCell(content, "text" if "," in content or "->" in content else "")
