"""The campaign directory: what lies where, and whether a campaign may go on.

plan.json                   spec, fingerprint and chunks; written once, before anything runs
faults.parquet              the fault table, where one is stored
network.safetensors, .json  the network
parts/                      results of chunks
summary.json, results.csv, report.html
"""

from dataclasses import dataclass
from typing import ClassVar

from bitproof.core.directory import Entry, PlannedDirectory


@dataclass(frozen=True)
class CampaignDirectory(PlannedDirectory):
    """One campaign on disk."""

    work: ClassVar[str] = "campaign"

    faults = Entry("faults.parquet")
    network = Entry("network")
    parts = Entry("parts")
    summary = Entry("summary.json")
    results = Entry("results.csv")
    report = Entry("report.html")
