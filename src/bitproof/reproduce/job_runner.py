"""Do what is missing, in slices: pick a job, run its seeds, write the cells that are finished.

Work stops when a `StopRequest` says so, and goes on where it stopped when it is called again.
What lies in the work folder and belongs to an older recipe, behaviour or version is moved aside,
never mixed in. Several processes may share the folders: each claims seeds of a job.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bitproof.core.errors import BitproofError, InUseError, ResumeError, StoppedError
from bitproof.core.files import write_text
from bitproof.core.lock import claim
from bitproof.core.progress import SILENT, Progress
from bitproof.core.stop_request import StopRequest
from bitproof.data import Dataset
from bitproof.recipe import run as run_recipe
from bitproof.recipe.building import choose_device
from bitproof.reproduce.behaviour import behaviour_of
from bitproof.reproduce.checking import write_down
from bitproof.reproduce.collect import SeedRun, collect, job_folder, seed_runs
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.keep import keep_networks
from bitproof.reproduce.result import write_cell
from bitproof.reproduce.state import JobState, job_state


@dataclass(frozen=True)
class Place:
    """Where work is done."""

    results: Path = Path("results")
    """Folder of finished cells."""
    work: Path = Path("runs/reproduce")
    """Folder of runs."""
    device: str = "auto"
    data_dir: Path | None = None


def work(
    jobs: Sequence[Job],
    place: Place,
    *,
    patterns: Sequence[str] = (),
    progress: Progress = SILENT,
    stop: StopRequest,
) -> None:
    """Run jobs until no wanted cell is missing or stale, or `stop` asks to stop.

    Args:
        jobs: what may be done.
        place: where.
        patterns: names of the cells that are wanted, with `*` and `?`; none: all.
        progress: who watches.
        stop: when to stop.

    Raises:
        BitproofError: in its kinds, for whatever is wrong with data, weights, results or disk.
    """
    choose_device(place.device)
    tried: list[Job] = []
    failed: list[BitproofError] = []
    while not stop.requested:
        states = [
            job_state(job, results=place.results, work=place.work)
            for job in jobs
            if job not in tried
        ]
        chosen = choose(states, patterns)
        if chosen is None:
            break
        tried.append(chosen.job)
        try:
            _JobRunner(chosen.job, place, patterns, progress, stop).carry_out()
        except StoppedError:
            break
        except BitproofError as error:  # the other jobs can still be done
            progress.say(f"{chosen.job.name}: {error}")
            failed.append(error)
    if failed:
        raise failed[0]


def _check_writable(folder: Path) -> None:
    """Find out before hours of work whether results can be written.

    Raises:
        StorageError: they cannot.
    """
    probe = folder / ".writable"
    write_text(probe, "")
    probe.unlink()


def choose(states: Sequence[JobState], patterns: Sequence[str] = ()) -> JobState | None:
    """Return the job to do next, None if nothing is left.

    Missing cells come before stale ones; then a job that has begun, then the one that lacks most.
    """

    def urgency(state: JobState) -> tuple[bool, bool, int]:
        lacking = [cell for cell in state.needed(patterns) if cell.status != "stale"]
        return bool(lacking), state.begun, len(lacking)

    return max((state for state in states if state.needed(patterns)), key=urgency, default=None)


@dataclass(frozen=True)
class _JobRunner:
    """Work on one job."""

    job: Job
    place: Place
    patterns: Sequence[str]
    progress: Progress
    stop: StopRequest

    def carry_out(self) -> None:
        """Run the seeds that nobody else works on, in order; after each, write what is finished."""
        _check_writable(self.place.results)
        test = self.job.recipe.data.load(self.place.data_dir).test
        behaviour = self._behaviour(self.job)
        source = self.job.source
        run_behaviour = self._behaviour(source) if source else behaviour
        digests = (behaviour, run_behaviour)
        runs = seed_runs(self.job, self.place.work)
        claims = job_folder(self.job, self.place.work) / "claims"
        for run in runs:
            with ExitStack() as stack:
                try:
                    stack.enter_context(claim(claims / f"seed-{run.seed}", shard=None))
                except ResumeError as error:  # another process does this seed
                    self.progress.say(str(error).partition(";")[0])
                    continue
                if objection := run.objection(run_behaviour):
                    self._move_aside(run, objection)
                try:
                    if not run.finished():
                        self.stop.check()
                    # A finished run only checks versions, data and weights.
                    self._run(run, run_behaviour)
                finally:
                    self._collect(runs, test, digests)

    def _behaviour(self, job: Job) -> str:
        """Return how a job behaves today, written down beside its cells."""
        self.progress.say(f"{job.name}: looks at its behaviour, at toy size")
        digest = behaviour_of(job, self.place.data_dir)
        known = write_down(job, digest, self.place.results)
        if known == "changed":
            self.progress.say(f"{job.name}: behaves differently; cells of before are stale")
        elif known == "other machine":
            self.progress.say(
                f"{job.name}: first measured on another machine, not compared with it; "
                "`bitproof reproduce --check --against REV` compares"
            )
        return digest

    def _run(self, run: SeedRun, behaviour: str) -> None:
        try:
            self._run_once(run, behaviour)
        except ResumeError as error:
            if not run.begun() or isinstance(error, InUseError):
                raise
            self._move_aside(run, str(error))
            self._run_once(run, behaviour)

    def _run_once(self, run: SeedRun, behaviour: str) -> None:
        self.progress.say(f"{self.job.size} {self.job.table.name} {self.job.name}, seed {run.seed}")
        resume = run.begun()
        run.begin(behaviour)
        run_recipe(
            run.recipe,
            run.folder.path,
            device=self.place.device,
            data_dir=self.place.data_dir,
            recipe_dir=self.job.path.parent,
            resume=resume,
            progress=self.progress,
            stop=self.stop,
        )

    def _move_aside(self, run: SeedRun, reason: str) -> None:
        path = run.folder.path
        names = (path.with_name(f"{path.name}.old-{number}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        path.rename(aside)
        self.progress.say(f"{path}: starts afresh, what was there is now {aside.name} ({reason})")

    def _collect(self, runs: list[SeedRun], test: Dataset, digests: tuple[str, str]) -> None:
        """Write the cells that are finished and not there, or stale."""
        results = self.place.results
        if all(run.finished() for run in runs):
            keep_networks(runs[0], results, progress=self.progress)
        state = job_state(self.job, results=results, work=self.place.work)
        wanted = {needed.cell.name for needed in state.needed(self.patterns)}
        own, of_runs = digests
        found = collect(self.job, runs, test, wanted=wanted, behaviour=own, run_behaviour=of_runs)
        for result in found:
            write_cell(result, results, self.job.size)
        if found:
            self.progress.say(f"{self.job.name}: {len(found)} cells finished")
