"""What every fault model promises, and the registry of their kinds."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, final

import torch
from jaxtyping import Integer
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.bits import WORD_BITS, check_bit_width
from bitproof.core.errors import BitWidthError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.stats.threats import ThreatLabel


class FaultModel(Spec):
    """A way in which stored words break.

    A subclass says what happens to a flat array in `inject_`. `corrupt` and `corrupt_all` lay the
    array out and keep the promises: the argument is untouched, shape, dtype and device are kept,
    and a word of `bits` bits stays one:

    - in an unsigned dtype, the bits above the word keep their value;
    - in a signed dtype, the word is in two's complement and sign-extended, before and after.
      So 4-bit codes in int8 stay in [-8, 7], and a flip of bit 3 moves a code by 8.
    """

    kind: str

    def at(self, level: float) -> "FaultModel":
        """Return the same faults at another level."""
        raise NotImplementedError

    def label(self) -> ThreatLabel:
        """Return how results write the faults and their levels."""
        return ThreatLabel("memory_fault", self.kind.replace("_", " ").capitalize())

    @abstractmethod
    def inject_(
        self, words: Integer[Tensor, " w"], *, bits: int, generator: torch.Generator
    ) -> None:
        """Corrupt the low `bits` bits of contiguous CPU `words` in place."""

    @final
    def corrupt(
        self, codes: Integer[Tensor, "*shape"], *, bits: int, generator: torch.Generator
    ) -> Integer[Tensor, "*shape"]:
        """Return `codes` with faults.

        Args:
            codes: stored words; bit 0 is the least significant.
            bits: word width in bits.
            generator: CPU generator, whatever the device of `codes`.

        Returns:
            The faulty words, a new tensor on the device of `codes`.

        Raises:
            BitWidthError: `bits` does not fit the dtype, or signed `codes` do not fit `bits`.
        """
        return self.corrupt_all({"codes": (codes, bits)}, generator=generator)["codes"]

    @final
    def corrupt_all(
        self,
        words: Mapping[str, tuple[Integer[Tensor, "..."], int]],
        *,
        generator: torch.Generator,
    ) -> dict[str, Integer[Tensor, "..."]]:
        """Return named tensors with faults, struck as one array of words, in the order given.

        Args:
            words: for each name, stored words and their width in bits. The array is as wide as
                the widest; faults in bits that a narrower word lacks are dropped.
            generator: CPU generator, whatever the device of the tensors.

        Returns:
            The faulty words by name; tensors may lie in one buffer, but never in that of `words`.

        Raises:
            BitWidthError: a width does not fit its dtype, or signed words do not fit their width.
        """
        for codes, bits in words.values():
            _check_words(codes, bits)
        widest = max((bits for _, bits in words.values()), default=1)
        dtype = next(dtype for dtype, held in WORD_BITS.items() if held >= widest)
        array = torch.cat(
            [
                torch.empty(0, dtype=dtype),
                *(_recast(codes.detach().cpu().flatten(), dtype) for codes, _ in words.values()),
            ]
        )
        self.inject_(array, bits=widest, generator=generator)
        struck = torch.split(array, [codes.numel() for codes, _ in words.values()])
        return {
            name: _restore(part, codes, bits)
            for part, (name, (codes, bits)) in zip(struck, words.items(), strict=True)
        }


FAULTS: Registry[FaultModel] = Registry("faults")
AnyFault = Annotated[SerializeAsAny[FaultModel], BeforeValidator(FAULTS.validate)]


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


def _restore(struck: Tensor, codes: Tensor, bits: int) -> Tensor:
    """Return `codes` with the changes that `struck`, flat on the CPU, shows in their low bits."""
    struck = _recast(struck, codes.dtype).view(codes.shape).to(codes.device)
    if bits == WORD_BITS[codes.dtype]:
        return struck
    struck ^= codes
    struck &= (1 << bits) - 1
    if codes.dtype.is_signed:
        # A changed sign bit changes all the bits above it.
        struck ^= 1 << (bits - 1)
        struck -= 1 << (bits - 1)
    struck ^= codes
    return struck


def _recast(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the low bits of `words` in another dtype, without a copy where the sizes agree."""
    return words.view(dtype) if words.element_size() == dtype.itemsize else words.to(dtype)
