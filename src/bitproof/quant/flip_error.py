"""What a flipped bit does to a weight: squared changes, by bit and at a bit error rate.

Model:  a flip of bit b moves a code by 2**b, up or down, in unsigned words and in two's complement
        alike; so it moves the value by D 2**b, whatever the weight, with D the step of its grid.
        Where each of m bits flips by itself at rate p, the mean squared change is, to first order,

            p D**2 (1 + 4 + ... + 4**(m - 1)) = p D**2 (4**m - 1) / 3.

        Several flips in one word add up before they are squared: with c = 2**m - 1 - 2 u the change
        of code u when all bits flip, what is exact is D**2 (p (1 - p) (4**m - 1) / 3 + p**2 c**2),
        which lies between 1 - p and 1 + 2 p times the first order.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN Accelerators", MLSys 2021;
        METHODS E.1 and E.3.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int32
from torch import Tensor

from bitproof.core.errors import QuantizationError, SpecError
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.network_data import NetworkData

BER = 0.01
"""Rate at which errors are told, as the source does."""
LAYERS = frozenset({"conv", "linear"})
"""Operations whose weights are meant. Biases and norms, few words, have ranges of their own."""


@dataclass(frozen=True)
class FlipError:
    """Mean squared changes of weights, in squares of their unit; every word counts alike."""

    words: int
    """Weights of the network."""
    measured: tuple[float, ...]
    """By bit, the least significant first: its flip in every word that has it, decoded."""
    formula: tuple[float, ...]
    """The same as `(D 2**b)**2`."""
    ber: float
    """Bit error rate of what follows, as a fraction."""
    measured_sum: float
    """`ber` times the sum over the bits of a word, as measured."""
    formula_sum: float
    """The same by the formula: `ber D**2 (4**m - 1) / 3`."""
    simulated: float
    """Random flips in all words, drawn once."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def flip_error(network: NetworkData, *, generator: torch.Generator, ber: float = BER) -> FlipError:
    """Return what flips do to the weights of a network.

    Args:
        network: where the weights are stored.
        generator: CPU generator, advanced by a draw for each bit of each weight.
        ber: bit error rate, as a fraction.

    Raises:
        QuantizationError: no layer of the network has weights.
        SpecError: `ber` lies outside [0, 1].

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> from bitproof.quant import quantize
        >>> network = quantize(torch.nn.Linear(4, 2), torch.rand(8, 4))
        >>> found = flip_error(network, generator=make_generator(0))
        >>> found.words, len(found.measured), round(found.measured[3] / found.measured[0])
        (8, 8, 64)
    """
    if not 0 <= ber <= 1:
        raise SpecError(f"ber: wanted a fraction in [0, 1], got {ber}")
    stored = layer_weights(network).values()
    if not stored:
        raise QuantizationError("network: wanted a layer with weights, got none")
    widest = max(coded.grid.bits for coded in stored)
    measured, formula = [0.0] * widest, [0.0] * widest
    having = [0] * widest
    first_order = simulated = 0.0
    for coded in stored:
        squares = sum_of_steps(coded, power=2)
        for bit in range(coded.grid.bits):
            having[bit] += coded.codes.numel()
            measured[bit] += _squared_change(coded, 1 << bit)
            formula[bit] += squares * 4**bit
        first_order += squares * (4**coded.grid.bits - 1) / 3
        simulated += _squared_change(coded, _random_mask(coded, ber, generator))
    words = having[0]
    return FlipError(
        words=words,
        measured=tuple(each / n for each, n in zip(measured, having, strict=True)),
        formula=tuple(each / n for each, n in zip(formula, having, strict=True)),
        ber=ber,
        measured_sum=ber * sum(measured) / words,
        formula_sum=ber * first_order / words,
        simulated=simulated / words,
    )


def layer_weights(network: NetworkData) -> dict[str, CodedTensor]:
    """Return the stored weights of convolutions and linear layers, on the CPU, by name."""
    names = dict.fromkeys(node.key("weight") for node in network.nodes if node.op in LAYERS)
    return {name: network.tensors[name].to("cpu") for name in names}


def exact_values(codes: Tensor, grid: Grid) -> Float64[Tensor, "..."]:
    """Return the values of codes as float64, in which the product of code and step is exact."""
    return grid.center(codes).double() * grid.spread(grid.scale, codes.ndim).double()


def sum_of_steps(coded: CodedTensor, *, power: int = 1) -> float:
    """Return the sum over all words of the step of their grid, to a power."""
    scale = coded.grid.scale.double()
    return (scale**power).sum().item() * coded.codes.numel() / scale.numel()


def _squared_change(coded: CodedTensor, mask: Int32[Tensor, "..."] | int) -> float:
    """Return the sum of squared changes of all words when the bits in `mask` flip."""
    grid, codes = coded.grid, coded.codes.to(torch.int32)
    if grid.signed:  # a changed sign bit changes all the bits above it
        mask = mask - ((mask >> (grid.bits - 1)) << grid.bits)
    change = exact_values(codes ^ mask, grid) - exact_values(codes, grid)
    return change.square().sum().item()


def _random_mask(
    coded: CodedTensor, ber: float, generator: torch.Generator
) -> Int32[Tensor, "..."]:
    """Return the bits that flip, each by itself at rate `ber`."""
    mask = torch.zeros(coded.codes.shape, dtype=torch.int32)
    for bit in range(coded.grid.bits):
        # float64: float32 draws are multiples of 2**-24, too coarse for a small rate.
        draw = torch.rand(mask.shape, generator=generator, dtype=torch.float64)
        mask |= (draw < ber).to(torch.int32) << bit
    return mask
