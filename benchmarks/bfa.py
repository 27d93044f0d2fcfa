"""Progressive bit search (BFA) on 8-bit networks: seconds a flip; 128 attack images of 32x32.

ours:   `ProgressiveBitSearch`: the run before a flip is kept, so that a candidate executes what
        follows its layer, and the gradient needs no forward pass.
rival:  the same search as METHODS E.8 tells it, written below without any of that, two ways:
        "on integers": each layer's candidate makes a network of its own, which is executed from
        the first layer on by the same 8-bit products; the gradient is one forward and one backward
        pass of autograd. Its flips must be the same, bit for bit.
        "in floats": what runs without bitproof: weights as floats on the grid, activations never
        quantized, torch's float convolutions (channels last), autograd. Its flips are its own.
limit:  what no search that gives these flips can leave out: the backward pass of all layers, and
        for each candidate the convolutions behind it; those kernels alone, on the same tensors.
ResNet-20 has the pretrained weights and CIFAR-10, if `BITPROOF_DATA` names them; without it, and
for ResNet-18, weights are random and so are images: this changes the flips, hardly the time.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from table import Row, save, show
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitproof.core.rng import make_generator
from bitproof.data import DATA
from bitproof.faults import ProgressiveBitSearch
from bitproof.models import ResNet18, ResNet20, load_weights
from bitproof.quant import (
    AffineQuantizer,
    Graph,
    IntegerNetwork,
    Scheme,
    quantize_graph,
    run_differentiable,
    run_floats,
    trace,
)
from bitproof.quant.weight_gradient import KeptRun, weighted_layers

THREADS = 2
IMAGES = 128
TOP_K = 10
WEIGHTS = AffineQuantizer(symmetric=True, signed=True, margin=0.0)
"""Two's complement, a step of max |w| / 127."""
Place = tuple[str, int, int]


@dataclass(frozen=True)
class Victim:
    """A network, and what it is attacked with."""

    name: str
    graph: Graph
    network: IntegerNetwork
    images: Tensor
    labels: Tensor

    @property
    def layers(self) -> list[str]:
        """Names of the layers that may be attacked."""
        return [node.name for node in weighted_layers(self.network)]


def victims(wanted: list[str]) -> list[Victim]:
    """Return the networks that are attacked."""
    folder = os.environ.get("BITPROOF_DATA")
    images = torch.rand(IMAGES, 3, 32, 32, generator=make_generator(0, "images"))
    labels = torch.randint(10, (IMAGES,), generator=make_generator(0, "labels"))
    found = []
    for name, spec in {"ResNet-20": ResNet20(), "ResNet-18": ResNet18()}.items():
        if name not in wanted:
            continue
        model = spec.build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))
        calibration, x, y, kind = images, images, labels, "random weights"
        if folder and name == "ResNet-20":
            splits = DATA.build({"kind": "cifar10"}).load(Path(folder))
            model = load_weights(model, next(Path(folder).glob("weights/resnet20-*.npz")))
            calibration, kind = splits.train.inputs(slice(256)), "pretrained"
            last = slice(len(splits.test) - IMAGES, None)
            x, y = splits.test.inputs(last), splits.test.labels[last]
        graph = trace(model.eval(), calibration)
        network = quantize_graph(graph, calibration, Scheme(weight=WEIGHTS))
        found.append(Victim(f"{name}, {kind}", graph, network, x, y))
    return found


def search(
    victim: Victim,
    n_flips: int,
    *,
    gradient: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
    logits: Callable[[Mapping[str, Tensor]], Tensor],
) -> list[Place]:
    """Return the flips of METHODS E.8, from functions of all codes, by layer."""
    codes = {layer: victim.network.tensors[f"{layer}.weight"].codes for layer in victim.layers}
    chosen: list[Place] = []
    for _ in range(n_flips):
        slopes = gradient(codes)
        before = float(cross_entropy(logits(codes), victim.labels))
        worst, found, flipped = before, None, codes
        for layer in victim.layers:
            taken = [place[1:] for place in chosen if place[0] == layer]
            best = best_bit(codes[layer], slopes[layer], taken)
            if best is None:
                continue
            changed = codes[layer].flatten().clone()
            changed[best[0]] ^= -128 if best[1] == 7 else 1 << best[1]
            tried = {**codes, layer: changed.view(codes[layer].shape)}
            loss = float(cross_entropy(logits(tried), victim.labels))
            if loss > worst:
                worst, found, flipped = loss, (layer, *best), tried
        assert found is not None, "no layer's first bit raises the loss; see ProgressiveBitSearch"
        chosen.append(found)
        codes = flipped
    return chosen


