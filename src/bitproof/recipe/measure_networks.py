"""Stored integer networks measured into a directory that reports, tables and `compare` read.

It has no recipe.toml: nothing is trained or quantized, so there is nothing to run again but the
call. `run.json` says what was measured; `tallies.jsonl` is what `resume` goes on from.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch

from bitproof.core.directory import FACTS, Entry, ResumableDirectory
from bitproof.core.packages import check_packages
from bitproof.core.progress import SILENT, Progress
from bitproof.core.stop_request import StopRequest
from bitproof.data import Dataset
from bitproof.evaluation import Evaluation, Executor, IntegerModel, TallyStore
from bitproof.evaluation.executors import InProcess
from bitproof.evaluation.tasks import AnyTaskLike, ending_of, settle_task
from bitproof.exchange import open_network
from bitproof.quant import IntegerNetwork
from bitproof.recipe.building import choose_device
from bitproof.recipe.directory import environment, now
from bitproof.recipe.stored_networks import check_fit, find_networks, images_of
from bitproof.report import write_report
from bitproof.report.html import REPORT
from bitproof.stats import Row, write_results


@dataclass(frozen=True)
class MeasuredDirectory(ResumableDirectory):
    """Measurements of stored networks on disk."""

    work: ClassVar[str] = "measurement of networks"
    made: ClassVar[tuple[str, ...]] = ("results.csv",)
    logs: ClassVar[tuple[str, ...]] = ("tallies.jsonl",)

    facts_file = Entry(FACTS)
    results = Entry("results.csv")
    tallies = Entry("tallies.jsonl")


@dataclass(frozen=True)
class StoredModels:
    """Integer networks by name, read where they are measured."""

    paths: Mapping[str, Path]
    device: torch.device
    data_dir: Path | None = None
    """Where tables of multipliers are read from."""

    def __call__(self, name: str) -> IntegerModel:
        """Return the network of that name."""
        network = open_network(self.paths[name]).to(self.device)
        return IntegerModel(network, data_dir=self.data_dir)


def measure_networks(
    places: Path | Sequence[Path],
    evaluation: Evaluation,
    out: Path,
    *,
    data: str = "",
    task: AnyTaskLike | None = None,
    executor: Executor | None = None,
    device: str = "auto",
    data_dir: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
    stop: StopRequest | None = None,
    consent: Callable[[Mapping[str, IntegerNetwork], Dataset], None] | None = None,
) -> Path:
    """Measure stored networks, and return the path of the report.

    Args:
        places: `runs/NAME/networks/VARIANT`, or `runs/NAME` for all of its integer networks; or a
            quantized ONNX file; or several of these, of which the first network is what others
            are compared with.
        evaluation: what is measured on each.
        out: the directory that is made.
        data: the data set; empty: that of the run of the first.
        task: how answers are judged; None: as the data set says, or outputs and labels ask for.
        executor: who computes; None: this process.
        device: auto, cpu or cuda.
        data_dir: where data sets lie; None: `BITPROOF_DATA`.
        resume: go on with what lies in `out`.
        progress: who watches.
        stop: asked before each measurement.
        consent: sees networks and test images when nothing is measured or written; what it raises
            ends the work.

    Raises:
        ResumeError: `out` holds something else, or `resume` was not asked for.
        StoppedError: asked to stop; what is finished is kept.
        BitproofError: in its kinds, for whatever is wrong with networks, data or disk.
    """
    check_packages(evaluation, executor)
    where = choose_device(device)
    places = [places] if isinstance(places, Path) else list(places)
    paths = find_networks(places)
    networks = {name: open_network(path) for name, path in paths.items()}
    test = images_of(places, data=data, data_dir=data_dir)
    folder = MeasuredDirectory(out)
    models = StoredModels(paths, where, data_dir)
    for name, network in networks.items():
        check_fit(name, network, test)
        ending = ending_of(network.nodes)
        test = settle_task(test, network, task, ending=ending, progress=progress)
    test = test.to(where)
    evaluation.measurements(test)  # refuses what it cannot measure on
    if consent is not None:
        consent(networks, test)
    told = str(places[0]) if len(places) == 1 else f"{len(networks)} networks"
    around = environment(where)
    fingerprint = {
        **{name: str(around[name]) for name in ("bitproof", "torch", "device")},
        "data.test": test.digest(),
        "evaluation": evaluation.digest(),
        **{f"network.{name}": network.digest() for name, network in networks.items()},
    }
    with folder.claimed():
        if folder.facts_file.exists():
            folder.check_resume(resume=resume)
            folder.take_stock(progress.say, folder.tallies)
            before = folder.facts().get("fingerprint", {})
            folder.check_same(before, fingerprint, "measures something else")
        else:
            folder.check_no_parts(FACTS)
            folder.manifest.create()
        folder.manifest.reopen()
        folder.note(
            **around,
            engine=(executor or InProcess()).told,
            title=f"{told} on {test.name}",
            recipe_name=out.name,
            variants=list(networks),
            baseline=next(iter(networks)),
            evaluation=evaluation.model_dump(mode="json"),
            fingerprint=fingerprint,
            data={"name": test.name, "digest": test.digest(), "n_test": len(test)},
            model={"kind": told},
            threats={title: asdict(label) for title, label in evaluation.labels().items()},
            started=folder.facts().get("started", now()),
            finished=None,
        )
        rows, warnings = _measure(
            list(networks),
            models,
            evaluation=evaluation,
            test=test,
            folder=folder,
            executor=executor,
            progress=progress,
            stop=stop,
        )
        write_results(rows, folder.results)
        folder.note(warnings=warnings, finished=now())
        write_report(out)
        folder.finish()
    return out / REPORT


def _measure(
    names: Sequence[str],
    models: StoredModels,
    *,
    evaluation: Evaluation,
    test: Dataset,
    folder: MeasuredDirectory,
    executor: Executor | None,
    progress: Progress,
    stop: StopRequest | None,
) -> tuple[list[Row], list[str]]:
    """Measure whatever the directory lacks; return the rows of all networks, and warnings."""
    store = TallyStore(folder.tallies)
    rows: list[Row] = []
    warnings: list[str] = []
    with evaluation.open(models, test, executor) as pool:
        for name in names:
            digest = models(name).digest()
            folder.note(networks={name: digest})
            keys = evaluation.keys(digest, test)
            start, task = time.perf_counter(), f"evaluate {name}"
            try:
                evaluation.measure(name, keys, pool=pool, store=store, progress=progress, stop=stop)
            finally:
                spent = time.perf_counter() - start
                spent += folder.facts().get("durations", {}).get(task, 0.0)
                folder.note(durations={task: round(spent, 3)})
            counts = evaluation.counts(keys, store) or {}
            rows += evaluation.rows(name, counts)
            warnings += evaluation.warnings(name, counts, test)
    return rows, warnings
