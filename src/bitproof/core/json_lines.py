"""A log on disk that only ever grows: one JSON object a line.

A line is written when what it tells of is complete, so an interruption loses at most the one under
way. A torn last line is passed over, and cut off by whoever writes next: reading never writes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bitproof.core.errors import DataError, shorten
from bitproof.core.files import append_line, write_text
from bitproof.core.spec import canonical_json

T = TypeVar("T")


class JsonLines:
    """The log in one file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     log = JsonLines(Path(folder) / "log.jsonl")
        ...     log.append({"n": 1})
        ...     log.append({"n": 2})
        ...     log.read(lambda entry: entry["n"])
        [1, 2]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole: str | None = None
        """The text before a torn last line."""

    def read(self, parse: Callable[[dict[str, Any]], T]) -> list[T]:
        """Return what `parse` makes of each line; nothing where there is no file.

        Raises:
            DataError: a line is no JSON, or `parse` stumbles over it.
        """
        if not self.path.exists():
            return []
        *lines, last = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        self._whole = "".join(f"{line}\n" for line in lines) if last else None
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(parse(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                raise DataError(
                    f"{self.path}: line {number} is not a measurement: {shorten(line)}"
                ) from None
        return found

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line."""
        if self._whole is not None:
            write_text(self.path, self._whole)
            self._whole = None
        append_line(self.path, canonical_json(entry))
