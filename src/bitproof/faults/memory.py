"""Faults in the memories of a network: which words they reach, and the network they leave.

Model:  the words of all chosen tensors lie one after another in one memory, which is corrupted
        once: one draw of weak cells is one chip. A cell of the activation memory belongs to one
        word of one layer's output (the quantized input is one of them), so the same cells are weak
        for every image. Float32 words are stored as they are: bit 31 is the sign, bits 30 to 23 the
        exponent, bits 22 to 0 the fraction.

        What protections store beside the words, such as check bits, lies in a memory of its own for
        each, as on the ninth chip of an ECC module: it breaks as the words do, at the same level,
        by a draw of its own. So words break alike with and without protections.
Source: Stutz et al., MLSys 2021 (weights); METHODS E.3 and E.4.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from bitproof.core.rng import draw_seed, make_generator
from bitproof.faults.base import FaultModel
from bitproof.faults.bounding import Restriction
from bitproof.faults.protection import DecodedWords, Protection
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
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
    protections: Sequence[Protection] = (),
) -> IntegerNetwork:
    """Return `network` with faults in its stored weights and biases, read through `protections`.

    Tensors without faults are shared. One state of `generator`, on the CPU, is one chip; it is
    advanced alike whatever the sites are. Without sites, the network comes back without faults.
    Protections stand one after another between memory and network; what they store beside the words
    breaks as well. What they find beyond repair is read as it is. Bounds leave words alone.

    Raises:
        SpecError: the words of `network` do not fit a protection.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> from bitproof.faults import RandomFlips
        >>> from bitproof.quant import quantize
        >>> network = quantize(torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.rand(8, 4))
        >>> broken = corrupt(network, RandomFlips(ber=0.5), generator=make_generator(0, "chip", 0))
        >>> broken.tensors["0.weight"].codes.shape
        torch.Size([2, 4])
    """
    return corrupt_counted(
        network, fault, generator=generator, sites=sites, protections=protections
    )[0]


def corrupt_counted(
    network: IntegerNetwork,
    fault: FaultModel,
    *,
    generator: torch.Generator,
    sites: tuple[Literal["weight", "bias"], ...] = ("weight", "bias"),
    protections: Sequence[Protection] = (),
) -> tuple[IntegerNetwork, DecodedWords | None]:
    """Return what `corrupt` does, and how many words broke, by what protections made of them.

    None where no protection counts them.

    Raises:
        SpecError: the words of `network` do not fit a protection.
    """
    codes = network.codes(*sites) if sites else {}  # `codes()` would mean all of them
    seed = _seed_beside(generator) if protections else 0
    broken = fault.corrupt_all(codes, generator=generator)
    read, words = _protected(network, broken, fault, protections, seed=seed)
    return network.with_codes(read), words


def corrupt_float32(
    tensors: Mapping[str, Float32[Tensor, "..."]],
    fault: FaultModel,
    *,
    generator: torch.Generator,
    protections: Sequence[Protection] = (),
) -> dict[str, Float32[Tensor, "..."]]:
    """Return named float tensors with the faults of one memory that holds them, in this order.

    A flipped exponent may give an infinity or NaN; it is kept, as hardware would keep it. They are
    read through `protections`, as in `corrupt`; names that end in `bias` are those of biases.

    Raises:
        SpecError: 32-bit words do not fit a protection.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> from bitproof.faults import RandomFlips
        >>> clean = {"weight": torch.ones(2)}
        >>> corrupt_float32(clean, RandomFlips(ber=0.0), generator=make_generator(0))
        {'weight': tensor([1., 1.])}
    """
    return corrupt_float32_counted(tensors, fault, generator=generator, protections=protections)[0]


def corrupt_float32_counted(
    tensors: Mapping[str, Float32[Tensor, "..."]],
    fault: FaultModel,
    *,
    generator: torch.Generator,
    protections: Sequence[Protection] = (),
) -> tuple[dict[str, Float32[Tensor, "..."]], DecodedWords | None]:
    """Return what `corrupt_float32` does, and how many words broke; see `corrupt_counted`.

    Raises:
        SpecError: 32-bit words do not fit a protection.
    """
    counted: DecodedWords | None = None
    stored = {name: (tensor.detach().view(torch.int32), 32) for name, tensor in tensors.items()}
    seed = _seed_beside(generator) if protections else 0
    broken = fault.corrupt_all(stored, generator=generator)
    if protections:
        words = {f"{name}.{site_of(name)}": codes for name, codes in broken.items()}
        grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 32, signed=True)
        held = zip(words, stored.values(), strict=True)
        memory = IntegerNetwork(
            (), {name: CodedTensor(codes, grid) for name, (codes, _) in held}, {}
        )
        read, counted = _protected(memory, words, fault, protections, seed=seed)
        broken = dict(zip(broken, read.values(), strict=True))
    return {name: codes.view(torch.float32) for name, codes in broken.items()}, counted


def site_of(name: str) -> Literal["weight", "bias"]:
    """Return which kind of stored word a parameter of a float model is, by its name.

    Example:
        >>> site_of("conv1.bias"), site_of("norm.weight")
        ('bias', 'weight')
    """
    return "bias" if name.endswith("bias") else "weight"


def faulty_codes(
    stored: Mapping[str, CodedTensor], fault: FaultModel, *, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the codes that `fault.corrupt_all` would, on the device where they are.

    Where changes do not depend on content, a mask of them goes to the device, and no word of
    `stored` ever leaves it.
    """
    held = {name: (coded.codes, coded.grid.bits) for name, coded in stored.items()}
    if not fault.content_free:
        return fault.corrupt_all(held, generator=generator)
    zeros = {
        name: (torch.zeros(codes.shape, dtype=codes.dtype), bits)
        for name, (codes, bits) in held.items()
    }
    faulty = {}
    for name, mask in fault.corrupt_all(zeros, generator=generator).items():
        codes = held[name][0]
        sent = mask.pin_memory() if codes.is_cuda else mask
        faulty[name] = codes ^ sent.to(codes.device, non_blocking=True)
    return faulty


