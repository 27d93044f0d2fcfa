"""A fault-injection campaign from its plan to its summary: resumable, shared out, never lost."""

import hashlib
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from bitproof.core.directory import read_json
from bitproof.core.errors import BitproofError, FaultListError, SpecError
from bitproof.core.files import read_bytes, write_text
from bitproof.core.lock import Shard, claim
from bitproof.core.progress import SILENT, Progress
from bitproof.core.spec import canonical_json
from bitproof.core.tensor_files import write_tensors
from bitproof.core.version import __version__
from bitproof.data.dataset import Dataset
from bitproof.evaluation.data_check import check_data
from bitproof.evaluation.executors import Executor, InProcess, Pool
from bitproof.evaluation.models import IntegerModel
from bitproof.evaluation.tasks import ending_of, settle_task, task_of
from bitproof.evaluation.threat import acc_interval, total
from bitproof.faults.bounding import Bounding
from bitproof.faults.execute import check_faults
from bitproof.faults.table import FaultTable
from bitproof.injection.directory import CampaignDirectory
from bitproof.injection.golden import Golden
from bitproof.injection.outcomes import fault_outcomes, worst_faults
from bitproof.injection.parts import Parts
from bitproof.injection.plan import Plan, draw_plan, plan_of_list
from bitproof.injection.sealed import write_fault_table
from bitproof.injection.spec import Injection
from bitproof.injection.summary import summarize_injection
from bitproof.injection.worker import (
    CARRIED,
    IMAGES_AT_ONCE,
    CampaignWork,
    bounds_of,
    digest_of,
    load_plan,
    read_images,
    waves_of,
)
from bitproof.metrics import Tally
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.store import load_network, network_files, save_network

SCHEMA = 1
"""Version of the summary."""


