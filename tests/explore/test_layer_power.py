from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.approx import CircuitMultiplier
from bitproof.approx.circuit_measurement import measure_design
from bitproof.approx.operands import operand_pairs_of
from bitproof.circuits import ExactCircuit, MitchellCircuit, sta_available
from bitproof.core.errors import SpecError
from bitproof.data import Dataset
from bitproof.explore import MultiplierSet, Spatial, Temporal, read_multipliers, units_of
from bitproof.explore.layer_power import CYCLES, with_layer_power
from bitproof.quant import IntegerNetwork, Scheme, quantize

DESIGNS = {"exact": ExactCircuit(signed=True), "rough": MitchellCircuit(signed=True, mantissa=5)}


def test_published_costs_have_no_gates_to_simulate(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset
) -> None:
    units = units_of(network, images.inputs(slice(0, 1)), granularity="layer")
    with pytest.raises(SpecError, match="operands: wanted costs of a library of cells"):
        with_layer_power(blocks, network, images.inputs(), units)


@pytest.mark.slow
def test_power_is_that_of_the_words_of_each_layer(data_dir: Path) -> None:
    if not sta_available():
        pytest.skip("OpenSTA is not installed")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    images = torch.rand(16, 1, 6, 6)
    images[:, :, 1:] = 0.0  # most words are zero, so that little switches
    scheme = {"weight": {"kind": "affine", "symmetric": True, "signed": True}}
    network = quantize(
        model,
        images,
        Scheme.model_validate({**scheme, "activation_signed": True, "activation_symmetric": True}),
    )
    named = {name: CircuitMultiplier(design=design) for name, design in DESIGNS.items()}
    blocks = read_multipliers(named, costs="sky130", data_dir=data_dir)
    units = units_of(network, images, granularity="filter")
    found = with_layer_power(blocks, network, images, units)
    first, last = (layer.name for layer in units.layers)
    assert (found.power(first) < 0.6 * blocks.costs("power_mw")).all()
    pairs = operand_pairs_of(network, images, signed=True, layer=last, cycles=CYCLES)
    for number, design in enumerate(DESIGNS.values()):
        measured = measure_design(design, blocks.library, operands=pairs).cost.power
        assert found.power(last)[number] == pytest.approx(measured)
    for machine in (Spatial(clock_mhz=50.0), Temporal(clock_mhz=50.0)):
        energy = machine.energy(units, found)
        rows = [np.tile(found.power(name), (n, 1)) for name, n in ((first, 4), (last, 3))]
        np.testing.assert_allclose(energy, units.macs[:, None] * np.concatenate(rows))
