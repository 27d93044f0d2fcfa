"""Figures: Vega-Lite specs, drawn as SVG, PNG and PDF, or live in a page, without any network.

Specs are plain dictionaries. This module alone knows the plotting library, which is slow to load,
so it is imported where a figure is wanted, not with the package.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert
from markupsafe import Markup

from bitproof.core.errors import DataError, shorten
from bitproof.core.files import write_bytes
from bitproof.report.marks import described, series_of, unfolded
from bitproof.report.wording import slug

VEGA_LITE = "6.4"
FORMATS = ("svg", "png", "pdf")
Spec = dict[str, Any]
GREY, INK, BLUE, ORANGE = "#6b7280", "#111111", "#0072b2", "#d55e00"
PALETTE = (ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a4a2b", "#5b5bd6")
"""Colours that the colour-blind tell apart (Okabe and Ito, 2008), but for the last two."""
NO_XML = re.compile(r"(?<!\\)((?:\\\\)*)(?:\\u00[01][0-9a-f]|\\[bf]|[\ufffe\uffff])")
"""Characters, as JSON has them, that no SVG may hold; the library ends the process over them."""
CONFIG: dict[str, Any] = {
    "aria": False,  # the drawing as a whole has a label
    "font": "sans-serif",
    "view": {"stroke": "#9ca3af"},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#e5e7eb", "labelLimit": 220}
    | {
        "labelFlush": False,
        "labelSeparation": 6,
        "titleFontWeight": "normal",
        "domainColor": "#9ca3af",
        "tickColor": "#9ca3af",
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "labelLimit": 240, "symbolSize": 70}
    | {"titleFontWeight": "normal", "symbolStrokeWidth": 2, "orient": "bottom", "titleLimit": 400}
    | {"columnPadding": 18},
    "header": {"labelFontSize": 12, "labelLimit": 420},
}
LIVE = """
const specs = JSON.parse(document.getElementById("specs").textContent);
for (const place of document.querySelectorAll("[data-figure]")) {
  const options = {ast: true, renderer: "svg", actions: false};
  vegaEmbed(place, specs[place.dataset.figure], options);
}
"""
"""Draws every figure of a page; `ast`: expressions are interpreted, so no policy forbids them."""


@dataclass(frozen=True)
class Figure:
    """One drawing."""

    section: str
    """The part of the page that shows it."""
    name: str
    """Of its files: letters, digits and hyphens."""
    title: str
    spec: str
    """Vega-Lite, as JSON."""


def make_figure(section: str, name: str, title: str, spec: Spec) -> Figure:
    """Return the figure of a spec; equal specs give equal figures."""
    legend = {**CONFIG["legend"], "columns": _columns(series_of(spec))}
    whole = {**spec, "config": {**CONFIG, "legend": legend}, "background": "white"}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False)
    # Lone surrogates come from JSON files; no program draws them.
    text = NO_XML.sub(r"\1?", text.encode(errors="replace").decode())
    return Figure(section, slug(name), title, text)


def number(name: str, **more: Any) -> Spec:
    """Return a channel that shows a field of numbers."""
    return {"field": name, "type": "quantitative", **more}


def category(name: str, **more: Any) -> Spec:
    """Return a channel that tells names apart, in the order of the data."""
    return {"field": name, "type": "nominal", "sort": None, "title": None, **more}


def scale(domain: Iterable[str], values: Sequence[Any]) -> Spec:
    """Return a scale that gives each name a value; few values come again."""
    names = list(domain)
    return {"domain": names, "range": [values[i % len(values)] for i in range(len(names))]}


def layer(mark: str, *, where: str | None = None, encoding: Spec, **look: Any) -> Spec:
    """Return one layer of a drawing.

    Args:
        mark: what it draws.
        where: a condition on rows, `datum.name`.
        encoding: channels beyond those of the whole drawing.
        look: settings of the mark.
    """
    chosen = {} if where is None else {"transform": [{"filter": where}]}
    return {**chosen, "mark": {"type": mark, **look}, "encoding": encoding}


def unique(figures: Sequence[Figure]) -> list[Figure]:
    """Return figures with names that differ: equal ones get a number."""
    found: dict[str, Figure] = {}
    for each in figures:
        name, number = each.name, 2
        while name in found:
            name, number = f"{each.name}-{number}", number + 1
        found[name] = Figure(each.section, name, each.title, each.spec)
    return list(found.values())


def static(figure: Figure) -> Markup:
    """Return a figure as SVG for a page: no name space, no address, label instead."""
    spec = json.dumps(described(json.loads(figure.spec)), ensure_ascii=False, allow_nan=False)
    drawn = unfolded(vl_convert.vegalite_to_svg(spec, VEGA_LITE, allowed_base_urls=[]))
    body = drawn[drawn.index(">") + 1 :]
    size = re.search(r'viewBox="[\d. -]+"', drawn)
    width = re.search(r'width="([\d.]+)"', drawn)
    return Markup('<svg role="img" aria-label="{}" {} style="width:{}px">{}').format(
        figure.title, Markup(size[0] if size else ""), width[1] if width else 500, Markup(body)
    )


def live(figure: Figure) -> Markup:
    """Return the place where the script of the page draws a figure."""
    return Markup('<div data-figure="{}" aria-label="{}"></div>').format(figure.name, figure.title)


def framed(figure: Figure, look: str, draw: Callable[[Figure], Markup]) -> Markup:
    """Return a figure of a page under its title; a script reads how many lines it has."""
    lines = len(series_of(json.loads(figure.spec)))
    return Markup('<figure class="{}"{}><h3>{}</h3>\n{}\n</figure>').format(
        look, Markup(f' data-series="{lines}"') if lines > 1 else "", figure.title, draw(figure)
    )


def live_specs(figures: Sequence[Figure]) -> Markup:
    """Return the specs, as data, for the program of `live_program`."""
    specs = ",".join(f"{json.dumps(each.name)}:{each.spec}" for each in figures)
    safe = specs.replace("<", r"\u003c")  # nothing else could end a script element
    return Markup(f'<script type="application/json" id="specs">{{{safe}}}</script>\n')


def check_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return kinds of files, each once, in their order.

    Raises:
        DataError: there is no such kind, or none at all.

    Example:
        >>> check_formats(["pdf", "svg", "pdf"])
        ('pdf', 'svg')
    """
    found = tuple(dict.fromkeys(names))
    for name in found or ("nothing",):
        if name not in FORMATS:
            raise DataError(f"format: wanted some of {', '.join(FORMATS)}, got {shorten(name)}")
    return found


