"""The directory of a search over multipliers: what lies where, and whether it may go on.

bitproof-manifest.json         size and SHA-256 of each file
plan.json                      recipe and fingerprint; written once, before anything runs
network.safetensors, .json     the network with exact products
weights.safetensors            the float weights that it came from, if any
checkpoints/NAME.safetensors   training under way; gone when it is done
counts.jsonl                   what was measured on search images, appended; a share has its own
held-out.jsonl                 what was measured on images that no search has seen
exploration.json, front.csv, report.html
chosen.json                    the choice, as an `Arithmetic`
chosen.toml                    a recipe for `bitproof run` with the choice as a stage
networks/chosen.safetensors, .json         the integer network with the choice
networks/recovered.safetensors, .json      the same after recovery
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bitproof.core.directory import Entry, PlannedDirectory
from bitproof.core.lock import Shard


@dataclass(frozen=True)
class ExplorationDirectory(PlannedDirectory):
    """One search on disk."""

    work: ClassVar[str] = "search"
    made: ClassVar[tuple[str, ...]] = (
        *("network.*", "weights.safetensors", "checkpoints/*", "networks/*", "share-*.done"),
        *("exploration.json", "front.csv", "chosen.json", "chosen.toml", "report.html"),
    )
    logs: ClassVar[tuple[str, ...]] = ("counts*.jsonl", "held-out.jsonl")

    network = Entry("network")
    weights = Entry("weights.safetensors")
    counts = Entry("counts.jsonl")
    held_out = Entry("held-out.jsonl")
    summary = Entry("exploration.json")
    front = Entry("front.csv")
    report = Entry("report.html")
    chosen = Entry("chosen.json")
    recipe = Entry("chosen.toml")
    chosen_network = Entry("networks/chosen")
    recovered_network = Entry("networks/recovered")

    def counts_of(self, shard: Shard | None) -> Path:
        """Return the file that a share appends to."""
        return self.counts if shard is None else self.path / f"counts-{shard[0]}.jsonl"

    def all_counts(self) -> list[Path]:
        """Return all files of counts."""
        return sorted(self.path.glob("counts*.jsonl"))

    def checkpoint(self, name: str) -> Path:
        """Return the path of the snapshot of a training under way."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def finished(self, shard: Shard) -> Path:
        """Return the mark of a share that is done."""
        return self.path / f"share-{shard[0]}-of-{shard[1]}.done"
