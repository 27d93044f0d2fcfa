"""The directory of a search over multipliers: what lies where, and whether it may go on.

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

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bitproof.core.directory import Entry, ResumableDirectory, read_sealed, write_sealed
from bitproof.core.errors import DataError, ResumeError
from bitproof.core.files import sweep
from bitproof.core.lock import hold

Shard = tuple[int, int]
"""Number of the share, from 1, and number of shares."""


@dataclass(frozen=True)
class ExplorationDirectory(ResumableDirectory):
    """One search on disk."""

    work: ClassVar[str] = "search"

    plan = Entry("plan.json")
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

    def begin(self, plan: dict[str, Any], *, resume: bool) -> None:
        """Write down what is to be done, or make sure that it is what was begun.

        Raises:
            ResumeError: a search lies here and `resume` was not asked for, or its fingerprint
                differs; each difference is named.
            DataError: its plan is damaged.
        """
        content = json.loads(json.dumps(plan, allow_nan=False))
        with hold(self.path / ".begin"):  # of several shares that start at once, one writes
            sweep(self.path)
            if not self.plan.exists():
                self._check_empty()
                write_sealed(self.plan, content)
                return
        self.check_resume(resume=resume)
        before = self.read_plan()["fingerprint"]
        self.check_same(before, content["fingerprint"], "belongs to another search")

    def _check_empty(self) -> None:
        """Raise a ResumeError if parts of a search lie here, but not what it was."""
        stored = [self.counts, self.weights, self.summary, *self.path.glob("network*")]
        if found := [path.name for path in stored if path.exists()]:
            raise ResumeError(
                f"{self.path}: holds parts of a search ({found[0]}) without its plan.json; choose "
                "another --out"
            )

    def read_plan(self) -> dict[str, Any]:
        """Return the plan, or raise a DataError if it is missing or damaged."""
        if not self.plan.exists():
            raise DataError(f"{self.path}: holds no search (no plan.json)")
        content = read_sealed(self.plan)
        if not isinstance(content.get("fingerprint"), dict):
            raise DataError(f"{self.plan}: damaged, wanted a fingerprint")
        return content
