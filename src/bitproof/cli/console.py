"""What is shown: tables, all with one look, and progress.

Progress is a bar with rate and time left on a terminal and in notebooks, elsewhere plain log lines.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
EVERY_S, REDRAW_S = 10.0, 0.25
"""Seconds between log lines, and between two pictures of a bar in a notebook."""
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


class RateColumn(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Return the rate."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@dataclass(frozen=True)
class Bars:
    """One bar at a time on a terminal."""

    console: Console

    def track(self, items: Iterable[T], *, label: str, total: int) -> Iterator[T]:
        """Yield `items` under a bar, which leaves one line behind."""
        start = time.perf_counter()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            for item in items:
                yield item
                bar.advance(task)
        self.say(f"{label}: {total} in {time.perf_counter() - start:.1f} s")

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False, markup=False)


@dataclass(frozen=True)
class Lines:
    """Log lines, every few seconds and at the end."""

    console: Console

    def track(self, items: Iterable[T], *, label: str, total: int) -> Iterator[T]:
        """Yield `items`, telling from time to time how far they are."""
        start = last = time.perf_counter()
        done = 0
        for item in items:
            yield item
            done += 1
            now = time.perf_counter()
            if now - last >= EVERY_S:
                last = now
                rate = done / (now - start)
                left = (total - done) / rate
                self.say(f"{label}: {done}/{total}, {rate:.1f}/s, {left:.0f} s left")
        self.say(f"{label}: {done}/{total} in {time.perf_counter() - start:.1f} s")

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Cells:
    """One bar at a time below the cell of a notebook; it leaves one line behind."""

    display: Callable[..., Any]
    """IPython's."""

    def track(self, items: Iterable[T], *, label: str, total: int) -> Iterator[T]:
        """Yield `items` under a bar."""
        start = time.perf_counter()
        last, done = 0.0, 0
        handle = self.display(_bar(label, 0, total, ""), raw=True, display_id=True)
        for item in items:
            yield item
            done += 1
            passed = time.perf_counter() - start
            if passed - last >= REDRAW_S:
                last = passed
                left = f"{done / passed:.1f}/s, {(total - done) * passed / done:.0f} s left"
                handle.update(_bar(label, done, total, left), raw=True)
        text = f"{label}: {done}/{total} in {time.perf_counter() - start:.1f} s"
        handle.update({"text/plain": text}, raw=True)

    def say(self, text: str) -> None:
        """Show one line."""
        self.display({"text/plain": text}, raw=True)


def _bar(label: str, done: int, total: int, rate: str) -> dict[str, str]:
    text = f"{label}: {done}/{total} {rate}".rstrip()
    bar = f'<progress value="{done}" max="{max(total, 1)}"></progress>'
    return {"text/plain": text, "text/html": f"{bar} {escape(text)}"}


def watcher() -> Bars | Lines | Cells:
    """Return who watches: bars on a terminal and in notebooks, lines elsewhere."""
    if "ipykernel" in sys.modules:
        from IPython import display, get_ipython

        if get_ipython() is not None:
            return Cells(display.display)
    console = Console()
    return Bars(console) if console.is_terminal else Lines(console)


def show_progress() -> Bars | Lines | Cells:
    """Return what shows progress where this runs, for `progress=` of the verbs of `bp`.

    Example:
        >>> isinstance(show_progress(), Bars | Lines | Cells)
        True
    """
    return watcher()
