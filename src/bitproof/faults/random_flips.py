"""Independent random bit flips in stored words.

Model:  each of the `bits` low bits of each word flips with probability `ber`,
        whatever its value, its position and the other bits.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN
        Accelerators", MLSys 2021 (persistent errors: nested in `ber`).
"""

from typing import ClassVar, Literal

import torch

from bitproof.core.types import Probability
from bitproof.faults.base import FAULTS, FaultModel
from bitproof.faults.layout import Memory
from bitproof.faults.sampling import sparse_flips
from bitproof.stats.threats import ThreatLabel


@FAULTS.register
class RandomFlips(FaultModel):
    """Flip every stored bit with probability `ber`.

    Flips are nested: from one generator state, a bit that flips at a low `ber`
    also flips at every higher one, as a weak cell does while its voltage drops.
    The generator advances by one draw, whatever `ber` is.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> words = torch.zeros(3, dtype=torch.uint8)
        >>> RandomFlips(ber=1.0).corrupt(words, bits=4, generator=make_generator(0))
        tensor([15, 15, 15], dtype=torch.uint8)
        >>> RandomFlips(ber=1.0).corrupt(words.char(), bits=4, generator=make_generator(0))
        tensor([-1, -1, -1], dtype=torch.int8)
    """

    level: ClassVar[str] = "ber"
    content_free: ClassVar[bool] = True

    kind: Literal["random_flips"] = "random_flips"
    ber: Probability
    """Bit error rate, as a fraction (1 % is 0.01)."""

    @property
    def label(self) -> ThreatLabel:
        """Return how people read the faults and their rate."""
        return ThreatLabel("memory_fault", "Random bit flips", "BER", "scientific")

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:
        """Flip random bits, wherever they lie and whatever they hold."""
        codes, bits = memory.codes, memory.bits
        sparse_flips(len(codes), bits=bits, ber=self.ber, generator=generator).xor_(codes)
