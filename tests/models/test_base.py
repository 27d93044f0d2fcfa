import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitproof.core.errors import ModelError, SpecError
from bitproof.core.rng import make_generator
from bitproof.models import MODELS, DigitsCNN, Normalize, ResNet18, ResNet20
from bitproof.models.base import IMAGENET_MEAN, IMAGENET_STD


def build(spec: DigitsCNN, **sizes: int) -> nn.Module:
    shape = {"in_channels": 1, "image_size": 8, "n_classes": 10} | sizes
    return spec.build(**shape, generator=make_generator(0))


def test_one_generator_gives_different_networks_one_after_the_other() -> None:
    generator = make_generator(0)
    first, second = (
        DigitsCNN(width=2).build(in_channels=1, image_size=8, n_classes=2, generator=generator)
        for _ in range(2)
    )
    assert not torch.equal(
        first.get_parameter("conv1.weight"), second.get_parameter("conv1.weight")
    )


def test_the_global_state_is_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ModelError):
        build(DigitsCNN(mean=(0.1, 0.2), std=(1.0, 1.0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["in_channels", "image_size", "n_classes"])
def test_sizes_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match=f"digits_cnn: wanted {name} of at least 1, got 0"):
        build(DigitsCNN(), **{name: 0})


def test_no_mean_takes_one_half_for_any_number_of_channels() -> None:
    layer = build(DigitsCNN(), in_channels=2).get_submodule("normalize")
    assert isinstance(layer, Normalize)
    assert layer.mean.flatten().tolist() == layer.std.flatten().tolist() == [0.5, 0.5]


def test_a_mean_for_other_channels_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"resnet20: wanted one .* per channel \(1\), got 3; mean"):
        ResNet20().build(in_channels=1, image_size=8, n_classes=2, generator=make_generator(0))
    grey = ResNet20(mean=(), std=())
    assert grey.normalize(1).mean.shape == (1, 1, 1)


def test_cifar_resnets_normalise_as_their_pretrained_weights_expect() -> None:
    layer = ResNet20().normalize(3)
    assert torch.equal(layer.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    assert torch.equal(layer.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"mean": [0.5]}, "wanted as many values in mean as in std, got 1 and 0"),
        ({"mean": [0.5], "std": [0.0]}, "std.0"),
        ({"mean": [float("nan")], "std": [1.0]}, "mean.0"),
        ({"means": [0.5]}, "Did you mean 'mean'?"),
        ({"width": 0}, "width"),
    ],
)
def test_bad_fields_are_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        MODELS.build({"kind": "digits_cnn", **table})
    assert message in str(error.value)


def test_resnet18_takes_its_own_mean() -> None:
    layer = ResNet18(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)).normalize(3)
    assert torch.equal(layer.std.flatten(), torch.tensor([1.0, 2.0, 3.0]))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 3), c=st.integers(1, 4), seed=st.integers(0, 9))
def test_every_channel_is_shifted_and_scaled_by_its_own_numbers(n: int, c: int, seed: int) -> None:
    images = torch.rand(n, c, 3, 2, generator=make_generator(seed))
    mean, std = [0.1 * i for i in range(c)], [0.5 + i for i in range(c)]
    out = Normalize(mean, std)(images)
    for i in range(c):
        assert torch.equal(out[:, i], (images[:, i] - mean[i]) / std[i])


def test_buffers_are_no_parameters_and_travel_with_the_state() -> None:
    layer = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    assert list(layer.parameters()) == []
    assert list(layer.state_dict()) == ["mean", "std"]
    assert layer.to(torch.float64).mean.dtype == torch.float64