def write_figures(
    figures: Sequence[Figure], folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write every figure in each of `formats`, with its numbers as CSV; equal figures, equal bytes.

    Returns:
        The paths, in order.

    Raises:
        DataError: there is no such format.
        StorageError: the disk is full, or the place cannot be written.
    """
    makers = {"svg": lambda each: _svg(each).encode(), "png": _png, "pdf": _pdf}
    chosen = {name: makers[name] for name in check_formats(formats)}
    written = []
    for each in figures:
        files = {name: make(each) for name, make in chosen.items()}
        for ending, content in {**files, "csv": figure_csv(each).encode()}.items():
            path = folder / f"{each.name}.{ending}"
            write_bytes(path, content)
            written.append(path)
    return written


def figure_csv(figure: Figure) -> str:
    """Return the numbers that a figure draws, a mark a row, in the units of its axes.

    Where marks have data of their own, such as reference lines, `part` counts these from 1.
    """
    parts = list(_data_of(json.loads(figure.spec)))
    columns = list(dict.fromkeys(name for rows in parts for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = len(parts) > 1
    writer.writerow([*(["part"] if several else []), *columns])
    for number, rows in enumerate(parts, 1):
        for row in rows:
            cells = ["" if row.get(name) is None else row[name] for name in columns]
            writer.writerow([*([number] if several else []), *cells])
    return text.getvalue()


def _data_of(spec: Any) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of every data set in a spec, from the outside in."""
    if isinstance(spec, dict):
        rows = spec["data"].get("values") if isinstance(spec.get("data"), dict) else None
        if isinstance(rows, list):
            yield rows
        for name, part in spec.items():
            if name != "data":
                yield from _data_of(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from _data_of(part)


def _png(figure: Figure) -> bytes:
    drawn: bytes = vl_convert.vegalite_to_png(figure.spec, VEGA_LITE, scale=3, allowed_base_urls=[])
    return drawn


def _columns(names: Sequence[str]) -> int:
    """Return how many names of a legend stand side by side below a drawing."""
    return max(1, min(5, 440 // (36 + 7 * max(map(len, names), default=1))))


def _pdf(figure: Figure) -> bytes:
    drawn = vl_convert.vegalite_to_pdf(figure.spec, VEGA_LITE, allowed_base_urls=[])
    # The library writes references to resources in random order; sorted, they take as many bytes.
    return re.sub(
        rb"(?:^ +/[a-z]+\d+ \d+ 0 R\n)+",
        lambda block: b"".join(sorted(block[0].splitlines(keepends=True))),
        drawn,
        flags=re.MULTILINE,
    )


def _svg(figure: Figure) -> str:
    return vl_convert.vegalite_to_svg(figure.spec, VEGA_LITE, allowed_base_urls=[])


@cache
def live_program() -> str:
    """Return the program that draws the specs of a page, complete: it asks for nothing."""
    bundle = vl_convert.javascript_bundle(LIVE, VEGA_LITE)
    return bundle.replace("</script", r"<\/script")
