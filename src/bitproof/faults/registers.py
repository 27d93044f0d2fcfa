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
    grid = network.tensors[node.key("weight")].grid
    peak = max(int((grid.zero_point - end).abs().max()) for end in (grid.low, grid.high))
    return (network.grids[node.inputs[0]].peak * peak).bit_length() + 1


def register_bits(network: IntegerNetwork, node: Node, site: str) -> tuple[int, bool]:
    """Return the width of a register when a node runs, and whether its words are signed."""
    if site == "pe_input":
        grid = network.grids[node.inputs[0]]
        return grid.bits, grid.signed
    if site == "pe_weight":
        grid = network.tensors[node.key("weight")].grid
        return grid.bits, grid.signed
    return (product_bits(network, node) if site == "pe_product" else ACCUMULATOR_BITS), True
