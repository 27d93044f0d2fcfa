"""Choices of multipliers measured by exact emulation, each once, in this process or in others.

Model:  the network with the multipliers of a choice answers all images under all threats. A choice
        is an `Arithmetic`; its digest, with those of network, products, images and threats, is the
        key that its counts are kept under. Layers that several choices have in common are prepared
        once.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from bitproof.approx.base import Multiplier
from bitproof.approx.control_variate import correct_means
from bitproof.approx.deploy import Arithmetic
from bitproof.core.errors import DataError
from bitproof.core.files import append_line, write_text
from bitproof.core.progress import SILENT, Progress
from bitproof.core.spec import canonical_json
from bitproof.core.stop_request import StopRequest
from bitproof.data.dataset import Dataset
from bitproof.evaluation.evaluation import Evaluation
from bitproof.evaluation.executors import Executor, InProcess, Pool
from bitproof.evaluation.models import IntegerModel
from bitproof.evaluation.threat import Task
from bitproof.explore.blocks import Blocks
from bitproof.explore.units import Choice, Units
from bitproof.metrics import Tally
from bitproof.quant.network import IntegerNetwork

PREPARED = 4096
"""Layers with one multiplier that are kept prepared."""


def counted_tasks(evaluation: Evaluation, data: Dataset) -> list[Task]:
    """Return what is measured of a choice: all trials at the levels of all threats, no checks."""
    levels = [threat.levels or (0.0,) for threat in evaluation.threats]
    return [task for task in evaluation.tasks(data) if task.level in levels[task.threat]]


@dataclass(frozen=True)
class Counted:
    """What was measured of one choice."""

    tallies: tuple[Tally, ...]
    """Of all tasks of the evaluation, in their order."""
    seconds: float
    """What it took, preparation included."""


@dataclass(frozen=True, eq=False)
class Emulator:
    """A network, and what may multiply in it."""

    network: IntegerNetwork
    """With exact products."""
    units: Units
    blocks: Blocks
    evaluation: Evaluation
    data: Dataset
    calibration: Dataset
    """Training images: means are corrected on them, and bounds of activations taken."""
    correct_means: bool = False
    device: str = "cpu"
    """Where choices are measured."""
    _prepared: dict[tuple[str, int], IntegerNetwork] = field(default_factory=dict, repr=False)

    def start(self) -> Callable[[bytes], Counted]:
        """Return what measures a choice, given as the bytes of its int64 numbers."""
        device = torch.device(self.device)
        here = replace(self, network=self.network.to(device), data=self.data.to(device))
        return lambda choice: here.measure(np.frombuffer(choice, np.int64))

    def on(self, data: Dataset) -> "Emulator":
        """Return the same on other images."""
        return replace(self, data=data)

    def bare(self) -> "Emulator":
        """Return the same to be sent elsewhere: on the CPU, and nothing prepared."""
        return replace(
            self,
            network=replace(self.network.to("cpu")),
            data=self.data.to("cpu"),
            calibration=self.calibration.to("cpu"),
            _prepared={},
        )

    def measure(self, choice: Choice) -> Counted:
        """Return the counts of a choice."""
        begin = time.perf_counter()
        model = IntegerModel(self.emulated(choice), self.calibration)
        evaluation = self.evaluation
        tallies = [
            evaluation.threats[task.threat].measure(
                model, self.data, level=task.level, trial=task.trial, seed=evaluation.seed
            )
            for task in counted_tasks(evaluation, self.data)
        ]
        return Counted(tuple(tallies), time.perf_counter() - begin)

    def emulated(self, choice: Choice) -> IntegerNetwork:
        """Return the network with the multipliers of a choice."""
        network, single = self.network, {}
        for name, chosen in self.units.by_layer(choice, rest=self.blocks.exact).items():
            if (chosen == chosen[0]).all():
                if (prepared := self._single(name, int(chosen[0]), len(chosen))) is not None:
                    single[name] = prepared
            elif products := self.blocks.products(chosen, network.device):
                network = network.with_products({name: products})
        network = network.with_products_of(single)
        if not self.correct_means:
            return network
        return correct_means(network, self.calibration.inputs())

    def arithmetic(self, choice: Choice) -> Arithmetic:
        """Return a choice as what multiplies in the network."""
        layers: dict[str, Multiplier | tuple[Multiplier, ...]] = {}
        for name, chosen in self.units.by_layer(choice, rest=self.blocks.exact).items():
            multipliers = [self.blocks.all[number].multiplier for number in chosen.tolist()]
            same = (chosen == chosen[0]).all()
            layers[name] = multipliers[0] if same else tuple(multipliers)
        return Arithmetic(layers=layers, correct_means=self.correct_means)

    def key(self, choice: Choice) -> str:
        """Return what the counts of a choice are kept under."""
        return hashlib.sha256(
            f"{self._fixed}{self.arithmetic(choice).digest()}".encode()
        ).hexdigest()

    @property
    def _fixed(self) -> str:
        if "fixed" not in self.__dict__:
            threats = [one.identity(self.data) for one in self.evaluation.threats]
            tasks = [
                [task.threat, task.level, task.trial]
                for task in counted_tasks(self.evaluation, self.data)
            ]
            digests = [
                self.network.digest(),
                self.blocks.digest,
                self.data.digest(),
                self.calibration.digest(),
            ]
            self.__dict__["fixed"] = canonical_json([digests, threats, tasks, self.evaluation.seed])
        return str(self.__dict__["fixed"])

    def _single(self, name: str, block: int, filters: int) -> IntegerNetwork | None:
        """Return the network with one multiplier in all of one layer; None: it is exact."""
        known = self._prepared
        if (name, block) not in known:
            products = self.blocks.products(np.full(filters, block), self.network.device)
            if products is None:
                return None
            if len(known) >= PREPARED:
                known.clear()
            known[name, block] = self.network.with_products({name: products})
        return known[name, block]


class CountStore:
    """Counts of choices on disk, one JSON line each; several processes have a file each.

    A torn last line is ignored, and cut off by whoever writes next.
    """

    def __init__(self, path: Path | None = None, others: Sequence[Path] = ()) -> None:
        self.path = path
        self._counts: dict[str, Counted] = {}
        self._whole: str | None = None
        for each in dict.fromkeys((*others, *([path] if path else []))):
            if each.exists():
                self._read(each)

    def get(self, key: str) -> Counted | None:
        """Return what is known of a choice."""
        return self._counts.get(key)

    def add(self, key: str, counted: Counted) -> None:
        """Keep the counts of a choice."""
        if self.path:
            if self._whole is not None:
                write_text(self.path, self._whole)
                self._whole = None
            counts = [
                [one.correct, one.total, *([dict(one.others)] if one.others else [])]
                for one in counted.tallies
            ]
            line = {"key": key, "counts": counts, "seconds": round(counted.seconds, 6)}
            append_line(self.path, canonical_json(line))
        self._counts[key] = counted

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                entry = json.loads(line)
                tallies = tuple(
                    Tally(int(one[0]), int(one[1]), tuple((*one[2:], {})[0].items()))
                    for one in entry["counts"]
                )
                self._counts[str(entry["key"])] = Counted(tallies, float(entry["seconds"]))
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                raise DataError(
                    f"{path}: line {number} is not a measurement: {line[:60]!r}"
                ) from None
        if path == self.path and lines[-1]:
            self._whole = text[: -len(lines[-1])]


@dataclass(frozen=True, eq=False)
class Measuring:
    """An emulator with workers, and a memory of what was measured."""

    emulator: Emulator
    store: CountStore
    pool: Pool[bytes, Counted]
    progress: Progress = SILENT
    stop: StopRequest | None = None
    _spent: list[float] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Seconds that calls of `measure` took so far."""
        return sum(self._spent, 0.0)

    @classmethod
    def opened(
        cls,
        emulator: Emulator,
        store: CountStore,
        executor: Executor | None = None,
        *,
        progress: Progress = SILENT,
        stop: StopRequest | None = None,
    ) -> "Measuring":
        """Return it with a pool that starts with the first choice."""
        executor = executor or InProcess()
        sent = emulator if isinstance(executor, InProcess) else emulator.bare()
        return cls(emulator, store, executor.open(sent), progress, stop)

    def check_stop(self) -> None:
        """Raise a StoppedError if asked to stop."""
        if self.stop:
            self.stop.check()

    def measure(self, choices: Sequence[Choice], label: str = "emulate") -> list[Counted]:
        """Return the counts of each choice; what is in the store is not measured again.

        Raises:
            StoppedError: asked to stop; what is finished is in the store.
        """
        begin = time.perf_counter()
        keys = [self.emulator.key(choice) for choice in choices]
        missing = {
            key: np.ascontiguousarray(choice, np.int64).tobytes()
            for key, choice in zip(keys, choices, strict=True)
            if self.store.get(key) is None
        }
        key_of = {choice: key for key, choice in missing.items()}

        def tasks() -> Iterator[bytes]:
            for choice in missing.values():
                self.check_stop()
                yield choice

        found = self.pool.run(tasks())
        for choice, counted in self.progress.track(found, label=label, total=len(missing)):
            self.store.add(key_of[choice], counted)
        self._spent.append(time.perf_counter() - begin)
        results = [self.store.get(key) for key in keys]
        return [one for one in results if one is not None]
