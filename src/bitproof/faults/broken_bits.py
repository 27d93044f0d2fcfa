"""Words with single bits that flip or are stuck."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaxtyping import Integer
from torch import Tensor

from bitproof.faults.table import FLIP, STUCK1


@dataclass(frozen=True)
class BrokenBit:
    """One fault in a known kind of site."""

    element: int
    tap: int
    bit: int
    action: int


NodeFaults = Mapping[str, list[BrokenBit]]
"""The faults of one trial in one node, by site, in the order of the list."""


def break_bit(
    codes: Integer[Tensor, "*shape"], fault: BrokenBit, *, bits: int, signed: bool
) -> Integer[Tensor, "*shape"]:
    """Return words of `bits` bits with one bit flipped or stuck; signed ones sign-extended.

    Example:
        >>> import torch
        >>> fault = BrokenBit(element=0, tap=-1, bit=3, action=FLIP)
        >>> break_bit(torch.tensor([1, -8]), fault, bits=4, signed=True)
        tensor([-7,  0])
    """
    mask, raw = 1 << fault.bit, codes & ((1 << bits) - 1)
    if fault.action == FLIP:
        raw = raw ^ mask
    else:
        raw = raw | mask if fault.action == STUCK1 else raw & ~mask
    if signed:
        raw = (raw ^ (1 << (bits - 1))) - (1 << (bits - 1))
    return raw


def break_bits(
    codes: Integer[Tensor, "*shape"], faults: Iterable[BrokenBit], *, bits: int, signed: bool
) -> Integer[Tensor, "*shape"]:
    """Return words with several bits flipped or stuck, one after the other.

    Bits that words of this width lack are passed over.
    """
    for fault in faults:
        if fault.bit < bits:
            codes = break_bit(codes, fault, bits=bits, signed=signed)
    return codes
