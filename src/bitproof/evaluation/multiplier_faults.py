"""Faults in the gates of an accelerator's multipliers, and what they do to answers.

Model:  layers run on a systolic array; each processing element (PE) multiplies with the circuit
        that the network names: `circuit` multipliers, exact or not; a network with exact products
        has the exact circuit of signed words that synthesis makes. A trial breaks as many
        multipliers as the level says, each in another PE, by one fault: PE and net are drawn
        uniformly. A permanent fault holds the net at 0 or at 1, as likely, for all that the PE
        computes; a transient one turns it over in one cycle, drawn uniformly over all cycles of the
        network, many without work. Every image meets it in the same cycle of its own pass.
        Trials are the unit of intervals (`stats.clusters`). SDC-1 and SDC-5 compare with answers
        without faults, the accuracy with labels. A float model has no gates: nothing is measured.
Source: METHODS C.3; outcomes: Li et al., SC 2017.
"""

from collections.abc import Mapping
from functools import lru_cache
from statistics import stdev
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int32
from pydantic import model_validator
from torch import Tensor

from bitproof.approx.base import ProductTable
from bitproof.approx.circuit import CircuitMultiplier, gates_of, table_of_circuit
from bitproof.approx.naming import is_circuit, multiplier_of
from bitproof.circuits import Design, ExactCircuit, FaultSimulator, NetFault, NetFaultKind
from bitproof.circuits.simulation import all_patterns, read_port
from bitproof.circuits.yosys import toolchain
from bitproof.core.errors import SpecError
from bitproof.core.passes import Passes
from bitproof.core.rng import make_generator
from bitproof.core.types import Count, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel, IntegerModel
from bitproof.evaluation.tasks import ending_of
from bitproof.evaluation.threat import (
    BATCH,
    THREATS,
    Counts,
    Levels,
    Threat,
    at_most,
    check_trials,
    first,
    total,
)
from bitproof.faults.broken_multipliers import (
    BrokenMultiplier,
    cycles_of,
    on_array,
    run_broken,
)
from bitproof.faults.systolic import SystolicArray
from bitproof.kernels.forms import WORDS
from bitproof.metrics import OUTCOMES, Tally, guess_task
from bitproof.quant.network import IntegerNetwork
from bitproof.stats import Row
from bitproof.stats.clusters import cluster_rate
from bitproof.stats.threats import ThreatLabel

SHOWN = ("sdc1", "sdc5")
"""Outcomes that are counted beside right answers."""


