"""Adversarial bit errors by projected gradient ascent on stored words.

Model:  white box; a number of bits of all words may be flipped, at most one in each word. Float
        weights climb the loss with momentum, along the gradient of the faulty weights divided by
        its largest entry in each tensor. The projection keeps the weights that have moved farthest,
        and of each only the most significant bit that differs, so that a flip always goes the way
        the weight went. The first iterate has up to as many random flips. Gradients pass rounding
        as if it were the identity. The attack is run several times, on all layers, on the first and
        on the last alone; the iterate of all runs with the largest loss counts. The source's
        backtracking is left out.
Source: Stutz et al., "Random and Adversarial Bit Error Robustness: Energy-Efficient and Secure DNN
        Accelerators", TPAMI 2022; METHODS E.8.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Int, Int64, Num
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitproof.core.errors import FaultListError
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Count, LearningRate, Rounds
from bitproof.faults.table import FaultTable
from bitproof.faults.weight_attack import WEIGHT_ATTACKS, WeightAttack, flip_bits, list_flips
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.weight_gradient import KeptRun, weighted_layers

WeightGradient = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
"""Returns the gradient of the loss by the values of all tensors, by name, given their values (or,
in `ascend`, their words)."""
Subset = Literal["all", "first", "last"]


@WEIGHT_ATTACKS.register
class BitAscent(WeightAttack):
    """Flip up to `n_flips` bits at once, at most one in each weight, by projected gradient ascent.

    Example:
        >>> BitAscent(n_flips=80, restarts=3).at(160).n_flips
        160
    """

    kind: Literal["bit_ascent"] = "bit_ascent"
    n_flips: Count = 80
    """Most bits that are flipped, in all layers together."""
    iterations: Rounds = 100
    """Gradients of a run."""
    learning_rate: LearningRate = 1.0
    """Way of the weight with the largest gradient of its tensor in one step, in value units."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Part of the last step that is added to the next."""
    restarts: Rounds = 1
    """Runs for each of `layers`, from different random flips."""
    layers: Annotated[tuple[Subset, ...], Field(min_length=1)] = ("all", "first", "last")
    """Which layers runs may attack; the worst of all runs counts."""

    def passes(self, layers: int) -> Passes:  # noqa: ARG002
        """Return a gradient for each iteration of each run, and a look at the end."""
        run = self.iterations * STEP + Passes(1)
        return len(self.layers) * self.restarts * run + Passes(1)

    def search(
        self,
        network: IntegerNetwork,
        inputs: Num[Tensor, "n *features"],
        labels: Int[Tensor, " n"],
        *,
        generator: torch.Generator,
    ) -> FaultTable:
        """Return the flips of the iterate with the largest loss, by layer and place."""
        names = [node.key("weight") for node in weighted_layers(network)]
        if not names:
            raise FaultListError(f"{self.kind}: wanted a network with weights, got none")
        subsets = {"all": names, "first": names[:1], "last": names[-1:]}
        worst = _Worst(network, inputs, labels)
        for chosen in [subsets[which] for which in self.layers for _ in range(self.restarts)]:
            *_, last = ascend(
                {name: network.tensors[name] for name in chosen},
                worst.gradient,
                budget=self.n_flips,
                iterations=self.iterations,
                learning_rate=self.learning_rate,
                momentum=self.momentum,
                generator=generator,
            )
            worst.keep(last, network.with_codes(last)(inputs))
        places = [
            (name.removesuffix(".weight"), element, bit)
            for name, codes in worst.codes.items()
            for element, bit in changed_bits(network.tensors[name], codes)
        ]
        return list_flips(network, places)


