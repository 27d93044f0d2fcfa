"""The campaign directory: what lies where, and whether a campaign may go on.

plan.json                   spec, fingerprint and chunks; written once, before anything runs
faults.parquet              the fault table, where one is stored
network.safetensors, .json  the network
parts/                      results of chunks
summary.json, results.csv, report.html
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bitproof.core.directory import ResumableDirectory, read_sealed, write_sealed
from bitproof.core.errors import DataError
from bitproof.core.files import sweep, write_text
from bitproof.core.lock import hold


@dataclass(frozen=True)
class CampaignDirectory(ResumableDirectory):
    """One campaign on disk."""

    work: ClassVar[str] = "campaign"

    @property
    def plan(self) -> Path:
        """What is to be done."""
        return self.path / "plan.json"

    @property
    def faults(self) -> Path:
        """The fault table."""
        return self.path / "faults.parquet"

    @property
    def network(self) -> Path:
        """The network, without suffix."""
        return self.path / "network"

    @property
    def parts(self) -> Path:
        """The folder of chunks' results."""
        return self.path / "parts"

    @property
    def summary(self) -> Path:
        """Rates and intervals."""
        return self.path / "summary.json"

    @property
    def results(self) -> Path:
        """The tidy table."""
        return self.path / "results.csv"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def begin(self, plan: dict[str, Any], *, resume: bool = False) -> None:
        """Write down what is to be done, or make sure that it is what was begun.

        Args:
            plan: JSON values; its table `fingerprint` says what the results depend on. The keys
                `layout` and `sha256` are added in the file.
            resume: whether a campaign that lies here may go on. Without one, it begins: so all
                shards of a campaign pass True.

        Raises:
            ResumeError: a campaign lies here and `resume` was not asked for, or its fingerprint
                differs; each difference is named.
            DataError: its plan is damaged.
            StorageError: the place cannot be written.
        """
        self.check_place()
        content = json.loads(json.dumps(plan, allow_nan=False))
        fingerprint = content["fingerprint"]
        with hold(self.path / ".begin"):  # of several shards that start at once, one writes
            sweep(self.path)
            if not self.plan.exists():
                write_sealed(self.plan, content)
                return
        self.check_resume(resume=resume)
        before = self.read_plan()["fingerprint"]
        self.check_same(before, fingerprint, "belongs to another campaign")

    def read_plan(self) -> dict[str, Any]:
        """Return the plan that `begin` wrote.

        Raises:
            DataError: it is missing or damaged.
        """
        if not self.plan.exists():
            raise DataError(f"{self.path}: holds no campaign (no plan.json)")
        content = read_sealed(self.plan)
        if not isinstance(content.get("fingerprint"), dict):
            raise DataError(f"{self.plan}: damaged, wanted a fingerprint")
        return content

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the summary, in place of an earlier one.

        Raises:
            StorageError: the place cannot be written.
        """
        write_text(self.summary, json.dumps(summary, indent=1, allow_nan=False) + "\n")
