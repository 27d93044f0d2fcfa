"""Finished measurements on disk: counts, one JSON line each.

A count stands under the digest of what was measured, so equal measurements are made once, whatever
the networks are called; the names beside it are for people. Which images were right stands beside,
packed, where each was judged once, and what counting took.
"""

from pathlib import Path
from typing import Any

from bitproof.core.flags import pack_flags, unpack_right
from bitproof.core.json_lines import JsonLines
from bitproof.metrics import Tally


class TallyStore:
    """Counts by key; with a path, they outlive the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._log = JsonLines(path) if path else None
        self._tallies = dict(self._log.read(_parsed)) if self._log else {}

    def get(self, key: str) -> Tally | None:
        """Return the count of a finished measurement."""
        return self._tallies.get(key)

    def add(self, key: str, tally: Tally, **names: Any) -> None:
        """Keep a count; `names` are JSON values by which people know it."""
        if self._log:
            counts: dict[str, Any] = {"correct": tally.correct, "total": tally.total}
            if tally.others:
                counts["others"] = dict(tally.others)
            if tally.right:
                counts["right"] = pack_flags(tally.right)
            if tally.seconds:
                counts["seconds"] = round(tally.seconds, 3)
            self._log.append({**names, "key": key, **counts})
        self._tallies[key] = tally


def _parsed(entry: dict[str, Any]) -> tuple[str, Tally]:
    others = tuple((str(k), n) for k, n in entry.get("others", {}).items())
    correct, total = entry["correct"], entry["total"]
    right = unpack_right(entry.get("right"), correct, total)
    return str(entry["key"]), Tally(correct, total, others, right)
