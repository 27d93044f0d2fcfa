"""The network with a choice of multipliers, and what it answers.

Model:  the network with the multipliers of a choice answers all images under all threats. A choice
        is an `Arithmetic`; its digest, with those of network, products, images and threats, is the
        key that its counts are kept under. Layers that choices have in common are prepared once.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from bitproof.approx.base import Multiplier
from bitproof.approx.control_variate import correct_means
from bitproof.approx.deploy import Arithmetic
from bitproof.core.spec import canonical_json
from bitproof.data.dataset import Dataset
from bitproof.evaluation.evaluation import Evaluation
from bitproof.evaluation.models import IntegerModel
from bitproof.evaluation.threat import Measurement
from bitproof.explore.count_store import Counted
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.units import Choice, Units
from bitproof.quant.network import IntegerNetwork

PREPARED = 4096
"""Layers with one multiplier that are kept prepared."""


def counted_measurements(evaluation: Evaluation, data: Dataset) -> list[Measurement]:
    """Return what is measured of a choice: all trials at the levels of all threats, no checks."""
    levels = [threat.levels or (0.0,) for threat in evaluation.threats]
    return [one for one in evaluation.measurements(data) if one.level in levels[one.threat]]


@dataclass(frozen=True, eq=False)
class Emulator:
    """A network, and what may multiply in it."""

    network: IntegerNetwork
    """With exact products."""
    units: Units
    blocks: MultiplierSet
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
        here = replace(
            self,
            network=self.network.to(device),
            data=self.data.to(device),
            calibration=self.calibration.to(device),
            _prepared={},
        )
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
            for task in counted_measurements(evaluation, self.data)
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

    @cached_property
    def _fixed(self) -> str:
        """What all choices have in common, as text."""
        parts = (self.network, self.data, self.calibration)
        digests = [self.blocks.digest, *(part.digest() for part in parts)]
        threats = [one.identity(self.data) for one in self.evaluation.threats]
        tasks = [
            [task.threat, task.level, task.trial]
            for task in counted_measurements(self.evaluation, self.data)
        ]
        return canonical_json([digests, threats, tasks, self.evaluation.seed])

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