@THREATS.register
class MultiplierFaults(Threat):
    """Break nets in the multipliers of a systolic array.

    Example:
        >>> MultiplierFaults(faults="transient", trials=100).title
        'transient_multiplier_faults'
    """

    integers_only: ClassVar[bool] = True

    kind: Literal["multiplier_faults"] = "multiplier_faults"
    faults: Literal["permanent", "transient"] = "permanent"
    """Nets held at 0 or 1 for good, or turned over in one cycle."""
    levels: Levels = (1.0,)
    """Numbers of broken multipliers, rising."""
    trials: Rounds = 200
    """Draws of places at each level."""
    images: Count | None = 64
    """Test images that each trial classifies, the first ones; None: all."""
    array: SystolicArray = SystolicArray()
    """The array; its `scope` has no meaning here."""

    @model_validator(mode="after")
    def _check_levels(self) -> "MultiplierFaults":
        check_trials(self.levels, self.trials)
        for level in self.levels:
            if level != int(level) or level > self.array.n_elements:
                raise ValueError(
                    "levels: wanted whole numbers of multipliers, at most "
                    f"{self.array.n_elements}, got {level:g}"
                )
        return self

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or f"{self.faults}_multiplier_faults"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return accuracy and silent corruption."""
        return ("acc", *SHOWN)

    @property
    def label(self) -> ThreatLabel:
        """Return the label."""
        title = f"{self.faults.capitalize()} faults in multipliers"
        return ThreatLabel("compute_fault", title, "broken multipliers", unit="draw")

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        """Return every draw at every level."""
        return [(level, trial) for level in self.levels for trial in range(self.trials)]

    @property
    def slowdown(self) -> float:
        """Return that permanent faults touch products in every layer."""
        return 5.0 if self.faults == "permanent" else 1.0

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return the images of every draw at every level, and once without faults."""
        return Passes((len(self.levels) * self.trials + 1) * at_most(images, self.images))

    def first_images(self, data: Dataset) -> int | None:
        """Return how many images each draw classifies."""
        return at_most(len(data), self.images)

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return what a draw's count depends on, the makers of gates included."""
        fixed = self.model_dump(mode="json", exclude={"name", "levels", "trials", "images"})
        return {**fixed, "images": len(first(data, self.images)), "tools": toolchain()}

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return right answers, and those with silent corruption, in one trial.

        Raises:
            SpecError: layers of the network multiply with several circuits, or with tables that
                are no circuit's.
        """
        if not isinstance(model, IntegerModel):
            return Tally(0, 0)
        network, images = model.network, first(data, self.images)
        gates = _gates(network)
        draw = np.random.default_rng(
            int(torch.randint(2**62, (), generator=make_generator(seed, "multipliers", trial)))
        )
        broken = self._draw(network, gates, images, int(level), draw)
        tallies, counts = [], torch.zeros(len(OUTCOMES), dtype=torch.int64)
        answers = _golden(network, images)
        task = guess_task(
            answers[0], images.labels, given=data.task, ending=ending_of(network.nodes)
        )
        for part, golden in zip(images.blocks(BATCH), answers, strict=True):
            logits = run_broken(network, part.inputs(), self.array, broken, signed=gates.signed)
            tallies.append(task.tally(logits, part.labels))
            counts += task.judge(logits, golden, part.labels).sum(0).cpu()
        right, named = total(tallies), dict(zip(OUTCOMES, counts.tolist(), strict=True))
        shown = tuple((name, named[name]) for name in SHOWN if name in task.outcomes)
        return Tally(right.correct, right.total, tuple(sorted((*right.others, *shown))))

    def _draw(
        self,
        network: IntegerNetwork,
        gates: "_Gates",
        images: Dataset,
        count: int,
        draw: np.random.Generator,
    ) -> list[BrokenMultiplier]:
        """Return broken multipliers, each in another PE."""
        elements = draw.choice(self.array.n_elements, count, replace=False)
        cycles = _cycles(network, images, self.array) if self.faults == "transient" else {}
        found = []
        for element in elements.tolist():
            net = int(draw.choice(gates.nets))
            if self.faults == "permanent":
                kind: NetFaultKind = "stuck1" if draw.random() < 0.5 else "stuck0"
                layer, cycle = "", 0
            else:
                kind = "flip"
                layer, cycle = _place(cycles, int(draw.integers(sum(cycles.values()))))
            errors = gates.errors(NetFault(net, kind)).to(network.device)
            found.append(BrokenMultiplier(element, errors, layer, cycle))
        return found

    def rows(self, counts: Counts) -> list[Row]:
        """Return the accuracy, its spread and worst trial, and the rates of silent corruption."""
        return outcome_rows(self.title, {level: counts[level] for level in self.levels})


def outcome_rows(title: str, counts: Counts) -> list[Row]:
    """Return accuracy and rates of silent corruption between draws, and the accuracies' spread.

    Nothing where nothing was measured.
    """
    rows = []
    for level, trials in counts.items():
        if not any(one.total for one in trials):
            continue
        counted = {"acc": [(one.correct, one.total) for one in trials]}
        for name in SHOWN:
            known = [dict(one.others) for one in trials]
            if name in known[0]:
                images = [one.images for one in trials]
                counted[name] = [(int(n[name]), m) for n, m in zip(known, images, strict=True)]
        for name, own in counted.items():
            low, value, high = cluster_rate(*np.array(own).T)
            rows.append(Row("", title, level, name, value, low, high, len(own)))
        accs = [one.acc for one in trials]
        spread = stdev(accs) if len(accs) > 1 else 0.0
        for name, number in (("acc_std", spread), ("acc_min", min(accs))):
            rows.append(Row("", title, level, name, number, n=len(accs)))
    return rows


class _Gates:
    """The circuit of a network's multipliers, ready to be broken."""

    def __init__(self, design: Design) -> None:
        netlist = gates_of(design)
        self.signed = design.signed
        self.nets = netlist.driven
        ports = [netlist.port("a"), netlist.port("b")]
        self.simulator = FaultSimulator(netlist, all_patterns(ports), WORDS * WORDS)
        self.golden = table_of_circuit(netlist, "p")

    def errors(self, fault: NetFault) -> Int32[Tensor, "256 256"]:
        """Return what a fault adds to each product."""
        netlist = self.simulator.netlist
        faulty = read_port(self.simulator.rows(fault), netlist.port("p"), WORDS * WORDS)
        found = torch.from_numpy(faulty).reshape(WORDS, WORDS).int()
        return found - self.golden.products


