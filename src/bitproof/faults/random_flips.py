"""Independent random bit flips in stored words.

Model:  each of the `bits` low bits of each word flips with probability `ber`,
        whatever its value, its position and the other bits.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN
        Accelerators", MLSys 2021 (persistent errors: nested in `ber`).
"""

from typing import Literal

import torch
from jaxtyping import Integer
from torch import Tensor

from bitproof.core.types import Probability
from bitproof.faults.base import FAULTS, FaultModel
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

    kind: Literal["random_flips"] = "random_flips"
    ber: Probability
    """Bit error rate, as a fraction (1 % is 0.01)."""

    def label(self) -> ThreatLabel:
        """Return how results write them."""
        return ThreatLabel("memory_fault", "Random bit flips", "BER", "scientific")

    def at(self, ber: float) -> "RandomFlips":
        """Return the same faults at another rate.

        Example:
            >>> RandomFlips(ber=0.01).at(0.02)
            RandomFlips(kind='random_flips', ber=0.02)
        """
        return RandomFlips(ber=ber)

    def inject_(
        self, words: Integer[Tensor, " w"], *, bits: int, generator: torch.Generator
    ) -> None:
        """Flip random bits of `words` in place."""
        sparse_flips(len(words), bits=bits, ber=self.ber, generator=generator).xor_(words)
