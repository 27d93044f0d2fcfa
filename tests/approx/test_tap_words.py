import itertools

import pytest
import torch
from torch import nn

from bitproof.approx import Drum, Truncated, with_multipliers
from bitproof.approx.base import Multiplier
from bitproof.approx.tap_words import TapWords
from bitproof.quant import quantize
from bitproof.quant.execution import execute
from bitproof.quant.graph import Node
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork

LAYERS = [
    nn.Conv2d(4, 6, 3, padding=1, stride=2),
    nn.Conv2d(4, 8, 3, groups=2, dilation=2),
    nn.Conv2d(4, 4, 3, groups=4, padding=1),
]


def read_by_first(network: IntegerNetwork, images: torch.Tensor) -> tuple[Node, torch.Tensor]:
    """Return the first convolution and the words that it reads."""
    node = next(node for node in network.nodes if node.op == "conv")
    before = network.nodes[: network.nodes.index(node)]
    found = execute(
        before,
        lambda one, operands: integer_op(network, one, operands, images, native=None),
        keep=True,
    )
    return node, found[node.inputs[0]]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("multiplier", [Drum(width=3, signed=True), Truncated(columns=6)])
def test_the_expected_error_is_the_mean_of_what_the_layer_makes(
    layer: nn.Module, multiplier: Multiplier
) -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 4, 9, 9)
    network = quantize(nn.Sequential(layer), images)
    node, codes = read_by_first(network, images)
    table = multiplier.table()
    words = TapWords.of(network, node, codes, signed=table.signed)
    mean, variance = words.moments(table.errors)
    rough = with_multipliers(network, {node.name: multiplier})
    errors = rough.accumulator(node).sums([codes]) - network.accumulator(node).sums([codes])
    torch.testing.assert_close(mean, errors.double().mean((0, 2, 3)), rtol=1e-9, atol=1e-6)
    assert bool((variance >= 0).all())


def test_variances_add_up_over_taps_one_by_one() -> None:
    torch.manual_seed(1)
    images = torch.rand(2, 2, 4, 4)
    network = quantize(nn.Sequential(nn.Conv2d(2, 3, 2)), images)
    node, codes = read_by_first(network, images)
    errors = Drum(width=3).table().errors
    words = TapWords.of(network, node, codes, signed=False)
    _, variance = words.moments(errors)
    weight = network.tensors[f"{node.name}.weight"].codes
    patterns = weight.view(torch.uint8).long()
    for filter_ in range(3):
        total = 0.0
        for channel, row, column in itertools.product(range(2), range(2), range(2)):
            read = codes[:, channel, row : row + 3, column : column + 3].flatten().long()
            own = errors[read, patterns[filter_, channel, row, column]].double()
            total += float(own.var(correction=0))
        assert float(variance[filter_]) == pytest.approx(total, rel=1e-9)


def test_counts_of_batches_add_up() -> None:
    torch.manual_seed(2)
    images = torch.rand(5, 4, 9, 9)
    network = quantize(nn.Sequential(LAYERS[0]), images)
    node, codes = read_by_first(network, images)
    whole = TapWords.of(network, node, codes, signed=True)
    parts = [
        TapWords.of(network, node, own, signed=True) for own in (codes[:2], codes[2:4], codes[4:])
    ]
    together = parts[0] + parts[1] + parts[2]
    assert torch.equal(whole.counts, together.counts)
