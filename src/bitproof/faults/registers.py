"""The registers that multiply and add: which layers have them, and how wide they are."""

from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork

PRODUCT_OPS = frozenset({"conv", "linear"})
"""Operations whose sums are made of products of an input word and a stored weight."""
ACCUMULATOR_BITS = 32
"""Width of the register that sums products up."""


def product_bits(network: IntegerNetwork, node: Node) -> int:
    """Return the width of the two's complement register that any product of the node fits into.

    Exact products are those of centered words, `code - zero_point`; products from tables are those
    of the words that the multiplier sees.
    """
    own = network.products.get(node.name)
    if own is not None:
        return int(own.tables.long().abs().max()).bit_length() + 1
    grid = network.tensors[f"{node.name}.weight"].grid
    peak = max(int((grid.zero_point - end).abs().max()) for end in (grid.low, grid.high))
    return (network.grids[node.inputs[0]].peak * peak).bit_length() + 1
