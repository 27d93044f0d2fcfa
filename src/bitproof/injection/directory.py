"""The campaign directory: what lies where, and whether a campaign may go on.

plan.json                   spec, fingerprint and chunks; written once, before anything runs
faults.parquet              the fault table, where one is stored
network.safetensors, .json  the network
parts/                      results of chunks
summary.json, results.csv, report.html
"""

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from bitproof.core.directory import Entry, ResumableDirectory, read_sealed, write_sealed
from bitproof.core.errors import DataError
from bitproof.core.files import sweep
from bitproof.core.lock import hold


@dataclass(frozen=True)
class CampaignDirectory(ResumableDirectory):
    """One campaign on disk."""

    work: ClassVar[str] = "campaign"

    plan = Entry("plan.json")
    faults = Entry("faults.parquet")
    network = Entry("network")
    parts = Entry("parts")
    summary = Entry("summary.json")
    results = Entry("results.csv")
    report = Entry("report.html")

    def begin(self, plan: dict[str, Any], *, resume: bool = False) -> None:
        """Write down what is to be done, or make sure that it is what was begun.

        `plan` holds JSON values; its table `fingerprint` says what the results depend on. The keys
        `layout` and `sha256` are added in the file. With `resume`, a campaign that lies here may go
        on; without one, it begins: so all shards of a campaign pass True.

        Raises:
            ResumeError: a campaign lies here and `resume` was not asked for, or its fingerprint
                differs; each difference is named.
            DataError: its plan is damaged.
            StorageError: the place cannot be written.
        """
        self.check_place()
        content = json.loads(json.dumps(plan, allow_nan=False))
        with hold(self.path / ".begin"):  # of several shards that start at once, one writes
            sweep(self.path)
            if not self.plan.exists():
                write_sealed(self.plan, content)
                return
        self.check_resume(resume=resume)
        before = self.read_plan()["fingerprint"]
        self.check_same(before, content["fingerprint"], "belongs to another campaign")

    def read_plan(self) -> dict[str, Any]:
        """Return the plan that `begin` wrote, or raise a DataError if it is missing or damaged."""
        if not self.plan.exists():
            raise DataError(f"{self.path}: holds no campaign (no plan.json)")
        content = read_sealed(self.plan)
        if not isinstance(content.get("fingerprint"), dict):
            raise DataError(f"{self.plan}: damaged, wanted a fingerprint")
        return content
