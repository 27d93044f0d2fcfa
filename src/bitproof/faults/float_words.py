"""Faults in float32 words, to compare with faults in integer codes.

Model:  the 32 bits of an IEEE 754 single are stored as they are: bit 31 is the sign, bits 30 to
        23 the exponent, bits 22 to 0 the fraction. Any of them may break.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float32
from torch import Tensor

from bitproof.faults.base import FaultModel


def corrupt_float32(
    tensors: Mapping[str, Float32[Tensor, "..."]], fault: FaultModel, *, generator: torch.Generator
) -> dict[str, Float32[Tensor, "..."]]:
    """Return named float tensors with the faults of one memory that holds them.

    A flipped exponent may give an infinity or NaN; it is kept, as hardware would keep it.

    Args:
        tensors: the stored floats, laid out in the order given.
        fault: what breaks.
        generator: CPU generator, whatever the device of the tensors.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> from bitproof.faults.random_flips import RandomFlips
        >>> clean = {"weight": torch.ones(2)}
        >>> corrupt_float32(clean, RandomFlips(ber=0.0), generator=make_generator(0))
        {'weight': tensor([1., 1.])}
    """
    stored = {name: (tensor.detach().view(torch.int32), 32) for name, tensor in tensors.items()}
    faulty = fault.corrupt_all(stored, generator=generator)
    return {name: codes.view(torch.float32) for name, codes in faulty.items()}
