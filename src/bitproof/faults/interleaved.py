"""Interleaving: the neighbours in a memory are words from far apart.

Model:  words of one width lie in a part of the memory of their own, in `ways` stretches: those of
        addresses 0, w, 2w ... first, then those of 1, w + 1, ... So cells that break side by side,
        as in a burst, a row or a column, hit words whose addresses lie `ways` apart, of different
        code words or groups of a protection.
Source: standard in memories; see Slayman, "Cache and Memory Error Detection, Correction, and
        Reduction Techniques for Terrestrial Servers and Workstations", IEEE Trans. Device and
        Materials Reliability 5(3), 2005.
"""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Int64
from pydantic import Field

from bitproof.faults.base import FAULTS, AnyFault, FaultModel, Memory, StoredTensor
from bitproof.stats.threats import ThreatLabel


@FAULTS.register
class Interleaved(FaultModel):
    """Break words as another fault model would if they lay interleaved.

    The other model sees the words in the order of their cells, without the names of tensors.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> from bitproof.faults import SimulatedSram
        >>> row = SimulatedSram(ber=0.5, arrays=1, rows=4, columns=16, column_share=1.0)
        >>> Interleaved(fault=row, ways=4).at(0.25).fault.ber
        0.25
    """

    level: ClassVar[str] = "fault"

    kind: Literal["interleaved"] = "interleaved"
    fault: AnyFault
    """How the memory breaks; its level is the level of this one."""
    ways: Annotated[int, Field(ge=1, le=2**16, strict=True)] = 8
    """How far apart the addresses of neighbours are, in words."""

    @property
    def content_free(self) -> bool:  # type: ignore[override]
        """Whether the bits that change do not depend on what the words hold."""
        return self.fault.content_free

    @property
    def label(self) -> ThreatLabel:
        """Return the label of the other fault model, interleaved."""
        label = self.fault.label
        return ThreatLabel(
            label.family, f"{label.title}, interleaved", label.symbol, label.notation
        )

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:
        """Break the words in the order of their cells."""
        parts = [
            torch.arange(tensor.start, tensor.start + tensor.size) for tensor in memory.tensors
        ]
        widths = list(dict.fromkeys(tensor.bits for tensor in memory.tensors))
        cells, stored, start = [], [], 0
        for bits in widths:
            pairs = zip(memory.tensors, parts, strict=True)
            own = torch.cat([part for tensor, part in pairs if tensor.bits == bits])
            cells.append(_in_stretches(own, self.ways))
            stored.append(StoredTensor(f"{bits}-bit words", start, bits, (len(own),), len(own)))
            start += len(own)
        order = torch.cat([torch.empty(0, dtype=torch.int64), *cells])
        inner = Memory(memory.codes[order], memory.bits, tuple(stored))
        self.fault.inject_(inner, generator=generator)
        memory.codes[order] = inner.codes

    def _table_at(self, level: float) -> dict[str, Any]:
        return {**self.model_dump(), "fault": self.fault.at(level)}


def interleaved_place(
    addresses: Int64[np.ndarray, " a"], n_words: int, *, ways: int
) -> Int64[np.ndarray, " a"]:
    """Return where the words of some addresses lie in a memory of `n_words` words.

    That is (a mod ways) n / ways + a // ways for address a, if `ways` divides n. If not, later
    stretches are a word shorter, and no place is left empty.

    Example:
        >>> interleaved_place(np.arange(7), 7, ways=2)
        array([0, 4, 1, 5, 2, 6, 3])
    """
    row, stretch = np.divmod(addresses, ways)
    each, longer = divmod(n_words, ways)
    places: np.ndarray = stretch * each + np.minimum(stretch, longer) + row
    return places


def interleaved_address(
    places: Int64[np.ndarray, " a"], n_words: int, *, ways: int
) -> Int64[np.ndarray, " a"]:
    """Return the addresses of the words in some places: the inverse of `interleaved_place`.

    Example:
        >>> interleaved_address(np.arange(7), 7, ways=2)
        array([0, 2, 4, 6, 1, 3, 5])
    """
    each, longer = divmod(n_words, ways)
    first_short = longer * (each + 1)  # where the shorter stretches begin
    long_stretch, long_row = np.divmod(places, each + 1)
    short_stretch, short_row = np.divmod(places - first_short, max(each, 1))
    long = places < first_short
    stretch = np.where(long, long_stretch, longer + short_stretch)
    addresses: np.ndarray = np.where(long, long_row, short_row) * ways + stretch
    return addresses


def _in_stretches(words: Int64[torch.Tensor, " w"], ways: int) -> Int64[torch.Tensor, " w"]:
    """Return `words[interleaved_address(...)]` for all places, without divisions."""
    padded = torch.nn.functional.pad(words, (0, -len(words) % ways), value=-1)
    stretches = padded.view(-1, ways).T.flatten()
    return stretches[stretches >= 0]
