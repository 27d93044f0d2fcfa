"""Tensors in one memory: where every word of theirs lies, and what it holds.

Model:  the words of all tensors lie one after another, in the order given, at addresses from 0.
        All are as wide as the widest; bits that a narrower word lacks hold nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from bitproof.core.bits import WORD_BITS, check_bit_width
from bitproof.core.errors import BitWidthError


@dataclass(frozen=True)
class StoredTensor:
    """The stretch of a memory that holds one tensor, its last axis running fastest."""

    name: str
    """As in the network, such as `conv1.weight`."""
    start: int
    """Address of its first word."""
    bits: int
    """Width of its words; faults in higher bits are dropped."""
    shape: tuple[int, ...]
    size: int
    """Number of words."""


@dataclass(frozen=True, eq=False)
class Memory:
    """What a fault model sees, and changes in place.

    Example:
        >>> weight = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)
        >>> memory = Memory.of({"w": (weight, 4), "b": (torch.tensor([-1], dtype=torch.int8), 8)})
        >>> memory.codes, memory.bits
        (tensor([  1,   2,   3,   4, 255], dtype=torch.uint8), 8)
        >>> tensor, element = memory.locate(torch.tensor([2, 4]))
        >>> [memory.tensors[index].name for index in tensor], element
        (['w', 'b'], tensor([2, 0]))
    """

    codes: Integer[Tensor, " w"]
    """The word at each address: contiguous, on the CPU; bit 0 is the least significant. Signed
    words are in two's complement, sign-extended. Only the content may change, as in
    `codes = memory.codes; codes ^= mask`."""
    bits: int
    """Width of the widest words."""
    tensors: tuple[StoredTensor, ...]
    """By address, without gaps."""

    @classmethod
    def of(cls, tensors: Mapping[str, tuple[Integer[Tensor, "..."], int]]) -> "Memory":
        """Return a memory that holds a copy of tensors, each given with the width of its words.

        Raises:
            BitWidthError: a width does not fit its dtype, or signed words do not fit their width.
        """
        stored, start = [], 0
        for name, (codes, bits) in tensors.items():
            _check_words(codes, bits)
            stored.append(StoredTensor(name, start, bits, tuple(codes.shape), codes.numel()))
            start += codes.numel()
        widest = max((tensor.bits for tensor in stored), default=1)
        dtype = next(dtype for dtype, held in WORD_BITS.items() if held >= widest)
        flat = [_recast(codes.detach().cpu().flatten(), dtype) for codes, _ in tensors.values()]
        return cls(torch.cat([torch.empty(0, dtype=dtype), *flat]), widest, tuple(stored))

    def locate(
        self, addresses: Int64[Tensor, " a"]
    ) -> tuple[Int64[Tensor, " a"], Int64[Tensor, " a"]]:
        """Return for each address the index into `tensors`, and the word's number in its tensor."""
        starts = torch.tensor([tensor.start for tensor in self.tensors])
        index = torch.searchsorted(starts, addresses, right=True) - 1
        return index, addresses - starts[index]

    def read(
        self, tensors: Mapping[str, tuple[Integer[Tensor, "..."], int]]
    ) -> dict[str, Integer[Tensor, "..."]]:
        """Return the tensors that `of` was given, with the changes since; in one buffer if any."""
        parts = torch.split(self.codes, [tensor.size for tensor in self.tensors])
        return {
            name: _restore(part, codes, bits)
            for part, (name, (codes, bits)) in zip(parts, tensors.items(), strict=True)
        }


def _check_words(codes: Tensor, bits: int) -> None:
    """Check that `codes` are words of `bits` bits."""
    check_bit_width(codes, bits)
    if not codes.dtype.is_signed or bits == WORD_BITS[codes.dtype] or not codes.numel():
        return
    half = 1 << (bits - 1)
    low, high = (int(end) for end in codes.aminmax())
    if low < -half or high >= half:
        raise BitWidthError(
            f"codes: wanted two's complement words of {bits} bits in {codes.dtype} "
            f"({-half} to {half - 1}), got {low} to {high}"
        )


def _restore(faulty: Tensor, codes: Tensor, bits: int) -> Tensor:
    """Return `codes` with the changes that `faulty`, flat on the CPU, shows in their low bits."""
    faulty = _recast(faulty, codes.dtype).view(codes.shape).to(codes.device)
    if bits == WORD_BITS[codes.dtype]:
        return faulty
    faulty ^= codes
    faulty &= (1 << bits) - 1
    if codes.dtype.is_signed:
        # A changed sign bit changes all the bits above it.
        faulty ^= 1 << (bits - 1)
        faulty -= 1 << (bits - 1)
    faulty ^= codes
    return faulty


def _recast(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the low bits of `codes` in another dtype, without a copy where the sizes agree."""
    return codes.view(dtype) if codes.element_size() == dtype.itemsize else codes.to(dtype)
