"""The campaign directory: what lies where, and whether a campaign may go on.

bitproof-manifest.json      size and SHA-256 of each file
plan.json                   spec, fingerprint and chunks; written once, before anything runs
faults.parquet              the fault table, where one is stored
network.safetensors, .json  the network
images.safetensors          what meets the faults; profile: what bounds of activations come from
parts/                      results of chunks
summary.json, results.csv, ranking.csv, report.html
work.json                   who computed, where, for how long; not the same wherever it ran
"""

from dataclasses import dataclass
from typing import ClassVar

from bitproof.core.directory import Entry, PlannedDirectory


@dataclass(frozen=True)
class CampaignDirectory(PlannedDirectory):
    """One campaign on disk."""

    work: ClassVar[str] = "campaign"
    made: ClassVar[tuple[str, ...]] = (
        *("network.*", "faults.parquet", "images.safetensors", "profile.safetensors"),
        *("summary.json", "results.csv", "ranking.csv", "table.tex", "report.html", "work.json"),
    )
    sealed: ClassVar[tuple[str, ...]] = ("parts/part-*.parquet",)

    faults = Entry("faults.parquet")
    network = Entry("network")
    images = Entry("images.safetensors")
    profile = Entry("profile.safetensors")
    parts = Entry("parts")
    summary = Entry("summary.json")
    results = Entry("results.csv")
    report = Entry("report.html")
    work_done = Entry("work.json")
