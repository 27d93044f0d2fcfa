"""Where stored integers lie on the real line: `value = scale * (code - zero_point)`."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from bitproof.core.errors import BitWidthError

LONG_WORDS = {16: torch.int16, 32: torch.int32}
"""Dtypes of words of more than 8 bits, which are signed."""


@dataclass(frozen=True)
class Grid:
    """The step, the offset and the word of a quantized tensor.

    `scale` and `zero_point` are scalars (one grid for the tensor) or vectors along `axis` (one
    per channel). `scale` is float32, `zero_point` an int32 that may lie outside the word's range.
    """

    scale: Float[Tensor, "*channels"]
    zero_point: Integer[Tensor, "*channels"]
    bits: int
    signed: bool
    axis: int | None = None

    @property
    def low(self) -> int:
        """Smallest code of the word."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Largest code of the word."""
        return self.low + (1 << self.bits) - 1

    @property
    def peak(self) -> int:
        """Largest size of `code - zero_point`, for a grid of a whole tensor."""
        point = int(self.zero_point)
        return max(abs(self.low - point), abs(self.high - point))

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that stores the codes.

        It has 8 bits, 16 for words that no multiplier reads, 32 for biases in accumulator steps.
        """
        if self.bits <= 8:
            return torch.int8 if self.signed else torch.uint8
        if self.bits in LONG_WORDS and self.signed:
            return LONG_WORDS[self.bits]
        raise BitWidthError(f"bits: wanted 2 to 8, or 16 or 32 signed, got {self.bits}")

    def center(self, codes: Integer[Tensor, "*shape"]) -> Integer[Tensor, "*shape"]:
        """Return `codes - zero_point` as int32: the integers that are multiplied."""
        return codes.to(torch.int32) - self.spread(self.zero_point, codes.ndim)

    def decode(self, codes: Integer[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the real values of `codes`."""
        return self.center(codes).to(self.scale.dtype) * self.spread(self.scale, codes.ndim)

    def spread(self, per_channel: Tensor, ndim: int) -> Tensor:
        """Return a per-channel vector shaped to broadcast against a tensor of `ndim` axes."""
        if self.axis is None:
            return per_channel
        shape = [1] * ndim
        shape[self.axis] = -1
        return per_channel.reshape(shape)

    def to(self, device: torch.device | str) -> "Grid":
        """Return the same grid on `device`."""
        return replace(self, scale=self.scale.to(device), zero_point=self.zero_point.to(device))


@dataclass(frozen=True)
class CodedTensor:
    """Stored words and the grid that gives them meaning; a place where faults can sit."""

    codes: Integer[Tensor, "*shape"]
    grid: Grid

    def values(self) -> Float[Tensor, "*shape"]:
        """Return the real values."""
        return self.grid.decode(self.codes)

    def centered(self) -> Integer[Tensor, "*shape"]:
        """Return `codes - zero_point` as int32."""
        return self.grid.center(self.codes)

    def to(self, device: torch.device | str) -> "CodedTensor":
        """Return the same words on `device`."""
        return CodedTensor(self.codes.to(device), self.grid.to(device))
