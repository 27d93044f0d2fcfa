"""One look for every table that is printed."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 240
"""Columns where the output is no terminal, so that nothing is cut or wrapped."""


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str, numbers: bool
) -> None:
    """Print a table; with `numbers`, all columns but the first stand to the right."""
    console = Console()
    table = Table()
    for position, name in enumerate(header):
        right = numbers and position > 0
        table.add_column(Text(name), justify="right" if right else "left", no_wrap=numbers)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if not console.is_terminal:
        console.width = WIDE
    console.print(Text(title, style="italic"), soft_wrap=True)
    console.print(table)
