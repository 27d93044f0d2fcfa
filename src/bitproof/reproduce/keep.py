"""Integer networks that are worth keeping beside the results.

`results/SIZE/TABLE/weights/NETWORK-DATASET.VARIANT.safetensors` and `.json` hold the words and
the graph of one network; `bitproof.load_network` reads both.
"""

from pathlib import Path

from bitproof.core.files import read_bytes, write_bytes
from bitproof.core.progress import SILENT, Progress
from bitproof.reproduce.collect import SeedRun

FILE_LIMIT = 12_000_000
"""Largest file, bytes."""
WHOLE_LIMIT = 60_000_000
"""All files of all sizes and tables together, bytes."""
SUFFIXES = (".safetensors", ".json")


def keep_networks(run: SeedRun, results: Path, *, progress: Progress = SILENT) -> None:
    """Copy the networks that a job's plan names out of a finished run.

    What would go over a limit is left out, with one line that says so.

    Raises:
        StorageError: the place cannot be written.
    """
    job = run.job
    for variant in job.plan.keep:
        source = run.folder.network(variant)
        goal = results / job.size / job.table.name / "weights" / f"{job.name}.{variant}"
        goals = {beside(goal, suffix): suffix for suffix in SUFFIXES}
        contents = {path: read_bytes(beside(source, suffix)) for path, suffix in goals.items()}
        others = sum(path.stat().st_size for path in kept(results) if path not in goals)
        largest, whole = max(map(len, contents.values())), sum(map(len, contents.values()))
        reason = ""
        if largest > FILE_LIMIT:
            reason = f"{largest / 1e6:.1f} MB is over the {FILE_LIMIT / 1e6:g} MB limit"
        elif others + whole > WHOLE_LIMIT:
            reason = f"{WHOLE_LIMIT / 1e6:g} MB for all networks are used up"
        if reason:
            progress.say(f"{goal.name}: not kept, {reason}")
            continue
        for path, content in contents.items():
            write_bytes(path, content)


def kept(results: Path) -> list[Path]:
    """Return the files of all networks that are kept."""
    return sorted(path for path in results.glob("*/*/weights/*") if path.suffix in SUFFIXES)


def beside(path: Path, suffix: str) -> Path:
    """Return a path with a suffix after its whole name, which may hold dots.

    Example:
        >>> beside(Path("lenet5-mnist.s1+s2"), ".json").name
        'lenet5-mnist.s1+s2.json'
    """
    return path.with_name(path.name + suffix)
