"""How long work tells where it stands, without knowing who watches."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Progress(Protocol):
    """Somebody who watches: a bar, log lines, or nobody."""

    def track(self, items: Iterable[T], *, label: str, total: int) -> Iterator[T]:  # noqa: ARG002
        """Yield `items`, showing how many of `total` are done."""
        yield from items

    def say(self, text: str) -> None:
        """Show one line."""


class Silent(Progress):
    """Nobody watches."""

    def say(self, text: str) -> None:
        """Show nothing."""


SILENT = Silent()
