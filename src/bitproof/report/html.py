"""One offline HTML file, for a run, a campaign or a search: no font, no request.

One small script sorts tables, switches lines and shows values; without it the page says as much.
Every text that comes from files is escaped by the template, and a content security policy in the
page forbids requests once more, and every script but the page's own, which it knows by its digest.
"""

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bitproof.report.wording import ABSENT

if TYPE_CHECKING:
    from bitproof.report.figures import Figure

REPORT = "report.html"
SCRIPT = "templates/report.js"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src {}"
"""What a page may do: nothing but its own styles, and the scripts of these digests."""
HEADING = re.compile(r'<h2 id="([a-z0-9-]+)">([^<]+)</h2>')
CONTENTS = '<nav class="contents" aria-label="Contents"><ol>\n'


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

    `context` holds the `glossary` of the page: key, and term with its meaning.
    """
    from bitproof.report.figures import (  # noqa: PLC0415 - slow to import
        framed,
        live,
        live_program,
        live_specs,
        static,
    )

    sections: defaultdict[str, list[Figure]] = defaultdict(list)
    for figure in figures:
        sections[figure.section].append(figure)
    draw = live if interactive else static
    programs = [live_program()] if interactive else []
    programs.append(resources.files("bitproof.report").joinpath(SCRIPT).read_text("utf-8"))
    page = (
        _templates()
        .get_template(template)
        .render(
            **context,
            figures=sections,
            draw=lambda figure, look: framed(figure, look, draw),
            policy=POLICY.format(" ".join(f"'{_digest(program)}'" for program in programs)),
            script=(live_specs(figures) if interactive else Markup(""))
            + Markup("\n").join(Markup(f"<script>{program}</script>") for program in programs),
            links={name: key for key, (name, _) in context["glossary"].items()},
            term=partial(_term, context["glossary"]),
            absent=ABSENT,
        )
    )
    page = page.encode("utf-8", errors="replace").decode("utf-8")  # lone surrogates of JSON
    entries = "".join(
        f'<li><a href="#{place}">{title}</a></li>\n' for place, title in HEADING.findall(page)
    )
    return page.replace(CONTENTS, CONTENTS + entries, 1)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("bitproof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _digest(program: str) -> str:
    """Return the digest by which a policy knows a script."""
    digest = hashlib.sha256(program.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _term(glossary: Mapping[str, tuple[str, str]], key: str, text: str = "") -> Markup:
    """Return a term as a link to its meaning at the end of the page."""
    name, words = glossary[key]
    return Markup('<a class="term" href="#term-{}" title="{}">{}</a>').format(
        key, words, text or name
    )
