"""Power of our circuits in each layer, switched by the operands that they meet there.

Model:  words of some images pass by one weight after the other (`approx.operands`); gates are
        simulated, and each switch costs what OpenSTA says. Products of two activations keep the
        power of operands that are all as likely.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from bitproof.approx.circuit import CircuitMultiplier, operand_ports
from bitproof.approx.operands import operand_pairs_of
from bitproof.circuits import activity, cost_of, synthesize
from bitproof.core.errors import SpecError
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.units import Units
from bitproof.quant.network import IntegerNetwork

CYCLES = 2048
"""Products that switch a circuit, in each layer."""


def with_layer_power(
    blocks: MultiplierSet,
    network: IntegerNetwork,
    images: Float[torch.Tensor, "n *features"],
    units: Units,
) -> MultiplierSet:
    """Return multipliers with their power in each layer.

    Raises:
        SpecError: costs are not those of a library of cells.
    """
    if blocks.library is None:
        raise SpecError(
            "operands: wanted costs of a library of cells, whose gates can be simulated with the "
            "operands of layers; got published ones or those of a file"
        )
    circuits = []
    for block in blocks.all:
        assert isinstance(block.multiplier, CircuitMultiplier)  # as `read_multipliers` made sure
        circuits.append(synthesize(block.multiplier.design.source(), blocks.library))
    by_layer = {}
    for layer in units.layers:
        if not layer.weights:
            continue
        pairs = operand_pairs_of(
            network, images, signed=blocks.signed, layer=layer.name, cycles=CYCLES
        )
        powers = []
        for circuit in circuits:
            one, other = operand_ports(circuit.netlist)
            words = {one.name: pairs.first.numpy(), other.name: pairs.second.numpy()}
            powers.append(cost_of(circuit, activity(circuit.netlist, words, layer.name)).power)
        by_layer[layer.name] = np.array(powers)
    return replace(blocks, by_layer=by_layer)
