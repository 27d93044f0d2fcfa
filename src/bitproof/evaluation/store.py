"""Finished measurements on disk: an append-only log of counts, one JSON line each.

A count stands under the digest of what was measured, so equal measurements are made once, whatever
the networks are called; the names beside it are for people. A line is written when its measurement
is complete, so an interrupted run loses at most the one under way. A torn last line is ignored, and
cut off by whoever writes next: reading never writes.
"""

import json
from pathlib import Path
from typing import Any

from bitproof.core.errors import DataError
from bitproof.core.files import append_line, write_text
from bitproof.core.spec import canonical_json
from bitproof.metrics import Tally


class TallyStore:
    """Counts by key; with a path, they outlive the process."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._tallies: dict[str, Tally] = {}
        self._whole: str | None = None
        """The text before a torn last line."""
        if path and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                entry = json.loads(line)
                others = tuple((str(k), int(n)) for k, n in entry.get("others", {}).items())
                counts = Tally(entry["correct"], entry["total"], others)
                self._tallies[str(entry["key"])] = counts
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(
                    f"{path}: line {number} is not a measurement: {line[:60]!r}"
                ) from None
        if lines[-1]:  # torn by an interruption, or being written this moment
            self._whole = text[: -len(lines[-1])]

    def get(self, key: str) -> Tally | None:
        """Return the count of a finished measurement."""
        return self._tallies.get(key)

    def add(self, key: str, tally: Tally, **names: Any) -> None:
        """Keep a count; `names` are JSON values by which people know it."""
        if self.path:
            if self._whole is not None:
                write_text(self.path, self._whole)
                self._whole = None
            counts: dict[str, Any] = {"correct": tally.correct, "total": tally.total}
            if tally.others:
                counts["others"] = dict(tally.others)
            append_line(self.path, canonical_json({**names, "key": key, **counts}))
        self._tallies[key] = tally
