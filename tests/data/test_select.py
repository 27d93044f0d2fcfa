import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.rng import make_generator
from bitproof.data.select import select


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(0, 4), channels=st.integers(1, 3))
def test_bytes_are_chosen_as_where_chooses(seed: int, n: int, channels: int) -> None:
    generator = make_generator(seed)
    that = torch.randint(0, 256, (n, channels, 3, 5), generator=generator).to(torch.uint8)
    this = torch.randint(0, 256, (channels, 1, 1), generator=generator).to(torch.uint8)
    chosen = torch.rand(n, 1, 3, 5, generator=generator) < 0.5
    assert torch.equal(select(chosen, this, that), torch.where(chosen, this, that))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_arguments_stay_as_they_are(dtype: torch.dtype) -> None:
    chosen, this, that = torch.tensor([True, False]), torch.ones(2), torch.zeros(2)
    this, that = this.to(dtype), that.to(dtype)
    assert select(chosen, this, that).tolist() == [1, 0]
    assert (this.tolist(), that.tolist()) == ([1, 1], [0, 0])
