"""Independent random bit flips in stored words.

Model:  each of the `bits` low bits of each word flips with probability `ber`,
        whatever its value, its position and the other bits.
Source: Stutz et al., "Bit Error Robustness for Energy-Efficient DNN
        Accelerators", MLSys 2021 (persistent errors: nested in `ber`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log1p, sqrt
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from bitproof.core.bits import check_bit_width
from bitproof.core.errors import SpecError
from bitproof.core.rng import derive_seed, draw_seed
from bitproof.core.types import Probability
from bitproof.faults.base import FAULTS, FaultModel, Memory
from bitproof.stats.threats import ThreatLabel

EDGES = (*(float(f"{digit}e-{k}") for k in range(5, 0, -1) for digit in (1, 2, 5)), 1.0)
"""Upper ends of the bands. Below the first, drawing its few members and their marks is cheaper
than opening further bands; the usual rates lie on an edge and need no marks."""

CHUNK = 1 << 14
"""Gaps drawn at a time, so that they stay in the cache; no influence on the result."""


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


@dataclass(frozen=True, eq=False)
class Flips:
    """The bits to flip in an array of words.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> flips = sparse_flips(1000, bits=8, ber=5e-4, generator=make_generator(1))
        >>> flips.pairs()
        (tensor([ 55, 341, 393]), tensor([1, 0, 2]))
    """

    n_words: int
    """Words in the array."""
    bits: int
    """Bits of each word; bit 0 is the least significant."""
    bands: tuple[Int64[np.ndarray, " _"], ...]
    """Positions `bit * n_words + word`, ascending in each band; bands may overlap."""

    def xor_(self, codes: Integer[Tensor, " w"]) -> None:
        """Flip bits of CPU `codes` in place; the same call again undoes it.

        Raises:
            BitWidthError: the dtype of `codes` is no integer, or too narrow.
            SpecError: there are more or fewer words.
        """
        check_bit_width(codes, self.bits)
        if len(codes) != self.n_words:
            raise SpecError(f"codes: wanted {self.n_words}, got {len(codes)}")
        unsigned = np.dtype(f"u{codes.element_size()}")
        raw = codes.numpy().view(unsigned)
        for bit in range(self.bits):
            # All hits are read before any is written: a bit that two bands hold flips once.
            raw[self._hits(bit)] ^= unsigned.type(1 << bit)

    def pairs(self) -> tuple[Int64[Tensor, " f"], Int64[Tensor, " f"]]:
        """Return word and bit of every flip, each once, ordered by word, then by bit."""
        positions = np.unique(np.concatenate([np.empty(0, np.int64), *self.bands]))
        bits, codes = np.divmod(positions, max(self.n_words, 1))
        order = np.argsort(codes, kind="stable")
        return torch.from_numpy(codes[order]), torch.from_numpy(bits[order])

    def _hits(self, bit: int) -> Int64[np.ndarray, " _"]:
        """Return the words in which `bit` flips."""
        first = bit * self.n_words
        ends = (first, first + self.n_words)
        parts = [band[slice(*np.searchsorted(band, ends))] for band in self.bands]
        hits = np.concatenate([np.empty(0, np.int64), *parts])
        hits -= first
        return hits


def sparse_flips(n_words: int, *, bits: int, ber: float, generator: torch.Generator) -> Flips:
    """Draw which bits of an array of words flip.

    They take 8 bytes each. `generator`, on the CPU, advances by one draw whatever `ber` is.

    Every stored bit has a threshold u, uniform in (0, 1) and independent of the others; it flips at
    rate p if and only if u < p. So the flips at a lower rate are a subset. The sparse construction
    is our own; the proof follows.

    Drawing u for every bit costs the same at any rate. Here the rates are cut at fixed edges
    e_0 < e_1 < ... < e_K = 1 (with e_-1 = 0), and band k is a Bernoulli set over all bits,
    independent of the other bands, with rate

        r_k = (e_k - e_{k-1}) / (1 - e_{k-1}).

    Each member of band k carries a mark, uniform in (e_{k-1}, e_k). The threshold of a bit is the
    smallest mark it carries, that is its mark in the lowest band that holds it (the last band, of
    rate 1, holds every bit). Bits are independent because bands are Bernoulli sets and the draws of
    the bands are independent. That u is uniform:

        P(u >= e_k) = (1 - r_0) ... (1 - r_k) = product of (1 - e_j) / (1 - e_{j-1}) = 1 - e_k,

    and for p inside band k, a member has mark < p with probability (p - e_{k-1}) / (e_k - e_{k-1}):

        P(u >= p) = (1 - e_{k-1}) (1 - r_k (p - e_{k-1}) / (e_k - e_{k-1})) = 1 - p.

    So the flips at rate p are the union of the bands that end at or below p and of those members of
    the next band whose mark is below p; a bit that several bands hold flips once. No band above p
    is ever drawn.

    The members of a band lie a geometric number of bits apart: floor(-E / log(1 - r)) with E
    exponential is at least g with probability (1 - r)^g. Bits are numbered plane by plane, position
    = bit * n_words + word, so words of fewer bits have the same flips in the bits they have.

    Raises:
        SpecError: `ber` lies outside [0, 1].

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> few = sparse_flips(9, bits=8, ber=0.1, generator=make_generator(0)).pairs()
        >>> more = sparse_flips(9, bits=8, ber=0.3, generator=make_generator(0)).pairs()
        >>> set(zip(*map(torch.Tensor.tolist, few))) < set(zip(*map(torch.Tensor.tolist, more)))
        True
    """
    if not 0 <= ber <= 1:
        raise SpecError(f"ber: wanted a fraction in [0, 1], got {ber}")
    seed = draw_seed(generator)
    return Flips(n_words, bits, tuple(_bands(n_words * bits, ber, seed)))


def _bands(n_positions: int, ber: float, seed: int) -> Iterator[Int64[np.ndarray, " _"]]:
    """Yield the bands up to rate `ber`, the last one thinned by its marks."""
    for band, (low, high) in enumerate(zip((0.0, *EDGES), EDGES, strict=False)):
        if ber <= low:
            return
        members = _band(n_positions, (high - low) / (1 - low), _source(seed, "gaps", band))
        if ber < high:
            marks = _source(seed, "marks", band).random(len(members))
            members = members[marks < (ber - low) / (high - low)]
        yield members


def _band(n_positions: int, rate: float, source: np.random.Generator) -> Int64[np.ndarray, " _"]:
    """Return a Bernoulli set of `rate` over the positions, ascending."""
    scale = 1 / -log1p(-rate) if rate < 1 else 0.0
    members = np.empty(_ample(rate * n_positions), np.int64)
    gaps = np.empty(min(CHUNK, len(members)))
    drawn, last = 0, -1
    while last < n_positions:
        size = min(len(gaps), _ample(rate * (n_positions - last)))
        if drawn + size > len(members):  # more members than ample
            members = np.concatenate([members, np.empty(size, np.int64)])
        source.standard_exponential(out=gaps[:size])
        gaps[:size] *= scale
        chunk = members[drawn : drawn + size]
        chunk[:] = gaps[:size]
        chunk += 1
        chunk[0] += last
        np.cumsum(chunk, out=chunk)
        last = int(chunk[-1])
        drawn += size
    return members[: np.searchsorted(members[:drawn], n_positions)]


def _ample(expected: float) -> int:
    """Return a count that a binomial one of that mean hardly ever exceeds (six sigma)."""
    return int(expected + 6 * sqrt(expected)) + 10


def _source(seed: int, use: str, band: int) -> np.random.Generator:
    """Return the randomness of one band: NumPy's: faster than torch's, whatever the threads."""
    return np.random.Generator(np.random.SFC64(derive_seed(seed, use, band)))
