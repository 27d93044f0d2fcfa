"""How much memory is free, and a refusal of what would not fit."""

import math
from pathlib import Path

from bitproof.core.errors import DataError

SHARE = 0.8
"""Of the free memory, what pixels may take: training needs some, too."""
GB = 1e9
MEMINFO = Path("/proc/meminfo")
GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        *(Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)
"""Of control groups, versions 2 and 1: their folder; files of the limit and of what is taken; the
line of `memory.stat` that tells how much of that are cached files, which make room."""


def free_bytes() -> int | None:
    """Return what this process may still take, as far as the system tells; else None."""
    found = []
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError, IndexError):
        pass
    for folder, limit, taken, cached in GROUPS:
        try:
            most = int((folder / limit).read_text(encoding="ascii"))
        except (OSError, ValueError):  # absent, or the word "max"
            continue
        found.append(max(most - _taken(folder, taken, cached), 0))
    return min(found, default=None)


def _taken(folder: Path, taken: str, cached: str) -> int:
    """Return the bytes that a control group holds and cannot give back; 0 if it does not tell."""
    try:
        held = int((folder / taken).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        found = dict(line.split(maxsplit=1) for line in lines)
        return max(held - int(found.get(cached, "0")), 0)
    except (OSError, ValueError):
        return held


FEWER = "take a smaller 'size', or fewer by 'train_size' and 'test_size'"
"""What helps where only what is asked for is decoded."""


def check_fits(
    name: str, shape: tuple[int, ...], *, itemsize: int = 1, cure: str = "take a part of them"
) -> None:
    """Refuse an array that would not fit into the free memory; `cure` ends the message.

    Raises:
        DataError: it takes more than `SHARE` of it.

    Example:
        >>> check_fits("small", (10, 3, 32, 32))
        >>> check_fits("huge", (10**9, 3, 512, 512))
        Traceback (most recent call last):
        bitproof.core.errors.DataError: huge: 1,000,000,000 inputs of 3 x 512 x 512 ...
    """
    wanted, free = math.prod(shape) * itemsize, free_bytes()
    if free is not None and wanted > SHARE * free:
        size = " x ".join(map(str, shape[1:])) or "1"
        raise DataError(
            f"{name}: {shape[0]:,} inputs of {size} take {wanted / GB:,.1f} GB, "
            f"{free / GB:,.1f} GB are free; {cure}"
        )
