"""Mean errors of multipliers taken off again: one constant for each filter, and no retraining.

Model:  with e[a, w] the error of a product and p_t(a) how often tap t of a filter sees word a, the
        sum of a filter with weights w_t is too large by sum_t sum_a p_t(a) e[a, w_t] on average;
        rounded to a whole step of the accumulator, that is taken off every sum. Words are counted
        on calibration images, in the integer network itself and with earlier layers corrected
        already, tap by tap: padding counts as often as a tap sees it, and so do pixels that a
        stride leaves out. Errors of a mean that differs between images stay.
Source: the constant part of the control variate of Zervakis et al., "Control Variate Approximation
        for DNN Accelerators", DAC 2021 (arXiv 2102.09642), for any table; the part that follows
        the sum of activations needs another adder tree in hardware and is not here.
"""

import torch
from jaxtyping import Float, Float64, Int64, Integer, UInt8
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.forms import WORDS, exact_products
from bitproof.kernels.geometry import Geometry
from bitproof.quant.execution import execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork, check_inputs
from bitproof.quant.onednn import as_kernel, as_maps
from bitproof.quant.products import OperandEncoding, Products

IMAGES = 256
"""Calibration images used, all in one batch."""
FEW = 16
"""Images whose words are counted at once."""


@torch.no_grad()
def correct_means(network: IntegerNetwork, images: Float[Tensor, "n *features"]) -> IntegerNetwork:
    """Return `network` with offsets that cancel the mean error of each filter.

    Products of two activations stay as they are, and so do nodes that multiply exactly.

    Of the images, which lie in [0, 1], the first 256 are used.

    Raises:
        InputRangeError: images lie outside [0, 1].

    Example:
        >>> from bitproof.approx import Truncated
        >>> from bitproof.approx.deploy import with_multipliers
        >>> from bitproof.quant import quantize
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> images = torch.rand(8, 1, 2, 2)
        >>> rough = with_multipliers(quantize(model, images), Truncated(columns=6, signed=True))
        >>> bool((correct_means(rough, images).products["1"].offset > 0).all())
        True
    """
    check_inputs(images)
    images = images[:IMAGES]
    fixed = network

    def compute(node: Node, operands: list[Tensor]) -> Tensor:
        nonlocal fixed
        if node.name in network.products and node.op != "matmul":
            means = mean_errors(network, node, operands[0])
            own = network.products[node.name].with_offset(-means.round().int())
            fixed = fixed.with_products({node.name: own})
        return integer_op(fixed, node, operands, images)

    execute(network.nodes, compute)
    return fixed


def mean_errors(
    network: IntegerNetwork, node: Node, codes: Integer[Tensor, "n *shape"]
) -> Float64[Tensor, " m"]:
    """Return how much too large the sums of each filter are on average, offsets aside.

    The node has products and a weight: a convolution, a linear layer or a scaling of channels.
    """
    products, weight = network.products[node.name], network.tensors[f"{node.name}.weight"]
    signed = products.signed
    encoding = OperandEncoding.of(network.grids[node.inputs[0]], signed=signed)
    patterns = OperandEncoding.of(weight.grid, signed=signed).patterns(weight.codes)
    (kernel, geometry), maps = as_kernel(patterns, node), as_maps(codes, node)
    point = (network.constants[node.name].zero_points[0] + encoding.shift) % WORDS
    shares = _shares(encoding.patterns(maps), tuple(kernel.shape[2:]), geometry, point=point)
    return _expected(shares.reshape(geometry.groups, -1, *shares.shape[1:]), kernel, products)


def _shares(
    maps: UInt8[Tensor, "n c h w"], size: tuple[int, ...], geometry: Geometry, *, point: int
) -> Float64[Tensor, "c kh kw 256"]:
    """Return how often each tap sees each pattern (`point` is that of padding), as a fraction."""
    (up, left), channels = geometry.padding, maps.shape[1]
    padded = functional.pad(maps, (left, left, up, up), value=point)
    first = torch.arange(channels, device=maps.device)[:, None, None] * WORDS
    counts = [_count(view, first) for view in geometry.taps(padded, size)]
    windows = counts[0].sum().double() / channels
    return torch.stack(counts, 1).reshape(channels, WORDS, *size).movedim(1, -1) / windows


def _count(
    codes: UInt8[Tensor, "n c h w"], first: Int64[Tensor, "c 1 1"]
) -> Int64[Tensor, " places"]:
    """Return how often each word comes in each channel, whose counts begin at `first`."""
    places = WORDS * len(first)
    parts = (part + first for part in torch.split(codes, FEW))  # eight bytes a word
    return torch.stack([part.flatten().bincount(minlength=places) for part in parts]).sum(0)


def _expected(
    shares: Float64[Tensor, "g d kh kw 256"], kernel: UInt8[Tensor, "m d kh kw"], products: Products
) -> Float64[Tensor, " m"]:
    """Return the mean error of each filter's sums, given what its taps see."""
    exact = exact_products(signed=products.signed).to(kernel.device)
    groups = len(shares)
    taps = shares.flatten(1, 3)
    result = torch.zeros(len(kernel), dtype=torch.float64, device=kernel.device)
    group_of = torch.arange(len(kernel), device=kernel.device) // (len(kernel) // groups)
    for table in sorted(set(products.choice.tolist())):
        errors = (products.tables[table] - exact).double()
        by_weight = taps @ errors  # [g, taps, 256]: the mean error that a weight would make there
        filters: Int64[Tensor, " f"] = (products.choice == table).nonzero()[:, 0]
        for group in sorted(set(group_of[filters].tolist())):
            own = filters[group_of[filters] == group]
            patterns = kernel[own].flatten(1).long()
            result[own] = by_weight[group].gather(1, patterns.T).sum(0)
    return result
