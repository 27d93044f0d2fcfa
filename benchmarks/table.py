"""What every benchmark here shares: interleaved timing, one table, one file of rows."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bitproof.core.files import write_text


@dataclass(frozen=True)
class Row:
    """One comparison: what others take, what bitproof takes, what no program can beat."""

    name: str
    rival: float
    ours: float
    limit: float
    unit: str = "ms"

    @property
    def ratio(self) -> float:
        """Return how many times `rival` is as much as `ours`."""
        return self.rival / self.ours


def json_path(about: str) -> Path | None:
    """Return the file asked for with `--json`, from the command line."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    path: Path | None = parser.parse_args().json
    return path


def interleave(
    work: Mapping[str, Callable[[], object]], *, rounds: int, calls: int = 1, rest: float = 0
) -> dict[str, list[float]]:
    """Return milliseconds per call, sorted; all cases take turns, so that noise hits them alike.

    `calls` follow one another in each turn. With a `rest`, in seconds, and one more call before
    them, no case meets the caches or the threads of the one before, which may spin for a while.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, call in work.items():
            if rest:
                time.sleep(rest)
                call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            if number:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start) / calls)
    return {name: sorted(taken) for name, taken in times.items()}


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    width = max(len(row.name) for row in rows)
    print(f"\n{title}")
    print(f"{'':{width}}  {'rival':>9}  {'ours':>9}  {'limit':>9}  {'ratio':>8}")
    for row in rows:
        numbers = "  ".join(f"{number:9.3f}" for number in (row.rival, row.ours, row.limit))
        print(f"{row.name:{width}}  {numbers}  {row.ratio:7.1f}x  {row.unit}")


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a JSON list, complete or not at all."""
    tables = [asdict(row) | {"ratio": row.ratio} for row in rows]
    write_text(path, json.dumps(tables, indent=2) + "\n")