class _Worst:
    """Gives gradients of the loss on a batch, and remembers the words where it was largest."""

    def __init__(self, network: IntegerNetwork, inputs: Tensor, labels: Tensor) -> None:
        self.network, self.inputs, self.labels = network, inputs, labels
        self.codes: dict[str, Tensor] = {}
        self.loss = float(cross_entropy(network(inputs), labels))

    def gradient(self, faulty: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradient by the values of faulty weights."""
        run = KeptRun.of(self.network.with_codes(faulty), self.inputs)
        with torch.enable_grad():
            logits = run.logits.detach().requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(logits, self.labels), logits)
        self.keep(faulty, logits.detach())
        layers = {name.removesuffix(".weight"): name for name in faulty}
        found = run.weight_gradients(slope, layers)
        grids = {name: self.network.tensors[name].grid for name in faulty}
        return {
            name: found[layer] / grids[name].spread(grids[name].scale, found[layer].ndim)
            for layer, name in layers.items()
        }

    def keep(self, faulty: dict[str, Tensor], logits: Tensor) -> None:
        """Remember faulty words if their loss is larger than any before."""
        loss = float(cross_entropy(logits, self.labels))
        if loss > self.loss:
            self.loss, self.codes = loss, faulty


def adversarial_codes(
    codes: Mapping[str, CodedTensor],
    gradient: WeightGradient,
    *,
    budget: int,
    iterations: int,
    learning_rate: float = 1.0,
    momentum: float = 0.9,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return faulty words that raise a loss, by name, in new tensors; see `ascend`.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> from bitproof.quant import AffineQuantizer
        >>> coded = {"w": AffineQuantizer(margin=0.0).encode(torch.tensor([-1.0, 0.5, 1.0]))}
        >>> def gradient(values):  # of the loss w[1]
        ...     return {"w": torch.tensor([0.0, 1.0, 0.0])}
        >>> faulty = adversarial_codes(
        ...     coded, gradient, budget=1, iterations=20, generator=make_generator(0)
        ... )
        >>> coded["w"].codes ^ faulty["w"]
        tensor([ 0, 32,  0], dtype=torch.uint8)
    """

    def by_words(faulty: dict[str, Tensor]) -> Mapping[str, Tensor]:
        stored = {name: CodedTensor(faulty[name], coded.grid) for name, coded in codes.items()}
        return gradient({name: one.values() for name, one in stored.items()})

    *_, last = ascend(
        codes,
        by_words,
        budget=budget,
        iterations=iterations,
        learning_rate=learning_rate,
        momentum=momentum,
        generator=generator,
    )
    return last


def ascend(
    codes: Mapping[str, CodedTensor],
    gradient: WeightGradient,
    *,
    budget: int,
    iterations: int,
    learning_rate: float,
    momentum: float,
    generator: torch.Generator,
) -> Iterator[dict[str, Tensor]]:
    """Yield the faulty words of the start, and of each iteration.

    Args:
        codes: the words without faults, by name; all of them may be attacked.
        gradient: called once an iteration, with the faulty words.
        budget: bits that may be flipped, in all tensors together.
        iterations: steps, each with one call of `gradient`.
        learning_rate: way of the weight with the largest gradient of its tensor, in value units.
        momentum: part of the last step that is added to the next.
        generator: on the CPU; draws how many random flips the start has, and where.
    """
    places = random_start(codes, budget=budget, generator=generator)
    faulty = {name: _flip(coded, *places[name]) for name, coded in codes.items()}
    yield faulty
    velocity = {name: torch.zeros_like(coded.values()) for name, coded in codes.items()}
    for _ in range(iterations):
        for name, slope in gradient(faulty).items():
            peak = slope.abs().amax().clamp(min=torch.finfo(slope.dtype).tiny)
            velocity[name] = momentum * velocity[name] + slope.detach() / peak
        moves = {name: learning_rate * speed for name, speed in velocity.items()}
        faulty = project(codes, faulty, moves, budget=budget)
        yield faulty


def project(
    codes: Mapping[str, CodedTensor],
    faulty: Mapping[str, Tensor],
    moves: Mapping[str, Tensor],
    *,
    budget: int,
) -> dict[str, Tensor]:
    """Return the words nearest to `faulty` values plus `moves` that are allowed.

    They differ from `codes` in at most `budget` words, those that are farthest away, by one bit
    each, the most significant one.
    """
    ends, found = {}, []
    for name, coded in codes.items():
        grid, ndim = coded.grid, coded.codes.ndim
        scale = grid.spread(grid.scale, ndim)
        steps = moves[name] / scale
        end = faulty[name].to(steps.dtype).add_(steps.round()).clamp_(grid.low, grid.high)
        offset = faulty[name].to(steps.dtype) - coded.codes
        away = ((offset + steps) * scale).abs_()
        ends[name] = end.reshape(-1)
        away = torch.where(end == coded.codes, 0.0, away).reshape(-1)
        found.append(away.topk(min(budget, away.numel())))
    farthest = torch.cat([one.values for one in found])
    keep = torch.zeros_like(farthest, dtype=torch.bool)
    keep[farthest.topk(min(budget, len(farthest))).indices] = True
    keep &= farthest > 0
    result = {}
    sizes = [len(one.values) for one in found]
    parts = zip(codes.items(), found, torch.split(keep, sizes), strict=True)
    for (name, coded), one, chosen in parts:
        places = one.indices[chosen]
        before = coded.codes.reshape(-1)[places].long()
        bits = top_bit(before ^ ends[name][places].long(), coded.grid.bits)
        result[name] = _flip(coded, places, bits)
    return result


def top_bit(differing: Int64[Tensor, " w"], bits: int) -> Int64[Tensor, " w"]:
    """Return the number of the most significant bit that is set among the low `bits` of words.

    Example:
        >>> top_bit(torch.tensor([1, 6, -1]), 4)
        tensor([0, 2, 3])
    """
    low = differing & ((1 << bits) - 1)
    return torch.frexp(low.double()).exponent.long() - 1


def random_start(
    codes: Mapping[str, CodedTensor], *, budget: int, generator: torch.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return places and bits of random flips, up to `budget`, one in a word, by name."""
    sizes = [coded.codes.numel() for coded in codes.values()]
    most = min(budget, sum(sizes))
    n_flips = int(torch.randint(most + 1, (), generator=generator))
    chosen = _choose(sum(sizes), n_flips, generator)
    draws = torch.rand(n_flips, generator=generator, dtype=torch.float64)
    found, start = {}, 0
    for (name, coded), size in zip(codes.items(), sizes, strict=True):
        inside = (chosen >= start) & (chosen < start + size)
        bits = (draws[inside] * coded.grid.bits).long()
        device = coded.codes.device
        found[name] = ((chosen[inside] - start).to(device), bits.to(device))
        start += size
    return found


def changed_bits(coded: CodedTensor, faulty: Tensor) -> list[tuple[int, int]]:
    """Return the place and the bit of each word that differs, by one bit.

    Example:
        >>> from bitproof.quant import AffineQuantizer
        >>> coded = AffineQuantizer(bits=4).encode(torch.tensor([-1.0, 0.0, 1.0]))
        >>> changed_bits(coded, coded.codes ^ torch.tensor([0, 0, 4], dtype=torch.uint8))
        [(2, 2)]
    """
    before, after = (codes.reshape(-1) for codes in (coded.codes, faulty))
    places = (before != after).nonzero()[:, 0]
    bits = top_bit(before[places].long() ^ after[places].long(), coded.grid.bits)
    return list(zip(places.tolist(), bits.tolist(), strict=True))


def _choose(n_words: int, wanted: int, generator: torch.Generator) -> Int64[Tensor, " w"]:
    """Return the numbers of different words, rising."""
    if 2 * wanted > n_words:
        return torch.randperm(n_words, generator=generator)[:wanted].sort().values
    chosen = torch.empty(0, dtype=torch.int64)
    while len(chosen) < wanted:  # much faster than all words in a random order
        more = torch.randint(n_words, (wanted - len(chosen),), generator=generator)
        chosen = torch.unique(torch.cat([chosen, more]))
    return chosen


def _flip(coded: CodedTensor, places: Tensor, bits: Tensor) -> Tensor:
    """Return words with one bit flipped in each of some places, which differ."""
    flat = coded.codes.reshape(-1).clone()
    flat[places] = flip_bits(flat[places].long(), bits, coded.grid).to(flat.dtype)
    return flat.reshape(coded.codes.shape)
