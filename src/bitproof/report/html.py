"""One offline HTML file, for a run or a campaign: no font, no request, and no script unless asked.

Every text that comes from files is escaped by the template, and a content security policy in the
page forbids requests once more, and scripts other than the page's own.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bitproof.report.wording import ABSENT

if TYPE_CHECKING:
    from bitproof.report.figures import Figure

REPORT = "report.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
LIVE_POLICY = f"{POLICY}; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Tile:
    """One large number below the headline."""

    title: str
    number: str
    unit: str
    lines: Sequence[str]
    """Smaller text, the first line bold."""
    look: str = ""
    """CSS class."""


@dataclass(frozen=True)
class Alert:
    """What a reader must see first."""

    title: str
    lines: Sequence[str]


def render(
    template: str, context: dict[str, Any], figures: "Sequence[Figure]", *, interactive: bool
) -> str:
    """Return a page; equal input gives equal pages.

    Args:
        template: its name.
        context: what it shows.
        figures: its drawings, in order.
        interactive: draw figures in the browser, by a program inside the page.
    """
    from bitproof.report.figures import live, live_script, static  # noqa: PLC0415 - slow to import

    environment = Environment(
        loader=PackageLoader("bitproof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections: defaultdict[str, list[Figure]] = defaultdict(list)
    for figure in figures:
        sections[figure.section].append(figure)
    page = environment.get_template(template).render(
        **context,
        figures=sections,
        draw=live if interactive else static,
        policy=LIVE_POLICY if interactive else POLICY,
        script=live_script(figures) if interactive else "",
        absent=ABSENT,
    )
    return page.encode("utf-8", errors="replace").decode("utf-8")  # lone surrogates of JSON
