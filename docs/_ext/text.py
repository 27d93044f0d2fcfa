"""Markdown by hand: tables and their cells."""

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(text: str) -> str:
    r"""Return plain words as a cell, on one line; what stands in backticks stays code.

    Example:
        >>> cell("a | b, `x*y` and 2 * 3 * 4")
        'a \\\\| b, `x*y` and 2 \\\\* 3 \\\\* 4'
    """
    words = " ".join(text.split()).replace("|", "\\|")
    parts = re.split(r"(`[^`]*`)", words)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<\[\]])", r"\\\1", part) for part in parts
    )