@lru_cache(maxsize=8)
def _circuit(design: Design) -> _Gates:
    return _Gates(design)


def _gates(network: IntegerNetwork) -> _Gates:
    """Return the circuit that a network multiplies with, once its tables are seen to be that.

    Raises:
        SpecError: there are several, or one that is no circuit.
    """
    if network not in _KNOWN:
        _KNOWN[network] = _find_gates(network)
    return _KNOWN[network]


def _find_gates(network: IntegerNetwork) -> _Gates:
    layers = [node.name for node in on_array(network)]
    own = {name: network.products.get(name) for name in layers}
    names = {name: products.names if products else () for name, products in own.items()}
    found = set(names.values())
    if len(found) != 1 or any(len(each) > 1 for each in found):
        raise SpecError(
            "multiplier_faults: wanted one circuit in all layers, got "
            f"{', '.join(sorted({' and '.join(each) or 'exact products' for each in found}))}"
        )
    (words,) = found
    if not words:
        return _circuit(ExactCircuit(signed=True))
    if not is_circuit(words[0]):
        raise SpecError(
            "multiplier_faults: wanted multipliers of kind 'circuit', whose gates are known, got "
            f"{words[0]}"
        )
    multiplier = multiplier_of(words[0])
    assert isinstance(multiplier, CircuitMultiplier)
    gates = _circuit(multiplier.design)
    for name, products in own.items():
        if products is None or not _same(gates.golden, products.tables[0], products.signed):
            raise SpecError(f"multiplier_faults: {name} has other products than {words[0]}")
    return gates


def _same(table: ProductTable, products: Int32[Tensor, "256 256"], signed: bool) -> bool:
    return table.signed == signed and torch.equal(table.products, products.cpu())


def _golden(network: IntegerNetwork, images: Dataset) -> list[Float[Tensor, "n k"]]:
    """Return the answers without faults, block by block; kept with the network."""
    known = _ANSWERS.setdefault(network, {})
    key = images.digest()
    if key not in known:
        known.clear()
        known[key] = [network(part.inputs()) for part in images.blocks(BATCH)]
    return known[key]


def _cycles(network: IntegerNetwork, images: Dataset, array: SystolicArray) -> dict[str, int]:
    """Return the cycles of each layer for one image."""
    known = _CYCLES.setdefault(network, {})
    if array not in known:
        known[array] = cycles_of(network, images.inputs(slice(0, 1)), array)
    return known[array]


def _place(cycles: Mapping[str, int], number: int) -> tuple[str, int]:
    """Return the layer and the cycle in it of a cycle of the whole network."""
    for name, own in cycles.items():
        if number < own:
            return name, number
        number -= own
    raise AssertionError(number)


_KNOWN: WeakKeyDictionary[IntegerNetwork, _Gates] = WeakKeyDictionary()
_ANSWERS: WeakKeyDictionary[IntegerNetwork, dict[str, list[Tensor]]] = WeakKeyDictionary()
_CYCLES: WeakKeyDictionary[IntegerNetwork, dict[SystolicArray, dict[str, int]]] = (
    WeakKeyDictionary()
)
