"""Faults in the memories of an integer network: which words they reach, and the network they leave.

Model:  the words of all chosen tensors lie one after another in one array, which is struck once:
        one draw of weak cells is one chip. A cell of the activation memory belongs to one word of
        one layer's output (the quantized input is one of them), so the same bits break for every
        image.
Source: Stutz et al., MLSys 2021 (weights); METHODS E.3 and E.4.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from bitproof.core.errors import SpecError
from bitproof.core.rng import draw_seed, make_generator
from bitproof.faults.base import FaultModel
from bitproof.faults.random_flips import RandomFlips
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.integers import run_integers
from bitproof.quant.network import IntegerNetwork

Site = Literal["weight", "bias", "activation"]
"""A kind of stored word."""


def corrupt(
    network: IntegerNetwork,
    fault: FaultModel,
    *,
    generator: torch.Generator,
    sites: tuple[Literal["weight", "bias"], ...] = ("weight", "bias"),
) -> IntegerNetwork:
    """Return `network` with faults in its stored weights and biases.

    Args:
        network: stays as it is; tensors without faults are shared.
        fault: what breaks.
        generator: CPU generator, advanced alike whatever the sites are; one state is one chip.
        sites: which words can break; none: the network comes back without faults.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> from bitproof.faults import RandomFlips
        >>> from bitproof.quant import quantize
        >>> network = quantize(torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.rand(8, 4))
        >>> broken = corrupt(network, RandomFlips(ber=0.5), generator=make_generator(0, "chip", 0))
        >>> broken.tensors["0.weight"].codes.shape
        torch.Size([2, 4])
    """
    words = network.words(*sites) if sites else {}  # `words()` would mean all of them
    return network.with_codes(fault.corrupt_all(words, generator=generator))


def faulty_activations(
    network: IntegerNetwork, fault: FaultModel, *, generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """Return a classifier that runs `network` with faults in its stored activations.

    Args:
        network: its weights and biases are left alone.
        fault: random flips, which change every word by the same mask, so that one mask serves
            all images; other faults depend on what is stored.
        generator: CPU generator, advanced by one draw; one state is one chip.

    Raises:
        SpecError: `fault` is of another kind.
    """
    if not isinstance(fault, RandomFlips):
        raise SpecError(
            f"faulty_activations: wanted RandomFlips, whose mask fits every word, got {fault!r}"
        )
    seed = draw_seed(generator)
    masks: dict[str, Tensor] = {}

    def read_back(node: Node, words: Tensor, grid: Grid) -> Tensor:
        if node.name not in masks:
            clean = torch.zeros(words.shape[1:], dtype=words.dtype)
            cells = make_generator(seed, node.name)
            struck = fault.corrupt(clean, bits=grid.bits, generator=cells)
            masks[node.name] = struck.to(words.device)
        return words ^ masks[node.name]

    return lambda inputs: run_integers(network, inputs, corrupt=read_back)
