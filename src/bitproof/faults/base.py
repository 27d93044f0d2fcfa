"""What every fault model promises, and the memory of words that it sees.

Model:  the words of all tensors lie one after another, in the order given, at addresses from 0.
        All are as wide as the widest; bits that a narrower word lacks hold nothing.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

import torch
from jaxtyping import Int64, Integer
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.bits import WORD_BITS, check_bit_width
from bitproof.core.errors import BitWidthError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.stats.threats import ThreatLabel


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
        """Return a memory that holds a copy of tensors, each given with the width of its words."""
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


class FaultModel(Spec):
    """A way in which the words of a memory break.

    A subclass says what happens to a memory in `inject_`, from the words that it holds and from
    where they lie. `corrupt` and `corrupt_all` keep the promises: the argument is untouched, shape,
    dtype and device are kept, and a word of `bits` bits stays one:

    - in an unsigned dtype, the bits above the word keep their value;
    - in a signed dtype, the word is in two's complement and sign-extended, before and after.
      So 4-bit codes in int8 stay in [-8, 7], and a flip of bit 3 moves a code by 8.
    """

    level: ClassVar[str]
    """Name of the field that says how much breaks, such as a rate, or that holds a fault model of
    which the level is meant; a stage or a sweep sets it through `at`."""
    content_free: ClassVar[bool] = False
    """Whether the bits that change do not depend on what the words hold, so that one mask of
    changed bits serves any content."""

    kind: str

    @abstractmethod
    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:
        """Corrupt the low `memory.bits` bits of `memory.codes` in place.

        What is drawn must not depend on content: one state of the CPU generator is one chip.
        """

    @property
    def label(self) -> ThreatLabel:
        """Return how people read the faults and their level."""
        title, symbol = (name.replace("_", " ") for name in (self.kind, self.level))
        return ThreatLabel("memory_fault", title.capitalize(), symbol)

    @final
    def at(self, level: float) -> "FaultModel":
        """Return the same faults at another level.

        Raises:
            SpecError: the level is out of range.
        """
        other = self.from_table(self._table_at(level))
        assert isinstance(other, FaultModel)
        return other

    def _table_at(self, level: float) -> dict[str, Any]:
        """Return the table of the same faults at another level; for faults within faults."""
        return {**self.model_dump(), self.level: level}

    @final
    def corrupt(
        self, codes: Integer[Tensor, "*shape"], *, bits: int, generator: torch.Generator
    ) -> Integer[Tensor, "*shape"]:
        """Return words of `bits` bits with faults, a new tensor on the device of `codes`.

        Bit 0 is the least significant; `generator` is on the CPU, whatever the device.

        Raises:
            BitWidthError: `bits` does not fit the dtype, or signed `codes` do not fit `bits`.
        """
        return self.corrupt_all({"codes": (codes, bits)}, generator=generator)["codes"]

    @final
    def corrupt_all(
        self, codes: Mapping[str, tuple[Integer[Tensor, "..."], int]], *, generator: torch.Generator
    ) -> dict[str, Integer[Tensor, "..."]]:
        """Return named tensors with the faults of one memory that holds them in the order given.

        Each comes with the width of its words in bits. The faulty ones may lie in one buffer, but
        never in that of `codes`.

        Raises:
            BitWidthError: a width does not fit its dtype, or signed words do not fit their width.
        """
        memory = Memory.of(codes)
        self.inject_(memory, generator=generator)
        return memory.read(codes)


FAULTS: Registry[FaultModel] = Registry("faults")
AnyFault = Annotated[SerializeAsAny[FaultModel], BeforeValidator(FAULTS.validate)]
"""A field of a spec that holds any fault model, also as a table."""


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
