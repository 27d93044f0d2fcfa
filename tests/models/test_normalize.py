import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.rng import make_generator
from bitproof.models.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize


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
