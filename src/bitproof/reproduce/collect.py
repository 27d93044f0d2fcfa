"""From the run directories of a job to finished cells.

A cell is finished when the runs of all its seeds have measured its variant; other variants may
still be under way. Only runs on today's recipe and behaviour count, see `SeedRun.objection`;
the run itself refuses to go on with other versions, devices, data or weights.
"""

import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitproof.core.directory import read_json
from bitproof.core.files import write_text
from bitproof.data import Dataset
from bitproof.evaluation import TallyStore
from bitproof.recipe import Recipe, RunDirectory
from bitproof.recipe.recipe import FLOAT, stages_of
from bitproof.report.fault_counts import rate_threats
from bitproof.report.operating_points import EnergyQuestion, OperatingPoint, operating_points
from bitproof.report.run import read_unfinished_run
from bitproof.reproduce.cells import Cell, Key, cells_of
from bitproof.reproduce.digest import whole_digest
from bitproof.reproduce.estimates import Measurement, combine, gain
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.result import CellResult

DIGESTS = "reproduce.json"
"""What a run was started on: the digest of each variant."""
Facts = dict[str, Any]
"""What run.json tells."""
VERSIONS = ("bitproof", "torch", "numpy", "python")


@dataclass(frozen=True)
class SeedRun:
    """One run of a job's recipe."""

    job: Job
    seed: int
    folder: RunDirectory

    @property
    def recipe(self) -> Recipe:
        """The job's recipe with this seed."""
        return self.job.recipe.model_copy(update={"seed": self.seed})

    def begun(self) -> bool:
        """Return whether there is something to go on with."""
        return self.folder.recipe.exists()

    def begin(self, behaviour: str) -> None:
        """Write down what the run is started on.

        Raises:
            StorageError: the place cannot be written.
        """
        if not self.begun():
            text = json.dumps(self._digests_of_today(behaviour), indent=1)
            write_text(self._digests, text + "\n")

    def objection(self, behaviour: str) -> str:
        """Return why the run cannot be gone on with, nothing if it can.

        Raises:
            ResumeError: what it was started on is damaged.
        """
        if not self.begun():
            return ""
        before = read_json(self._digests) if self._digests.exists() else {}
        today = self._digests_of_today(behaviour)
        changed = [name for name, digest in today.items() if before.get(name) != digest]
        return f"recipe or behaviour of {', '.join(changed)} changed" if changed else ""

    def finished(self) -> bool:
        """Return whether the run has nothing left to do."""
        return self.begun() and self.folder.facts().get("finished") is not None

    @property
    def _digests(self) -> Path:
        return self.folder.path / DIGESTS

    def _digests_of_today(self, behaviour: str) -> dict[str, str]:
        return {
            variant: whole_digest(self.job, variant, [self.seed], behaviour)
            for variant in self.job.recipe.variants
        }


def seed_runs(job: Job, work: Path) -> list[SeedRun]:
    """Return the runs of a job, whether begun or not."""
    folder = job_folder(job, work)
    return [
        SeedRun(job.runner, seed, RunDirectory(folder / f"seed-{seed}")) for seed in job.plan.seeds
    ]


def job_folder(job: Job, work: Path) -> Path:
    """Return the folder that holds the runs of a job."""
    return work / job.size / job.runner.table.name / job.name


def collect(
    job: Job,
    runs: list[SeedRun],
    test: Dataset,
    *,
    wanted: Container[str],
    behaviour: str,
    run_behaviour: str,
) -> list[CellResult]:
    """Return the cells that the runs of a job have finished.

    Args:
        job: what is reproduced.
        runs: its runs.
        test: the images that were measured on.
        wanted: names of the cells to return.
        behaviour: digest of the job at toy size.
        run_behaviour: that of the job that has the runs.

    Raises:
        DataError: the counts of a run are damaged.
        ResumeError: run.json of a run is damaged.
    """
    if not all(run.begun() and not run.objection(run_behaviour) for run in runs):
        return []
    found = [estimates_of(job, run, test) for run in runs]
    facts = [run.folder.facts() for run in runs]
    return [
        _result(job, cell, facts, [estimates[cell.key] for estimates in found], behaviour)
        for cell in cells_of(job)
        if cell.name in wanted and all(cell.key in estimates for estimates in found)
    ]