def best_bit(codes: Tensor, slope: Tensor, taken: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the bit of an int8 tensor with the largest first-order increase."""
    flat, words = slope.flatten(), codes.flatten()
    best, gain = None, 0.0
    for at in flat.abs().topk(min(TOP_K, len(flat))).indices.tolist():
        for bit in range(8):
            size = -128 if bit == 7 else 1 << bit  # of the bit, where it is set
            step = -size if (int(words[at]) >> bit) & 1 else size
            if (at, bit) not in taken and float(flat[at]) * step > gain:
                best, gain = (at, bit), float(flat[at]) * step
    return best


def integer_logits(victim: Victim, codes: Mapping[str, Tensor]) -> Tensor:
    """Return what the integer network answers, executed whole."""
    return with_codes(victim, codes)(victim.images)


def with_codes(victim: Victim, codes: Mapping[str, Tensor]) -> IntegerNetwork:
    """Return the network with the codes that are not its own any more."""
    stored = {f"{layer}.weight": words for layer, words in codes.items()}
    changed = {
        name: words
        for name, words in stored.items()
        if words is not victim.network.tensors[name].codes
    }
    return victim.network.with_codes(changed) if changed else victim.network


def integer_gradient(victim: Victim, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the straight-through gradient by the codes, from autograd."""
    network = with_codes(victim, codes)
    constants, leaves = dict(network.constants), {}
    for layer in victim.layers:
        own = constants[layer].in_float32
        assert own.weight is not None
        leaves[layer] = own.weight.clone().requires_grad_()
        constants[layer] = replace(own, weight=leaves[layer])
    watched = replace(network)
    watched.__dict__["constants"] = constants
    loss = cross_entropy(run_differentiable(watched, victim.images), victim.labels)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


class InFloats:
    """The network as floats: weights on their grid, everything else as torch computes it."""

    def __init__(self, victim: Victim) -> None:
        last = torch.channels_last
        self.victim = victim
        self.images = victim.images.contiguous(memory_format=last)
        self.others = dict(victim.graph.tensors)
        self.scales = {
            layer: victim.network.tensors[f"{layer}.weight"].grid.scale for layer in victim.layers
        }

    def weight(self, layer: str, codes: Tensor) -> Tensor:
        """Return the values of a layer's codes."""
        values = codes.float() * self.scales[layer]
        return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values

    def run(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return logits."""
        tensors = {**self.others, **{f"{layer}.weight": one for layer, one in weights.items()}}
        return run_floats(Graph(self.victim.graph.nodes, tensors), self.images)

    @torch.no_grad()
    def logits(self, codes: Mapping[str, Tensor]) -> Tensor:
        """Return logits for codes."""
        return self.run({layer: self.weight(layer, one) for layer, one in codes.items()})

    def gradient(self, codes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradient by the values."""
        leaves = {layer: self.weight(layer, one).requires_grad_() for layer, one in codes.items()}
        loss = cross_entropy(self.run(leaves), self.victim.labels)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


class Unavoidable:
    """The kernels of one step: every layer's backward pass, and for each candidate those behind."""

    def __init__(self, victim: Victim) -> None:
        run, network = KeptRun.of(victim.network, victim.images), victim.network
        self.backward, self.forward = [], []
        for node in weighted_layers(network):
            constants, codes = network.constants[node.name], run.codes[node.inputs[0]]
            exact = network.accumulator(node)
            self.forward.append(partial(exact.sums, [codes]))
            if node.op != "conv":
                continue
            own, move = constants.in_float32, node.geometry
            assert own.weight is not None
            x = codes.float().contiguous(memory_format=torch.channels_last)
            slope = torch.randn_like(run.sums[node.name].float())
            moves = (move.stride, move.padding, move.dilation, False, [0, 0], move.groups)
            wanted = [codes is not run.codes["input"], True, False]
            self.backward.append(
                partial(
                    torch.ops.aten.convolution_backward, slope, x, own.weight, None, *moves, wanted
                )
            )

    def __call__(self) -> None:
        """Run them."""
        for kernel in self.backward:
            kernel()
        for first in range(len(self.forward)):
            for kernel in self.forward[first + 1 :]:
                kernel()


def timed(work: Callable[[], object]) -> float:
    """Return seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(victim: Victim, n_flips: int, rounds: int) -> tuple[list[Row], list[Row]]:
    """Return minima and medians over rounds in which all take turns, in flips a minute."""

    def ours() -> list[Place]:
        found = ProgressiveBitSearch(n_flips=n_flips, top_k=TOP_K).choose_bits(
            victim.network, victim.images, victim.labels, generator=make_generator(0)
        )
        return [(layer, at, bit) for _, _, layer, at, _, bit, _ in found.rows()]

    plain = partial(
        search,
        victim,
        gradient=partial(integer_gradient, victim),
        logits=partial(integer_logits, victim),
    )
    floats = InFloats(victim)
    in_floats = partial(search, victim, gradient=floats.gradient, logits=floats.logits)
    limit = Unavoidable(victim)
    assert ours() == plain(n_flips), "wanted the same flips"
    in_floats(1)
    limit()
    times: dict[str, list[float]] = {"ours": [], "integers": [], "floats": [], "limit": []}
    for _ in range(rounds):
        times["ours"].append(timed(ours) / n_flips)
        times["integers"].append(timed(partial(plain, n_flips)) / n_flips)
        times["floats"].append(timed(partial(in_floats, n_flips)) / n_flips)
        times["limit"].append(timed(limit))
    tables = []
    for rank in (0, rounds // 2):
        taken = {case: 1e3 * sorted(own)[rank] for case, own in times.items()}
        names = {"integers": "on integers", "floats": "in floats"}
        tables.append(
            [
                Row(f"{victim.name}, {names[rival]}", taken[rival], taken["ours"], taken["limit"])
                for rival in names
            ]
        )
    return tables[0], tables[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Progressive bit search against plain ways.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    parser.add_argument("--network", action="append", help="ResNet-20 or ResNet-18; both, else")
    parser.add_argument("--flips", type=int, default=3, help="flips of one search")
    parser.add_argument("--rounds", type=int, default=3, help="searches of each way")
    parser.add_argument("--threads", type=int, default=THREADS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    best: list[Row] = []
    middle: list[Row] = []
    for victim in victims(options.network or ["ResNet-20", "ResNet-18"]):
        minima, medians = compare(victim, options.flips, options.rounds)
        best += minima
        middle += medians
    best, middle = ([replace(row, unit="ms a flip") for row in rows] for rows in (best, middle))
    show(f"Minima of {options.rounds} rounds (the rows of --json)", best)
    show(f"Medians of {options.rounds} rounds", middle)
    for row in best:
        print(f"{row.name}: {60e3 / row.ours:.0f} flips a minute, rival {60e3 / row.rival:.0f}")
    if options.json:
        save(options.json, best)


if __name__ == "__main__":
    main()
