import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.bits import check_bit_width, count_flips
from bitproof.core.errors import BitWidthError

WORDS = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=20)


@settings(max_examples=50, deadline=None)
@given(pairs=WORDS, bits=st.integers(1, 8))
def test_flips_are_the_ones_of_the_difference(pairs: list[tuple[int, int]], bits: int) -> None:
    before, after = (torch.tensor(side, dtype=torch.uint8) for side in zip(*pairs, strict=True))
    wanted = sum(((a ^ b) & (2**bits - 1)).bit_count() for a, b in pairs)
    assert count_flips(before, after, bits=bits) == wanted == count_flips(after, before, bits=bits)


@pytest.mark.parametrize(
    ("dtype", "bits"), [(torch.uint8, 9), (torch.int16, 17), (torch.int8, 0), (torch.float32, 8)]
)
def test_a_width_that_does_not_fit_is_refused(dtype: torch.dtype, bits: int) -> None:
    with pytest.raises(BitWidthError, match="wanted"):
        check_bit_width(torch.zeros(1, dtype=dtype), bits)