def faulty_activations(
    network: IntegerNetwork,
    fault: FaultModel,
    *,
    generator: torch.Generator,
    bounds: Mapping[str, Restriction] | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return a classifier that runs `network` with faults in its stored activations.

    The output of each node is a memory of its own that holds one image at a time; if what breaks
    depends on what is stored, every image is corrupted by itself. Weights and biases are left
    alone. One state of `generator`, on the CPU, is one chip; it is advanced by one draw. What is
    read back is kept within `bounds`, by node.
    """
    seed = draw_seed(generator)
    masks: dict[str, Tensor] = {}

    def corrupted(node: Node, codes: Tensor, grid: Grid) -> Tensor:
        cells = make_generator(seed, node.name)
        return fault.corrupt_all({node.name: (codes, grid.bits)}, generator=cells)[node.name]

    def read_back(node: Node, codes: Tensor, grid: Grid) -> Tensor:
        if not fault.content_free:
            faulty = [corrupted(node, image, grid) for image in codes]
            return torch.stack(faulty) if faulty else codes
        if node.name not in masks:
            zeros = torch.zeros(codes.shape[1:], dtype=codes.dtype)
            masks[node.name] = corrupted(node, zeros, grid).to(codes.device)
        return codes ^ masks[node.name]

    return _reading_back(network, read_back, bounds or {})


def bounded(
    network: IntegerNetwork, bounds: Mapping[str, Restriction]
) -> Callable[[Tensor], Tensor]:
    """Return a classifier that runs `network` with its activations kept within `bounds`, by node.

    Example:
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(8, 4)
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU(), torch.nn.Flatten())
        >>> network = quantize(model, images)
        >>> bounded(network, {"0": lambda words: words.clamp(max=9)})(images).shape
        torch.Size([8, 2])
    """
    return _reading_back(network, lambda _node, codes, _grid: codes, bounds)


def _reading_back(
    network: IntegerNetwork,
    read_back: Callable[[Node, Tensor, Grid], Tensor],
    bounds: Mapping[str, Restriction],
) -> Callable[[Tensor], Tensor]:
    """Return a classifier; movements need no bounds, as what they move is within."""

    def within(node: Node, codes: Tensor, grid: Grid) -> Tensor:
        read = read_back(node, codes, grid)
        return bounds[node.name](read) if node.name in bounds else read

    return lambda inputs: run_integers(network, inputs, corrupt=within)


def _protected(
    network: IntegerNetwork,
    broken: Mapping[str, Tensor],
    fault: FaultModel,
    protections: Sequence[Protection],
    *,
    seed: int,
) -> tuple[dict[str, Tensor], DecodedWords | None]:
    """Return what is read through protections in the place of broken words, in their order.

    And how many words broke, by those protections that count them.
    """
    read, words = dict(broken), None
    for number, protection in enumerate(protections):
        own = protection.redundancy(network).items()
        beside = {name: words for name, words in own if name in broken}
        cells = make_generator(seed, "redundancy", number)
        redundant = fault.corrupt_all(beside, generator=cells)
        read, own_words = protection.decoded(network, read, redundant)
        if own_words is not None:
            words = (words or DecodedWords()) + own_words
    return read, words


def _seed_beside(generator: torch.Generator) -> int:
    """Return a seed that the state of `generator` decides, without advancing it."""
    again = torch.Generator()
    again.set_state(generator.get_state())
    return draw_seed(again)
