"""What every fault model promises, and the registry of their kinds."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Integer
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.faults.layout import Memory
from bitproof.stats.threats import ThreatLabel


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
    """Name of the field that says how much breaks, such as a rate; a stage or a sweep sets it."""
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
        other = self.from_table({**self.model_dump(), self.level: level})
        assert isinstance(other, FaultModel)
        return other

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
