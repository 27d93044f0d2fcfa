import numpy as np
import pytest
import torch

from bitproof.approx import with_multipliers
from bitproof.data import Dataset
from bitproof.explore import SCORES, HawxScore, HessianScore, MultiplierSet, ObservedScore, Score
from bitproof.explore.profile import Profile, take_profile
from bitproof.explore.units import by_filter, units_of
from bitproof.quant import IntegerNetwork
from bitproof.quant.execution import execute
from bitproof.quant.integers import integer_op


@pytest.fixture(scope="module")
def profile(network: IntegerNetwork, images: Dataset) -> Profile:
    units = units_of(network, images.inputs(slice(0, 1)), granularity="filter")
    return take_profile(network, images, units, signed=True, judges=("loss", "curvature", "margin"))


@pytest.mark.parametrize("score", [SCORES.build({"kind": kind}) for kind in SCORES.kinds()])
def test_exact_products_do_no_harm_and_coarse_ones_more_than_mild_ones(
    score: Score, profile: Profile, blocks: MultiplierSet
) -> None:
    found = score.score(profile, blocks)
    assert found.shape == (profile.units.starts[-1], 3)
    assert (found[:, 0] == 0).all()
    assert (found >= 0).all()
    assert found[:, 2].sum() > 10 * found[:, 1].sum() > 0


def test_the_score_is_gradients_times_errors_by_a_loop(
    profile: Profile, blocks: MultiplierSet
) -> None:
    found = HawxScore(kappa=0.25).score(profile, blocks)
    errors = blocks.all[2].table.errors
    for own, first in zip(profile.layers, profile.units.starts, strict=False):
        mean, variance = own.words.moments(errors)
        for f in range(own.layer.filters):
            step = float(own.step[f])
            energy = own.energies["loss"]
            harm = 0.75 * float(energy.shift[f]) * (step * float(mean[f])) ** 2
            harm += float(energy.spread[f]) * step**2 * float(variance[f])
            assert found[first + f, 2] == pytest.approx(harm, rel=1e-9)


def test_observed_harm_is_that_of_layers_that_run_with_the_multiplier(
    network: IntegerNetwork, images: Dataset, profile: Profile, blocks: MultiplierSet
) -> None:
    """Of the last layer, whose gradient is softmax minus target: nothing is shared with ours."""
    found = ObservedScore().score(profile, blocks)
    layer = profile.units.layers[-1]
    rough = with_multipliers(network, {layer.name: blocks.all[2].multiplier})

    def logits(own: IntegerNetwork) -> torch.Tensor:
        return own(images.inputs())

    exact = logits(network)
    target = torch.nn.functional.one_hot(images.labels, 10)
    effect = ((exact.softmax(1) - target) * (logits(rough) - exact)).double()
    expected = (effect**2).mean(0)
    np.testing.assert_allclose(found[profile.units.starts[-2] :, 2], expected, rtol=1e-3)


def test_means_are_a_part_of_the_harm(profile: Profile, blocks: MultiplierSet) -> None:
    whole, corrected = (HessianScore(kappa=kappa).score(profile, blocks) for kappa in (0.0, 1.0))
    assert (corrected <= whole).all()
    assert corrected[:, 2].sum() < 0.9 * whole[:, 2].sum()


def test_predicted_outputs_are_those_of_the_network(
    network: IntegerNetwork, images: Dataset, profile: Profile, blocks: MultiplierSet
) -> None:
    """Means of errors by histogram equal means of errors that a layer makes."""
    means, _ = profile.moments([blocks.all[2].table.errors])
    nodes = {node.name: node for node in network.nodes}
    values = execute(
        network.nodes,
        lambda node, operands: integer_op(network, node, operands, images.inputs(), native=None),
        keep=True,
    )
    layer = profile.units.layers[1]
    node = nodes[layer.name]
    rough = with_multipliers(network, {layer.name: blocks.all[2].multiplier})
    codes = [values[node.inputs[0]]]
    sums = rough.accumulator(node).sums(codes) - network.accumulator(node).sums(codes)
    made = by_filter(sums * network.constants[layer.name].multipliers[0], node, layer, images=200)
    first = profile.units.starts[1]
    torch.testing.assert_close(
        means[first : first + layer.filters, 0], made.double().mean((0, 2)), rtol=1e-4, atol=1e-6
    )
