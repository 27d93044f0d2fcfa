from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bitproof.approx import Drum, Exact, Multiplier, Perforated, Swapped, Truncated
from bitproof.approx.control_variate import correct_means, mean_errors
from bitproof.approx.deploy import with_multipliers
from bitproof.core.errors import InputRangeError
from bitproof.core.rng import make_generator
from bitproof.data import Splits
from bitproof.data.digits import Digits
from bitproof.models.digits_cnn import DigitsCNN
from bitproof.quant import IntegerNetwork, quantize
from bitproof.quant.integers import integer_op
from bitproof.train import Optimization, train_

BIASED = [
    Truncated(columns=6, signed=True),
    Truncated(columns=7),
    Swapped(of=Perforated(rows=3)),
    Drum(width=3, signed=True),
]


def network_of(*layers: nn.Module, shape: tuple[int, ...]) -> tuple[IntegerNetwork, Tensor]:
    """Return a network with these layers, and images for it."""
    images = torch.rand(16, *shape, generator=make_generator(0, "images"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in layers:
            for parameter in layer.parameters():
                nn.init.normal_(parameter)
        return quantize(nn.Sequential(*layers).eval(), images), images


def inputs_of(network: IntegerNetwork, images: Tensor) -> dict[str, Tensor]:
    """Return the words that go into every node with products."""
    codes: dict[str, Tensor] = {}
    for node in network.nodes:
        operands = [codes[name] for name in node.inputs]
        codes[node.name] = integer_op(network, node, operands, images)
    nodes = [node for node in network.nodes if node.name in network.products]
    return {node.name: codes[node.inputs[0]] for node in nodes}


def bias_of(network: IntegerNetwork, images: Tensor) -> dict[str, Tensor]:
    """Return by how much the sums of each filter are too large, on the inputs that they get."""
    exact = with_multipliers(network, Exact(signed=True))
    found = {}
    for name, codes in inputs_of(network, images).items():
        node = next(node for node in network.nodes if node.name == name)
        off = network.accumulator(node).sums([codes]) - exact.accumulator(node).sums([codes])
        channel = off.ndim - 1 if node.op == "linear" else 1
        found[name] = off.double().movedim(channel, 0).flatten(1).mean(1)
    return found


LAYERS: dict[str, tuple[list[nn.Module], tuple[int, ...]]] = {
    "plain": ([nn.Conv2d(2, 5, 3)], (2, 7, 6)),
    "padded": ([nn.Conv2d(2, 5, 3, padding=1)], (2, 7, 6)),
    "strided": ([nn.Conv2d(2, 5, (3, 2), stride=(2, 3), padding=(1, 0))], (2, 7, 6)),
    "dilated": ([nn.Conv2d(2, 5, 3, dilation=2, padding=2)], (2, 7, 6)),
    "grouped": ([nn.Conv2d(4, 6, 3, groups=2, padding=1)], (4, 5, 5)),
    "depthwise": ([nn.Conv2d(4, 4, 3, groups=4, padding=1)], (4, 5, 5)),
    "one axis": ([nn.Conv1d(3, 4, 5, padding=2)], (3, 9)),
    "linear": ([nn.Flatten(), nn.Linear(12, 5)], (3, 4)),
    "rows": ([nn.Linear(6, 5)], (4, 6)),
    "deep": ([nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3)], (1, 6, 6)),
    "scaled": ([nn.Conv2d(2, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)], (2, 6, 6)),
}


@pytest.mark.parametrize("multiplier", BIASED)
@pytest.mark.parametrize("shape", LAYERS)
def test_mean_errors_are_rounded_away(shape: str, multiplier: Multiplier) -> None:
    layers, size = LAYERS[shape]
    network, images = network_of(*layers, shape=size)
    rough = with_multipliers(network, multiplier)
    before, after = bias_of(rough, images), bias_of(correct_means(rough, images), images)
    for name, bias in after.items():
        # Half a step of rounding, and what float32 leaves of the sums that are compared here.
        assert bias.abs().max() < 0.51
        assert before[name].abs().max() > 10


def test_the_scaling_of_channels_is_corrected_too() -> None:
    layers, size = LAYERS["scaled"]
    network, images = network_of(*layers, shape=size)
    assert "affine" in {node.op for node in network.nodes}
    products = correct_means(with_multipliers(network, BIASED[1]), images).products
    assert all(bool(own.offset.any()) for own in products.values())


def test_filters_with_other_tables_get_their_own_constants() -> None:
    network, images = network_of(nn.Conv2d(4, 4, 3, groups=2), shape=(4, 5, 5))
    kinds = [Truncated(columns=7), Drum(width=3), Exact(), Truncated(columns=5)]
    mixed = correct_means(with_multipliers(network, {"0": kinds}), images).products["0"]
    for channel, kind in enumerate(kinds):
        alone = correct_means(with_multipliers(network, kind), images).products["0"]
        assert mixed.offset[channel] == alone.offset[channel]


def test_mean_errors_are_those_of_a_loop() -> None:
    network, images = network_of(nn.Linear(6, 3), shape=(2, 6))
    rough = with_multipliers(network, Truncated(columns=6))
    node, products = rough.nodes[-1], rough.products["0"]
    codes, weight = inputs_of(rough, images)["0"], rough.tensors["0.weight"]
    grids = (rough.grids[node.inputs[0]], weight.grid)
    means = mean_errors(rough, node, codes)
    for channel in range(3):
        left, right = codes.reshape(-1, 6).long(), weight.codes[channel].long().expand(32, 6)
        found = products.look_up(left, right, channel, grids=grids)
        off = (found - products.exact(left, right, grids=grids)).sum(1).double().mean()
        assert torch.isclose(means[channel], off, rtol=1e-12)


def test_exact_products_need_no_correction() -> None:
    network, images = network_of(nn.Conv2d(2, 5, 3, padding=1), shape=(2, 7, 6))
    same = with_multipliers(network, Exact())
    assert correct_means(same, images).digest() == same.digest()


def test_the_network_that_was_given_stays_as_it_was() -> None:
    network, images = network_of(nn.Conv2d(2, 5, 3, padding=1), shape=(2, 7, 6))
    rough = with_multipliers(network, BIASED[0])
    digest, logits = rough.digest(), rough(images)
    once = correct_means(rough, images)
    assert (rough.digest(), once.digest() == digest) == (digest, False)
    assert torch.equal(rough(images), logits)
    assert correct_means(once, images).digest() == once.digest()


def test_products_of_activations_stay() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(1, 2)

    images = torch.rand(4, 3, 5, generator=make_generator(0))
    rough = with_multipliers(quantize(Square(), images), BIASED[1])
    assert correct_means(rough, images).digest() == rough.digest()


def test_images_are_checked() -> None:
    network, images = network_of(nn.Conv2d(2, 5, 3), shape=(2, 7, 6))
    with pytest.raises(InputRangeError):
        correct_means(network, 2 + images)


@pytest.fixture(scope="module")
def digits() -> Splits:
    return Digits().load()


@pytest.fixture(scope="module")
def trained(digits: Splits) -> IntegerNetwork:
    """Knows 95 % of the digits."""
    net = DigitsCNN(width=8).build(
        in_channels=1, image_size=8, n_classes=10, generator=make_generator(0)
    )
    setting = Optimization(epochs=6, learning_rate=0.1, schedule="one_cycle", batch_size=64)
    train_(net, digits.train, setting, generator=make_generator(1))
    return quantize(net.eval(), digits.train.inputs(slice(0, 256)))


@pytest.fixture(scope="module")
def measure(
    digits: Splits, trained: IntegerNetwork
) -> Callable[[IntegerNetwork], tuple[float, float]]:
    """Return a function: accuracy on the test digits, and mean square of what logits are off."""
    images = digits.test.inputs()
    exact = trained(images)

    def measured(network: IntegerNetwork) -> tuple[float, float]:
        logits = network(images)
        right = logits.argmax(1) == digits.test.labels
        return float(right.double().mean()), float((logits - exact).square().mean())

    return measured


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", BIASED)
def test_a_trained_network_comes_nearer_to_the_exact_one(
    multiplier: Multiplier,
    trained: IntegerNetwork,
    digits: Splits,
    measure: Callable[[IntegerNetwork], tuple[float, float]],
) -> None:
    rough = with_multipliers(trained, multiplier)
    (acc, error), (better, rest) = (
        measure(network)
        for network in (rough, correct_means(rough, digits.train.inputs(slice(0, 256))))
    )
    assert rest < error / 3
    assert better > acc + 0.04
