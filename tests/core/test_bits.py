import pytest
import torch

from bitproof.core.bits import check_bit_width
from bitproof.core.errors import BitWidthError


@pytest.mark.parametrize(
    ("dtype", "bits"), [(torch.uint8, 9), (torch.int16, 17), (torch.int8, 0), (torch.float32, 8)]
)
def test_a_width_that_does_not_fit_is_refused(dtype: torch.dtype, bits: int) -> None:
    with pytest.raises(BitWidthError, match="wanted"):
        check_bit_width(torch.zeros(1, dtype=dtype), bits)
