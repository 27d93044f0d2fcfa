"""Fault-injection campaigns beside PyTorchFI, in one run: ResNet-18 of 32x32 inputs, 64 images.

rival: PyTorchFI 0.6.0 in float32 at its best: one weight fault for 64 images, or 64 neuron faults
       in the 64 images of one pass; in another row one image at a time, as its examples do.
ours:  `Engine.run`, chunk by chunk as a campaign calls it: everything from the list of faults to
       the counted outcomes. The fault-free run, made once for a campaign, is left out.
limit: the nodes behind the faulty one on 64 images, on integers, and nothing else.
Both inject into the same places of the convolutions. A fault counts with the images that meet it.
Weights are random, batch norms are set to the images' statistics. Then, with rivals of their own:
chips:   a uniform for every bit and float32 inference; limit: inference without faults.
workers: one process, once it has started; limit: twice that. One thread each.
rows:    CSV by pyarrow; limit: one Parquet file, neither checked nor synced.
Two threads, else. Before anything is timed, counts are compared with those of full executions.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from table import Row, interleave, json_path, save, show
from theirs import INSTALL, DenseChip, PyTorchFI
from torch import Tensor, nn
from trial_store import time_stores
from two_workers import time_workers

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.faults import RandomFlips, corrupt
from bitproof.faults.execute import broken_memory, faults_by_node
from bitproof.injection import FaultGroup, Injection
from bitproof.injection.engine import Engine
from bitproof.injection.plan import LEAST_TRIALS, Plan, draw_plan
from bitproof.metrics.outcomes import outcomes
from bitproof.models import ImageModelSpec, ResNet18, ResNet20
from bitproof.quant import IntegerNetwork, quantize, run_integers
from bitproof.quant.integers import integer_op

BATCH = 64
THREADS = 2
ROUNDS = 5
WEIGHT_TRIALS = 256
"""Evenly from a plan of `PLANNED`: a small plan would not lie as weights do, but hit every bit
of every layer."""
PLANNED = 9_604
NEURON_TRIALS = 160
"""One for each bit of each of 20 convolutions."""
PART = 8
"""The limit is taken over every eighth trial."""
CHECKED = 12
"""Trials of each sort that are compared with full executions."""
BER = 0.01
CHIP_IMAGES = 10_000
WORKER_TRIALS = 2_560
WORKER_ROUNDS = 2


@dataclass(frozen=True)
class Rate(Row):
    """A comparison of rates, of which more is better."""

    unit: str = "1/s"

    @property
    def ratio(self) -> float:
        """Return how many times `ours` is as much as `rival`."""
        return self.ours / self.rival


Ranked = Callable[[int], list[Row]]
"""From a rank among the rounds, 0 the fastest, to rows."""


def main() -> None:
    path = json_path("Fault-injection campaigns against PyTorchFI.")
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    model, images = lively(ResNet18()), random_images(BATCH)
    try:
        rival = PyTorchFI(model, images)
    except ModuleNotFoundError:
        print(f"wanted PyTorchFI, which is compared with; run: {INSTALL}", file=sys.stderr)
        raise SystemExit(2) from None
    network = quantize(model, images)
    engine = Engine(network, images, network(images).argmax(1))
    weights = plan_of(engine, "weight", PLANNED, allocation="proportional")
    neurons = plan_of(engine, "output", NEURON_TRIALS, allocation="equal")
    check(engine, weights)
    check(engine, neurons)
    print(f"counts of {2 * CHECKED} trials equal those of full executions")
    tables = [
        (ROUNDS, compare_trials(rival, engine, weights, neurons)),
        (ROUNDS, compare_chips(model, network, images)),
        (WORKER_ROUNDS, compare_workers()),
        (ROUNDS, compare_stores()),
    ]
    best = [row for _, rows in tables for row in rows(0)]
    show("Best of all rounds (the rows of --json)", best)
    show("Medians", [row for rounds, rows in tables for row in rows(rounds // 2)])
    if path:
        save(path, best)


def lively(spec: ImageModelSpec) -> nn.Module:
    """Return a network with random weights whose batch norms know what comes in."""
    model = spec.build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of all batches
    model.train()(random_images(4 * BATCH))
    return model.eval()


def random_images(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=make_generator(0, "images", count))


def plan_of(engine: Engine, site: str, trials: int, *, allocation: str) -> Plan:
    group = {"sites": (site,), "operations": ("conv",)}
    injection = Injection.model_validate(
        {"faults": (group,), "trials": trials, "allocation": allocation}
    )
    return draw_plan(injection, engine.network, engine.golden.shapes)


def check(engine: Engine, plan: Plan) -> None:
    """Compare counts with full executions, and those with floats that hold the same integers."""
    network, images = engine.network, engine.golden.inputs
    chosen = np.random.default_rng(0).choice(plan.n_trials, CHECKED, replace=False).tolist()
    for trial, counts in zip(chosen, engine.run(plan.faults, chosen), strict=True):
        logits = engine.reference(plan.faults, trial)
        found = outcomes(logits, engine.golden.logits)
        right = (logits.argmax(1) == engine.labels) & (found[:, -1] == 0)
        assert counts.tolist() == [*found.sum(0).tolist(), int(right.sum())], f"trial {trial}"
    exact = run_integers(network, images, native=False)
    assert torch.equal(engine.golden.logits, exact)
    ((name, faults),) = faults_by_node(plan.faults.of_trial(chosen[0])).items()
    broken = broken_memory(network, {name: faults})
    if broken is not network:
        exact = run_integers(broken, images, native=False)
        assert torch.equal(engine.reference(plan.faults, chosen[0]), exact)


def compare_trials(rival: PyTorchFI, engine: Engine, weights: Plan, neurons: Plan) -> Ranked:
    """Time faults in weights, and in neurons."""
    passes, singles = 4, 16
    by_size, by_layer = some(weights, WEIGHT_TRIALS), some(neurons, NEURON_TRIALS)
    work = {
        "weights": (rival.weight_faults(weights.faults, passes), passes * BATCH),
        "our weights": (partial(run, engine, weights, by_size), WEIGHT_TRIALS * BATCH),
        "weight limit": (suffixes(engine, weights, by_size), WEIGHT_TRIALS // PART * BATCH),
        "neurons": (rival.neuron_faults(neurons.faults, passes), passes * BATCH),
        "one neuron": (rival.neuron_faults_of_one(neurons.faults, singles), singles),
        "our neurons": (partial(run, engine, neurons, by_layer), NEURON_TRIALS * BATCH),
        "neuron limit": (suffixes(engine, neurons, by_layer), NEURON_TRIALS // PART * BATCH),
    }
    times = interleave({name: call for name, (call, _) in work.items()}, rounds=ROUNDS)

    def rows(rank: int) -> list[Row]:
        rate = {name: 1e3 * count / times[name][rank] for name, (_, count) in work.items()}
        rows = [("weight faults, by size", "weights", "our weights", "weight limit")]
        rows += [
            (f"neuron faults, by layer, rival {how}", rival, "our neurons", "neuron limit")
            for how, rival in (("64 a pass", "neurons"), ("one image a pass", "one neuron"))
        ]
        return [
            Rate(name, rate[a], rate[b], rate[c], "faulty inferences/s") for name, a, b, c in rows
        ]

    return rows


def some(plan: Plan, count: int) -> np.ndarray:
    """Return trials evenly from all layers, in the order in which a campaign does them."""
    return np.concatenate(plan.chunks())[np.arange(count) * plan.n_trials // count]


def run(engine: Engine, plan: Plan, trials: np.ndarray) -> None:
    """Do trials, as a worker of a campaign does."""
    for start in range(0, len(trials), LEAST_TRIALS):
        engine.run(plan.faults, trials[start : start + LEAST_TRIALS].tolist())


def suffixes(engine: Engine, plan: Plan, trials: np.ndarray) -> Callable[[], None]:
    """Return work: the nodes behind the faulty one, for every eighth of some trials."""
    golden, network = engine.golden, engine.network
    rows = np.searchsorted(plan.faults.trial, trials[PART // 2 :: PART])
    names = [plan.faults.layers[layer] for layer in plan.faults.layer[rows]]

    def work() -> None:
        for name in names:
            words = dict(golden.codes)
            for node in golden.suffix(name).nodes:
                operands = [words[read] for read in node.inputs]
                words[node.name] = integer_op(network, node, operands, golden.inputs)

    return work


def compare_chips(model: nn.Module, network: IntegerNetwork, images: Tensor) -> Ranked:
    """Time chips with random bit errors in all weights, and what inference on them takes."""
    ours, fault = make_generator(0, "chips"), RandomFlips(ber=BER)
    dense = DenseChip(model, make_generator(0, "dense"))
    broken = corrupt(network, fault, generator=ours, sites=("weight",))
    faulty = {name: broken.tensors[name].codes for name in network.codes("weight")}
    times = interleave(
        {
            "dense chip": lambda: dense.inject(BER),
            "our chip": lambda: corrupt(network, fault, generator=ours, sites=("weight",))(
                images[:1]
            ),
            "known chip": lambda: network.with_codes(faulty)(images[:1]),
            "float": lambda: model(images),
            "broken": lambda: [broken(images) for _ in range(PART)],
            "sound": lambda: [network(images) for _ in range(PART)],
        },
        rounds=ROUNDS,
    )

    def rows(rank: int) -> list[Row]:
        time_of = {name: taken[rank] for name, taken in times.items()}
        passes = CHIP_IMAGES / BATCH
        inference = time_of["broken"] / PART
        limit = time_of["sound"] / PART
        return [
            Row(
                f"chip at BER {BER:.0%}, drawn and ready",
                *(time_of[name] for name in ("dense chip", "our chip", "known chip")),
            ),
            Row(f"its inference, {BATCH} images", time_of["float"], inference, limit),
            Row(
                f"chip and {CHIP_IMAGES:,} images, from {PART * BATCH}",
                time_of["dense chip"] + passes * time_of["float"],
                time_of["our chip"] + passes * inference,
                passes * limit,
            ),
        ]

    return rows


def compare_workers() -> Ranked:
    """Time whole campaigns on ResNet-20, with one worker and with two."""
    images = random_images(BATCH)
    network = quantize(lively(ResNet20()), images)
    data = Dataset("random", images, network(images).argmax(1), n_classes=10)
    injection = Injection(faults=(FaultGroup(sites=("weight",)),), trials=WORKER_TRIALS)
    times = time_workers(network, injection, data, rounds=WORKER_ROUNDS)

    def rows(rank: int) -> list[Row]:
        one, two = (1e3 * WORKER_TRIALS / taken[rank] for taken in times.values())
        return [Rate("ResNet-20, two workers against one", one, two, 2 * one, "trials/s")]

    return rows


def compare_stores() -> Ranked:
    """Time writing the rows of many trials, and reading their sums by layer and bit."""
    times, sizes = time_stores(rounds=ROUNDS)

    def rows(rank: int) -> list[Row]:
        kinds = ("csv", "parts", "parquet")
        return [
            *(
                Row(f"2 million trials, {what}", *(times[f"{verb} {kind}"][rank] for kind in kinds))
                for what, verb in (("written", "write"), ("layer x bit table", "read"))
            ),
            Row("2 million trials, size", *sizes, unit="MB"),
        ]

    return rows


if __name__ == "__main__":
    main()
