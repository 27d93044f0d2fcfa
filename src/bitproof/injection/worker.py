"""One process's share of a campaign: it reads the directory, and counts chunk after chunk."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from bitproof.core.errors import DataError, ResumeError
from bitproof.core.tensor_files import DAMAGED, read_tensors
from bitproof.data.dataset import Dataset, count_classes
from bitproof.faults.bounding import Bounding, Restriction, restrictions
from bitproof.faults.table import COLUMNS, FaultTable
from bitproof.injection.directory import CampaignDirectory
from bitproof.injection.engine import Engine
from bitproof.injection.golden import Golden
from bitproof.injection.plan import Plan, draw_plan, plan_of_list
from bitproof.injection.sealed import read_fault_table
from bitproof.injection.spec import Injection
from bitproof.metrics import OUTCOMES, TASKS
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.store import load_network

WHOLE = frozenset({"parts", "labels"})
"""Counts that faults do not change."""
CARRIED = "carried"
"""Right answers where the system carries on with words that it found beyond repair; counted where
a protection found some. In the other columns, such a word stops the trial."""
IMAGES_AT_ONCE = 256
"""Images whose fault-free run is held in one piece; no influence on the result."""


class Worker:
    """Computes chunks of the campaign in a directory."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        directory = CampaignDirectory(folder)
        self.injection = Injection.model_validate(directory.read_plan()["injection"])
        network = load_network(directory.network).to(device)
        images = read_images(folder, "images").to(device)
        self.plan = load_plan(directory, network, images)
        self.chunks = list(chain.from_iterable(waves_of(self.plan, self.injection)))
        self.faults, self.detected = protect(self.plan.faults, self.injection, network)
        bounds = bounds_of(self.injection, network, folder, device)
        self.engines = [
            Engine(
                network,
                part.inputs(),
                part.labels,
                bounds,
                array=self.injection.array,
                task=part.task,
            )
            for part in images.blocks(IMAGES_AT_ONCE)
        ]
        self.n_images = len(images)
        self.names = self.engines[0].names
        self._parts = bool(self.engines[0].task.parts)
        unseen = set(OUTCOMES) - set(self.engines[0].task.outcomes)
        self.kept = [name for name in self.names if name not in unseen]
        self._broken = np.bincount(self.plan.faults.trial, minlength=self.plan.n_trials)

    def run(self, chunk: int) -> dict[str, np.ndarray]:
        """Return the columns of one chunk, a row for each of its trials."""
        trials = self.chunks[chunk]
        counts = sum(engine.run(self.faults, trials.tolist()) for engine in self.engines)
        assert isinstance(counts, np.ndarray)
        found = self.detected[trials]
        columns = dict(zip(self.names, counts.T.copy(), strict=True))
        carried = {CARRIED: columns["correct"].copy()} if self.detected.any() else {}
        for name in self.names:
            if name not in WHOLE:
                columns[name][found] = self.n_images if name == "due" else 0
        return {
            "trial": trials.astype(np.int32),
            "group": self.plan.group[trials],
            "cell": self.plan.cell[trials],
            "faults": self._broken[trials].astype(np.int32),
            "images": np.full(len(trials), self.n_images, np.int32),
            **{name: columns[name].astype(self._dtype(name)) for name in self.kept},
            **{name: counted.astype(self._dtype("correct")) for name, counted in carried.items()},
        }

    def _dtype(self, name: str) -> type[np.integer]:
        """Return the type of a column: what counts parts of images may be large."""
        return np.int32 if name in {*OUTCOMES, "correct"} and not self._parts else np.int64


@dataclass(frozen=True)
class CampaignWork:
    """The campaign in a directory, as work for an executor: a task is the number of a chunk."""

    folder: Path
    device: str = "cpu"

    def start(self) -> Callable[[int], dict[str, np.ndarray]]:
        """Read the directory."""
        return Worker(self.folder, self.device).run


def waves_of(plan: Plan, injection: Injection) -> list[list[Int64[np.ndarray, " n"]]]:
    """Return the trials of each chunk, in waves that are all done before a stop rule looks."""
    looks = [plan.n_trials]
    if injection.stop is not None and plan.n_trials:
        looks = injection.stop.looks(plan.n_trials)
    ends = zip([0, *looks[:-1]], looks, strict=True)
    return [plan.chunks(first, last) for first, last in ends]


def load_plan(directory: CampaignDirectory, network: IntegerNetwork, images: Dataset) -> Plan:
    """Return the trials of the campaign in a directory; they must be those that were begun."""
    content = directory.read_plan()
    if content["listed"]:
        return plan_of_list(read_fault_table(directory.faults))
    shapes = Golden.run(network, images.inputs(slice(0, 1))).shapes
    plan = draw_plan(Injection.model_validate(content["injection"]), network, shapes)
    if digest_of(plan.faults) != content["faults_sha256"]:
        raise ResumeError(
            f"{directory.path}: this machine draws other trials than were begun "
            "(another version of NumPy?); replay its faults.parquet, or begin anew"
        )
    return plan


def digest_of(faults: FaultTable) -> str:
    """Return the SHA-256 of a fault table."""
    digest = hashlib.sha256("\x1f".join(faults.layers).encode() + str(faults.n_trials).encode())
    for name in COLUMNS:
        digest.update(getattr(faults, name).tobytes())
    return digest.hexdigest()


def protect(
    faults: FaultTable, injection: Injection, network: IntegerNetwork
) -> tuple[FaultTable, Bool[np.ndarray, " t"]]:
    """Return what the network reads behind all protections, and the trials that they gave up."""
    detected = np.zeros(faults.n_trials, bool)
    for protection in injection.protections:
        repaired = protection.repair(faults, network)
        faults, detected = repaired.table, detected | repaired.detected
    return faults, detected


def bounds_of(
    injection: Injection, network: IntegerNetwork, folder: Path, device: str
) -> dict[str, Restriction]:
    """Return what protections do to the output words of nodes."""
    if not any(isinstance(one, Bounding) for one in injection.protections):
        return {}
    profile = read_images(folder, "profile").to(device)
    codes = Golden.run(network, profile.inputs()).codes
    return restrictions(injection.protections, network, codes)


def read_images(folder: Path, name: str) -> Dataset:
    """Return images that a campaign directory holds, with the campaign's task."""
    path = folder / f"{name}.safetensors"
    try:
        tensors, _ = read_tensors(path)
        images, labels = tensors["images"], tensors["labels"]
    except DAMAGED as error:
        raise DataError(f"{path}: cannot read the images ({str(error)[:100]})") from None
    table = CampaignDirectory(folder).read_plan().get("task")
    task = TASKS.build(table) if table else None
    n_classes = count_classes(labels) or 1
    return Dataset(name, images, labels, n_classes, task)
