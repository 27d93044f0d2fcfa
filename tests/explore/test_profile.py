import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bitproof.core.rng import make_generator
from bitproof.data import Dataset, Splits
from bitproof.explore.profile import ActivationWords, run_back, take_profile
from bitproof.explore.units import units_of
from bitproof.quant import IntegerNetwork, quantize


def last_layer(network: IntegerNetwork, data: Dataset) -> tuple[str, dict[str, torch.Tensor]]:
    """Return the last layer, and what `run_back` says of it."""
    units = units_of(network, data.inputs(slice(0, 1)), granularity="filter")
    draw = make_generator(0, "test")
    one = run_back(network, data, units, judges=("loss", "margin"), draw=draw)
    name = units.layers[-1].name
    found = {str(judged): own[name][:, :, 0] for judged, own in one.gradients.items()}
    return name, {**found, "margins": one.margins}


def test_gradients_at_the_logits_are_those_of_the_loss_in_closed_form(
    network: IntegerNetwork, images: Dataset
) -> None:
    name, found = last_layer(network, images)
    assert name == network.nodes[-1].name  # so that outputs are logits
    logits = network(images.inputs())
    target = torch.nn.functional.one_hot(images.labels, 10)
    torch.testing.assert_close(found["loss"], logits.softmax(1) - target, rtol=1e-4, atol=1e-5)
    others = logits.masked_fill(target.bool(), -torch.inf)
    expected = target - torch.nn.functional.one_hot(others.argmax(1), 10)
    assert torch.equal(found["margin"], expected.float())
    own = logits.gather(1, images.labels[:, None])[:, 0]
    torch.testing.assert_close(found["margins"], own - others.amax(1))


def test_gradients_inside_are_those_of_the_float_network() -> None:
    """A linear layer behind a linear layer: the gradient goes through its weights alone."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Linear(5, 3))
    images = torch.rand(32, 1, 2, 3)
    data = Dataset.from_arrays(images, torch.arange(32) % 3)
    network = quantize(model, images)
    units = units_of(network, images, granularity="filter")
    one = run_back(network, data, units, judges=("loss",), draw=make_generator(0, "test"))
    first, second = (layer.name for layer in units.layers)
    logits = network(images).requires_grad_()
    (to_logits,) = torch.autograd.grad(cross_entropy(logits, data.labels, reduction="sum"), logits)
    weight = network.tensors[f"{second}.weight"].values()
    scale = network.grids[first].scale
    expected = to_logits @ weight * scale
    codes = one.outputs[first][:, :, 0].round()
    grid = network.grids[first]
    inside = (codes + grid.zero_point > grid.low) & (codes + grid.zero_point < grid.high)
    found = one.gradients["loss"][first][:, :, 0]
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-3, atol=1e-6)


def test_batches_do_not_change_the_profile(
    network: IntegerNetwork, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = units_of(network, images.inputs(slice(0, 1)), granularity="filter")
    whole = take_profile(network, images, units, signed=True)
    monkeypatch.setattr("bitproof.explore.profile.BATCH", 48)
    parts = take_profile(network, images, units, signed=True)
    torch.testing.assert_close(parts.energy("loss").spread, whole.energy("loss").spread)
    torch.testing.assert_close(parts.energy("margin").shift, whole.energy("margin").shift)
    torch.testing.assert_close(parts.margins, whole.margins)
    for part, own in zip(parts.layers, whole.layers, strict=True):
        torch.testing.assert_close(part.outputs.variance, own.outputs.variance)
        assert part.zeros == pytest.approx(own.zeros)
    table = torch.randint(-9, 9, (256, 256), generator=torch.Generator().manual_seed(0)).int()
    for one, other in zip(parts.moments([table]), whole.moments([table]), strict=True):
        torch.testing.assert_close(one, other)


def test_margins_tell_who_is_right(network: IntegerNetwork, splits: Splits) -> None:
    data = splits.test.first(300)
    units = units_of(network, data.inputs(slice(0, 1)), granularity="layer")
    profile = take_profile(network, data, units, signed=True, judges=("margin",))
    right = network(data.inputs()).argmax(1) == data.labels
    assert torch.equal(profile.margins > 0, right)


def test_curvature_is_drawn_from_answers_and_seed(network: IntegerNetwork, images: Dataset) -> None:
    units = units_of(network, images.inputs(slice(0, 1)), granularity="layer")

    def taken(seed: int) -> torch.Tensor:
        one = take_profile(network, images, units, signed=True, judges=("curvature",), seed=seed)
        return one.energy("curvature").spread

    assert torch.equal(taken(1), taken(1))
    assert not torch.equal(taken(1), taken(2))


def test_products_of_activations_have_moments_of_independent_words() -> None:
    left = torch.zeros(256, dtype=torch.int64)
    left[3], left[5] = 1, 3
    right = torch.zeros(256, dtype=torch.int64)
    right[7] = 4
    errors = torch.zeros(256, 256, dtype=torch.int32)
    errors[3, 7], errors[5, 7] = 8, 4
    mean, variance = ActivationWords(left, right, taps=10).moments(errors)
    values = np.array([8, 4, 4, 4])
    assert float(mean) == pytest.approx(10 * values.mean())
    assert float(variance) == pytest.approx(10 * values.var())