def prepare_campaign(
    folder: Path,
    network: IntegerNetwork,
    injection: Injection,
    test: Dataset,
    *,
    train: Dataset | None = None,
    faults: FaultTable | None = None,
    resume: bool = False,
    facts: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Plan:
    """Write down a campaign, so that any process can do any part of it; return its trials.

    Images of `test` meet the faults; those of `train` are needed only where bounds of activations
    are taken from them. A list of `faults` is replayed instead of drawing. `facts` are title, model
    and data for the report; `progress` is told the task.

    Raises:
        ResumeError: another campaign lies here, or one at all and `resume` was not asked for.
        SpecError: there is nothing to break, or too few images.
        DataError: there are no images, or labels and outputs fit no task, or not that of `test`.
        InputShapeError: images are of another shape than those of calibration.
        FaultListError: the list is empty, or a fault names a bit that the network does not have.
        StorageError: the place cannot be written.
    """
    directory = CampaignDirectory(folder)
    network = network.to("cpu")
    check_data("network", IntegerModel(network), test.to("cpu"), labels=False)
    ending = ending_of(network.nodes)
    test = settle_task(test, lambda inputs: network(inputs.cpu()), ending=ending, progress=progress)
    task = test.task
    assert task is not None
    if injection.stop is not None and injection.stop_on not in task.outcomes:
        raise SpecError(
            f"stop_on: wanted an outcome of task '{task.kind}' ({', '.join(task.outcomes)}), "
            f"got '{injection.stop_on}'"
        )
    images = _choose(network, injection, test)
    shapes = Golden.run(network, images.inputs(slice(0, 1))).shapes
    if faults is None:
        plan = draw_plan(injection, network, shapes)
    else:
        if not len(faults):
            raise FaultListError("faults: wanted at least one, the list is empty")
        check_faults(network, faults, shapes, array=injection.array)
        plan = plan_of_list(faults)
    needs_profile = any(isinstance(one, Bounding) for one in injection.protections)
    if needs_profile and train is None:
        raise SpecError("protections: wanted training images to take bounds from, got none")
    profile = None
    if needs_profile and train is not None:
        profile = train.first(min(len(train), injection.profile_images))
    digest = digest_of(plan.faults)
    content = {
        "injection": injection.model_dump(mode="json"),
        "listed": faults is not None,
        "faults_sha256": digest,
        "trials": plan.n_trials,
        "chunks": sum(len(wave) for wave in waves_of(plan, injection)),
        "facts": dict(facts or {}),
        "fingerprint": {
            "network": network.digest(),
            "images": images.digest(),
            "injection": injection.model_dump(mode="json"),
            "faults": digest,
            **({} if profile is None else {"profile": profile.digest()}),
            "versions": {"bitproof": __version__, "torch": torch.__version__},
        },
    }
    if task.identity or ending != "logits":  # else as it was before there were tasks
        content["task"] = task.model_dump(mode="json")
    directory.begin(content, resume=resume, progress=progress)
    _write_missing(directory, network, plan, images, profile)
    return plan


def _write_missing(
    directory: CampaignDirectory,
    network: IntegerNetwork,
    plan: Plan,
    images: Dataset,
    profile: Dataset | None,
) -> None:
    """Write what a campaign needs, unless it is there."""
    if not all(path.exists() for path in network_files(directory.network)):
        save_network(network, directory.network)
    if not directory.faults.exists():
        write_fault_table(plan.faults, directory.faults)
    for path, own in ((directory.profile, profile), (directory.images, images)):
        if own is not None and not path.exists():
            write_tensors(path, {"images": own.images, "labels": own.labels})


def carry_out_campaign(
    folder: Path,
    *,
    executor: Executor | None = None,
    shard: Shard | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Path | None:
    """Do whatever chunks are not done; return the summary, once all are done.

    Without an executor, this process computes.

    Raises:
        ResumeError: another process works here.
        SpecError: shards of a campaign with a stop rule, which needs to see all trials.
        WorkerError: workers die again and again.
    """
    directory = CampaignDirectory(folder)
    content = directory.read_plan()
    injection = Injection.model_validate(content["injection"])
    if shard is not None and injection.stop is not None:
        raise SpecError("stop: wanted a whole run, which sees all trials; got a shard")
    work, executor = CampaignWork(folder.resolve(), device), executor or InProcess()
    with claim(folder, shard=shard), executor.open(work) as pool:
        network = load_network(directory.network)
        plan = load_plan(directory, network, read_images(folder, "images"))
        waves = waves_of(plan, injection)
        chunks = list(chain.from_iterable(waves))
        fingerprint = canonical_json(content["fingerprint"])
        parts = Parts(directory.parts, hashlib.sha256(fingerprint.encode()).hexdigest())
        done = parts.finished(len(chunks))
        for message in parts.messages:
            progress.say(message)
        stopped, n_chunks = False, 0
        for wave in waves:
            first, n_chunks = n_chunks, n_chunks + len(wave)
            todo = [n for n in range(first, n_chunks) if n not in done and _mine(n, shard)]
            with _noted(directory, executor, device, shard) if todo else nullcontext():
                _compute(pool, chunks, todo, parts, progress)
            done |= set(todo)
            stopped = _stops(injection, parts, n_chunks, plan.n_trials)
            if stopped:
                break
        if not set(range(n_chunks)) <= (parts.finished(len(chunks)) if shard else done):
            return None
        columns = parts.read_all(n_chunks)
        found = summarize_injection(plan, injection, columns, network)
        stated = {**dict.fromkeys(("title", "model", "data"), ""), **content["facts"]}
        known = list(stated.get("warnings", []))
        stated |= _facts(injection, plan, columns, network)
        stated["warnings"] = known + stated["warnings"]
        golden = golden_tally(folder, network, injection)
        acc = list(acc_interval(golden, confidence=injection.confidence))
        stated |= {"stopped": stopped, "golden_acc": acc}
        if "task" in content:
            stated |= {"task": content["task"], "golden": golden.metrics}
        if injection.stop is not None:
            interval = injection.stop.look(_watched(injection, columns))
            stated["stop"] = {"outcome": injection.stop_on, "interval": list(interval)}
        harm = fault_outcomes(plan.faults, columns, network, injection, golden=golden.acc)
        found["worst"] = worst_faults(harm)
        summary = {"schema": SCHEMA, "campaign": stated, **found}
        write_text(directory.summary, json.dumps(summary, indent=1, allow_nan=False) + "\n")
        directory.finish()
    return directory.summary


@contextmanager
def _noted(
    directory: CampaignDirectory, executor: Executor, device: str, shard: Shard | None
) -> Iterator[None]:
    """Write down who computes, where and for how long so far, also where it is interrupted.

    The time of shards, which run side by side, is left open.
    """
    start = time.perf_counter()
    try:
        yield
    finally:
        spent = time.perf_counter() - start
        with suppress(BitproofError, OSError, ValueError):  # of a file that is there for people
            spent += float(read_json(directory.work_done)["seconds"] or 0.0)
        told = {
            "device": device,
            "engine": executor.told if shard is None else f"{shard[1]} shares",
            "threads": torch.get_num_threads(),
            "seconds": round(spent, 3) if shard is None else None,
        }
        write_text(directory.work_done, json.dumps(told, indent=1) + "\n")


def _facts(
    injection: Injection, plan: Plan, columns: Mapping[str, np.ndarray], network: IntegerNetwork
) -> dict[str, Any]:
    """Return what the summary says of the campaign as a whole; the same wherever it ran."""
    fidelity = network.fidelity
    return {
        "images": int(columns["images"][0]) if len(columns["images"]) else 0,
        "trials": len(columns["trial"]),
        "planned": plan.n_trials,
        "confidence": injection.confidence,
        "interval": injection.interval,
        "margin": injection.margin,
        "together": injection.together,
        "protections": [one.model_dump(mode="json") for one in injection.protections],
        "array": injection.array.model_dump(mode="json") if injection.in_array else None,
        "seed": injection.seed,
        "network": network.digest(),
        "fidelity": fidelity and fidelity.to_dict(),
        "warnings": [fidelity.warning] if fidelity and fidelity.warning else [],
        "checksum": checksum(columns),
        "versions": {
            "bitproof": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def checksum(columns: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of all counts, in the order of trials, whoever computed them."""
    order = np.argsort(columns["trial"], kind="stable")
    state = hashlib.sha256()
    for name in sorted(columns.keys() - {CARRIED}):  # as before there were such counts
        state.update(name.encode() + columns[name][order].astype("<i8").tobytes())
    return state.hexdigest()


def facts_in(summary: Path) -> dict[str, Any]:
    """Return what a summary says of the campaign as a whole."""
    facts: dict[str, Any] = json.loads(read_bytes(summary))["campaign"]
    return facts


def golden_tally(folder: Path, network: IntegerNetwork, injection: Injection) -> Tally:
    """Return what is right without faults."""
    images = read_images(folder, "images")
    bounds = bounds_of(injection, network, folder, "cpu")
    found = []
    for part in images.blocks(IMAGES_AT_ONCE):
        outputs = Golden.run(network, part.inputs(), bounds).logits
        found.append(task_of(images, outputs).tally(outputs, part.labels))
    return total(found)


def _choose(network: IntegerNetwork, injection: Injection, test: Dataset) -> Dataset:
    """Return the images that meet the faults, or raise a SpecError if there are too few."""
    kept: list[int] = []
    for number, part in enumerate(test.blocks(IMAGES_AT_ONCE)):
        if len(kept) >= injection.images:
            break
        index = number * IMAGES_AT_ONCE + torch.arange(len(part))
        if injection.only_correct:
            outputs = network(part.inputs())
            index = index[task_of(test, outputs).right(outputs, part.labels).cpu()]
        kept += index.tolist()
    if len(kept) < injection.images:
        which = "that the network gets right " if injection.only_correct else ""
        raise SpecError(f"images: wanted {injection.images} {which}in {test.name}, got {len(kept)}")
    return test.subset(torch.tensor(kept[: injection.images])).to("cpu")


def _compute(
    pool: Pool[int, dict[str, np.ndarray]],
    chunks: Sequence[np.ndarray],
    todo: Sequence[int],
    parts: Parts,
    progress: Progress,
) -> None:
    if not todo:
        return
    total = sum(len(chunks[n]) for n in todo)

    def trials() -> Any:
        for number, columns in pool.run(todo):
            parts.write(number, columns)
            yield from columns["trial"]

    for _ in progress.track(trials(), label="inject faults", total=total):
        pass


def _mine(chunk: int, shard: Shard | None) -> bool:
    return shard is None or chunk % shard[1] == shard[0] - 1


def _stops(injection: Injection, parts: Parts, n_chunks: int, n_max: int) -> bool:
    """Return whether the stop rule ends the campaign early, after the first chunks."""
    if injection.stop is None:
        return False
    watched = _watched(injection, parts.read_all(n_chunks))
    return injection.stop.stops(watched, n_max=n_max) not in {None, n_max}


def _watched(injection: Injection, columns: Mapping[str, np.ndarray]) -> Float[np.ndarray, " t"]:
    """Return what the stop rule watches, in the order in which trials were drawn."""
    fractions: np.ndarray = columns[injection.stop_on] / columns["images"]
    return fractions[np.argsort(columns["trial"])]
