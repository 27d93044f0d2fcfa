"""Progressive bit search: the flip of one bit that hurts most, again and again.

Model:  white box; each step takes the gradient of the loss by every stored code on the batch
        (straight-through). In each layer, of the `top_k` weights with the largest gradient, the bit
        is tried whose flip raises the loss most to first order; the integer network says what the
        loss becomes, and the flip of the layer where it is largest stays. A flip that stays raises
        the loss; where no layer's does, the next bits of each layer are tried, and where none is
        left the search ends. No bit is flipped twice, so that the distance to the clean weights is
        the number of flips. The change of a flip follows from the stored code, so that words may be
        of any width, signed or not, with one grid or one for each channel.
Source: Rakin et al., "Bit-Flip Attack: Crushing Neural Network with Progressive Bit Search", ICCV
        2019; targeted: Rakin et al., "T-BFA: Targeted Bit-Flip Adversarial Weight Attack", TPAMI
        2022; METHODS E.8.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int, Num
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitproof.core.errors import DataError, FaultListError
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Count, Index, Probability, Rounds
from bitproof.faults.flip_effect import CodeChange, logits_after
from bitproof.faults.table import FaultTable
from bitproof.faults.weight_attack import (
    WEIGHT_ATTACKS,
    BitPlace,
    WeightAttack,
    flip_bits,
    list_flips,
    with_flips,
)
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.weight_gradient import KeptRun, weighted_layers


@dataclass(frozen=True)
class Candidate:
    """A bit that may be flipped."""

    layer: str
    element: int
    bit: int
    step: int
    """New code minus old code."""

    @property
    def place(self) -> BitPlace:
        """Return where the bit is."""
        return self.layer, self.element, self.bit


Objective = Callable[[Tensor], Tensor]
"""What a search raises, from logits of the attack images."""


@WEIGHT_ATTACKS.register
class ProgressiveBitSearch(WeightAttack):
    """Flip the most harmful bit, one after the other (BFA).

    Example:
        >>> ProgressiveBitSearch(n_flips=5).at(10).n_flips
        10
    """

    nested = True

    kind: Literal["progressive_bit_search"] = "progressive_bit_search"
    n_flips: Rounds = 20
    """Most bits that are flipped, one at a time."""
    top_k: Count = 10
    """Weights of each layer whose bits are looked at, those with the largest gradient."""
    stop_accuracy: Probability | None = None
    """Stop once the accuracy on the attack images is not above this, as a fraction; for chance,
    one over the number of classes. None: go on."""

    def passes(self, layers: int) -> Passes:
        """Return what `search_bits` takes for an image."""
        return _passes(self.n_flips, layers)

    def search(
        self,
        network: IntegerNetwork,
        inputs: Num[Tensor, "n *features"],
        labels: Int[Tensor, " n"],
        *,
        generator: torch.Generator,  # noqa: ARG002
    ) -> FaultTable:
        """Return the flips found, in their order."""

        def is_done(logits: Tensor) -> bool:
            right = float((logits.argmax(1) == labels).float().mean())
            return self.stop_accuracy is not None and right <= self.stop_accuracy

        return list_flips(
            network,
            search_bits(
                network,
                inputs,
                lambda logits: cross_entropy(logits, labels),
                n_flips=self.n_flips,
                top_k=self.top_k,
                is_done=is_done,
            ),
        )


@WEIGHT_ATTACKS.register
class TargetedBitSearch(WeightAttack):
    """Move images to a class of the attacker's choice, flip by flip (T-BFA, N-to-1 and 1-to-1).

    Example:
        >>> TargetedBitSearch(n_flips=5, target=3, source=1).target
        3
    """

    nested = True

    kind: Literal["targeted_bit_search"] = "targeted_bit_search"
    n_flips: Rounds = 20
    """Most bits that are flipped, one at a time."""
    top_k: Count = 10
    """Weights of each layer whose bits are looked at, those with the largest gradient."""
    target: Index = 0
    """Class that images are to be taken for."""
    source: Index | None = None
    """Class of the images that are to be moved, the only ones looked at. None: all classes."""

    def passes(self, layers: int) -> Passes:
        """Return what `search_bits` takes for an image."""
        return _passes(self.n_flips, layers)

    def search(
        self,
        network: IntegerNetwork,
        inputs: Num[Tensor, "n *features"],
        labels: Int[Tensor, " n"],
        *,
        generator: torch.Generator,  # noqa: ARG002
    ) -> FaultTable:
        """Return the flips found, in their order; the search ends where all images are moved."""
        n_classes = network(inputs[:1]).shape[1]
        if self.target >= n_classes:
            raise DataError(f"target: wanted a class below {n_classes}, got {self.target}")
        if self.source is not None:
            inputs = inputs[labels == self.source]
            if not len(inputs):
                raise DataError(f"source: wanted attack images of class {self.source}, got none")
        wanted = torch.full((len(inputs),), self.target, device=inputs.device)
        return list_flips(
            network,
            search_bits(
                network,
                inputs,
                lambda logits: -cross_entropy(logits, wanted),
                n_flips=self.n_flips,
                top_k=self.top_k,
                is_done=lambda logits: bool((logits.argmax(1) == wanted).all()),
            ),
        )


def _passes(n_flips: int, layers: int) -> Passes:
    """Return a gradient for each flip, and a try in each layer: half a network, in the mean."""
    return n_flips * (STEP + Passes((layers + 1) // 2))


def search_bits(
    network: IntegerNetwork,
    inputs: Num[Tensor, "n *features"],
    objective: Objective,
    *,
    n_flips: int,
    top_k: int,
    is_done: Callable[[Tensor], bool],
) -> list[BitPlace]:
    """Return the bits found, in their order, until `is_done` says so of the logits.

    Raises:
        FaultListError: the network has no weights.
    """
    layers = [node.name for node in weighted_layers(network)]
    if not layers:
        raise FaultListError("network: wanted layers with weights, got none")
    run, chosen = KeptRun.of(network, inputs), list[BitPlace]()
    while len(chosen) < n_flips and not is_done(run.logits):
        with torch.enable_grad():
            logits = run.logits.detach().requires_grad_()
            value = objective(logits)
            (slope,) = torch.autograd.grad(value, logits)
        gradients = run.weight_gradients(slope, layers)
        ranked = [
            rank_flips(
                layer,
                network.tensors[f"{layer}.weight"],
                gradients[layer],
                top_k=top_k,
                taken=chosen,
            )
            for layer in layers
        ]
        worst = _choose_worst(run, objective, ranked, float(value.detach()))
        if worst is None:
            break
        chosen.append(worst.place)
        if len(chosen) < n_flips:
            network = with_flips(network, list_flips(network, [worst.place]))
            run = run.after_change(network, worst.layer)
    return chosen


def _choose_worst(
    run: KeptRun, objective: Objective, ranked: Sequence[Sequence[Candidate]], before: float
) -> Candidate | None:
    """Return the flip that raises the objective most, of the best of each layer; else the next."""
    for rank in range(max(map(len, ranked))):
        tried = [own[rank] for own in ranked if rank < len(own)]
        changes = [CodeChange(one.layer, one.element, one.step) for one in tried]
        found = [float(objective(logits_after(run, change))) for change in changes]
        if max(found) > before:
            return tried[found.index(max(found))]
    return None


def rank_flips(
    layer: str,
    coded: CodedTensor,
    gradient: Tensor,
    *,
    top_k: int,
    taken: Sequence[BitPlace],
) -> list[Candidate]:
    """Return the bits of a layer whose flip raises the loss to first order, the largest first.

    Only the `top_k` weights with the largest gradient are looked at, and no bits that are `taken`.

    Example:
        >>> from bitproof.quant import AffineQuantizer
        >>> coded = AffineQuantizer(bits=3, signed=True, narrow=False).encode(torch.arange(8.0))
        >>> coded.codes
        tensor([-4, -3, -2, -1,  0,  1,  2,  3], dtype=torch.int8)
        >>> slope = torch.tensor([2.0, 0, 0, 0, 0, 0, 0, 1.0])
        >>> [one.place for one in rank_flips("0", coded, slope, top_k=2, taken=[("0", 0, 1)])]
        [('0', 0, 2), ('0', 0, 0)]
    """
    flat, bits = gradient.reshape(-1), coded.grid.bits
    places = flat.abs().topk(min(top_k, len(flat))).indices
    words = coded.codes.reshape(-1)[places].long()
    each = torch.arange(bits, device=words.device)
    numbers, columns = places.repeat_interleave(bits), each.repeat(len(places))
    steps = flip_bits(words.repeat_interleave(bits), columns, coded.grid)
    steps -= words.repeat_interleave(bits)
    gains = flat[numbers].double() * steps
    order = gains.argsort(descending=True, stable=True)
    order = order[gains[order] > 0]
    rows = zip(*(column[order].tolist() for column in (numbers, columns, steps)), strict=True)
    found, known = [Candidate(layer, *row) for row in rows], set(taken)
    return [one for one in found if one.place not in known]
