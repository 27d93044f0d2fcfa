"""How values show themselves: a few lines in a terminal, a small table in a notebook."""

from collections.abc import Mapping, Sequence
from html import escape

MOST_ROWS = 20
"""Rows of a table in a notebook; the others are counted."""


def as_lines(title: str, facts: Mapping[str, str]) -> str:
    """Return a title and one line a fact.

    Example:
        >>> print(as_lines("Box", {"size": "3"}))
        Box
          size: 3
    """
    return "\n".join([title, *(f"  {name}: {value}" for name, value in facts.items())])


def as_html(
    title: str,
    facts: Mapping[str, str],
    *,
    header: Sequence[str] = (),
    rows: Sequence[Sequence[str]] = (),
) -> str:
    """Return the same as HTML, and a table below; all text is escaped.

    Example:
        >>> as_html("A<B", {"size": "3"})
        '<div><b>A&lt;B</b><table><tr><th>size</th><td>3</td></tr></table></div>'
    """
    told = "".join(_row([name], "th", _cells([value], "td")) for name, value in facts.items())
    parts = [f"<b>{escape(title)}</b>", f"<table>{told}</table>" if told else ""]
    if rows:
        body = "".join(_row(row, "td") for row in rows[:MOST_ROWS])
        parts.append(f"<table>{_row(header, 'th')}{body}</table>")
    if len(rows) > MOST_ROWS:
        parts.append(f"and {len(rows) - MOST_ROWS} more")
    return f"<div>{''.join(parts)}</div>"


def _row(cells: Sequence[str], tag: str, more: str = "") -> str:
    return f"<tr>{_cells(cells, tag)}{more}</tr>"


def _cells(cells: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