def estimates_of(job: Job, run: SeedRun, test: Dataset) -> Mapping[Key, Measurement]:
    """Return what one run has finished of a job's numbers."""
    evaluation, store = run.recipe.evaluation, TallyStore(run.folder.tallies)
    counts = {
        variant: own
        for variant, digest in run.folder.facts().get("networks", {}).items()
        if (own := evaluation.counts(evaluation.keys(digest, test), store)) is not None
    }
    found: dict[Key, Measurement] = {}
    for variant, own in counts.items():
        for row in evaluation.rows(variant, own):
            if row.interval is not None and row.n is not None:
                key = (row.variant, row.threat, row.level, row.metric)
                found[key] = Measurement(row.interval, row.n)
    against = job.plan.gain_against
    for cell in cells_of(job):
        if cell.metric == "gain" and {cell.variant, against} <= counts.keys():
            assert cell.level is not None
            mine, other = (counts[v][cell.threat][cell.level] for v in (cell.variant, against))
            by_trial = job.measured()[cell.threat].label.family == "memory_fault"
            found[cell.key] = gain(mine, other, by_trial=by_trial)
    if job.plan.max_drop is not None:
        found |= _energy_saved(job, run)
    return found


def _energy_saved(job: Job, run: SeedRun) -> dict[Key, Measurement]:
    """Return the memory energy that the lowest safe voltage of each network saves."""
    assert job.plan.max_drop is not None
    question = EnergyQuestion(max_drop=job.plan.max_drop)
    measured = read_unfinished_run(run.folder.path)
    points = operating_points(measured, question, rate_threats(measured))
    return {
        (one.variant, one.threat, job.plan.max_drop, "energy_saved"): Measurement(
            one.saved, len(one.counts.accs)
        )
        for one in points
        if isinstance(one, OperatingPoint)
    }


def _result(
    job: Job, cell: Cell, facts: list[Facts], estimates: list[Measurement], behaviour: str
) -> CellResult:
    lowest = -1.0 if cell.metric in {"gain", "energy_saved"} else 0.0
    low, value, high = combine([one.interval for one in estimates], lowest=lowest)
    published = job.table.find(
        cell.variant,
        cell.threat,
        cell.metric,
        level=cell.level,
        network=cell.network,
        dataset=cell.dataset,
    )
    return CellResult(
        **asdict(cell),
        cell=cell.name,
        value=_digits(value),
        ci_low=_digits(low),
        ci_high=_digits(high),
        n=estimates[0].n,
        unit="fraction",
        seeds=job.plan.seeds,
        digest=whole_digest(job, cell.variant, job.plan.seeds, behaviour),
        versions={name: _joined(facts, name) for name in VERSIONS},
        device=_joined(facts, "device"),
        seconds=round(sum(_seconds(run, cell.variant) for run in facts), 1),
        published=published.value if published else None,
        published_source=published.source if published else "",
        trust=published.trust if published else "",
    )


def _seconds(facts: Facts, variant: str) -> float:
    """Return what a variant took: training or hardening, stage by stage, and measuring."""
    stages = stages_of(variant)
    tasks = [f"harden {'+'.join(stages[: n + 1])}" for n in range(len(stages))]
    tasks += [f"evaluate {variant}"] + (["train float"] if variant == FLOAT else [])
    durations: dict[str, float] = facts.get("durations", {})
    return sum(durations.get(task, 0.0) for task in tasks)


def _joined(facts: list[Facts], name: str) -> str:
    """Return a fact of all runs; where they differ, each once."""
    return ", ".join(dict.fromkeys(str(run.get(name, "unknown")) for run in facts))


def _digits(value: float) -> float:
    """Return a number of ten digits at most."""
    return float(f"{value:.10g}") + 0.0
