"""Mean errors of multipliers taken off again: one constant for each filter, and no retraining.

Model:  with e[a, w] the error of a product and p_t(a) how often tap t of a filter sees word a, the
        sum of a filter with weights w_t is too large by sum_t sum_a p_t(a) e[a, w_t] on average;
        rounded to a whole step of the accumulator, that is taken off every sum. Words are counted
        tap by tap (`tap_words`) on calibration images, in the integer network itself and with
        earlier layers corrected already. Errors of a mean that differs between images stay.
Source: the constant part of the control variate of Zervakis et al., "Control Variate Approximation
        for DNN Accelerators", DAC 2021 (arXiv 2102.09642), for any table; the part that follows
        the sum of activations needs another adder tree in hardware and is not here.
"""

import torch
from jaxtyping import Float64, Int64, Integer, Num
from torch import Tensor

from bitproof.approx.tap_words import TapWords
from bitproof.kernels.forms import exact_products
from bitproof.quant.execution import execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork, check_inputs

IMAGES = 256
"""Calibration images used, all in one batch."""


@torch.no_grad()
def correct_means(network: IntegerNetwork, images: Num[Tensor, "n *features"]) -> IntegerNetwork:
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
    check_inputs(images, network.input_shape)
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
    products = network.products[node.name]
    words = TapWords.of(network, node, codes, signed=products.signed)
    exact = exact_products(signed=products.signed).to(words.kernel.device)
    result = torch.zeros(len(words.kernel), dtype=torch.float64, device=words.kernel.device)
    for table in sorted(set(products.choice.tolist())):
        filters: Int64[Tensor, " f"] = (products.choice == table).nonzero()[:, 0]
        result[filters] = words.expected(products.tables[table] - exact)[filters]
    return result
