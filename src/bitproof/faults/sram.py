"""SRAM arrays at low voltage, simulated: which cells are faulty, and what they read.

Model:  a chip is a row of arrays of cells. Each cell has a threshold u, fixed when the chip is made
        and uniform in (0, 1); it is faulty at rate p if and only if u < p. So what is faulty at a
        lower rate, that is at a higher voltage, stays faulty at every higher one. A faulty cell
        reads one fixed value, 0 or 1, whatever was stored: a bit is wrong only where that differs.

        Column-aligned faults: each cell is, with probability rho, a follower of its column, and
        takes the threshold of the column; else it has one of its own. Both are uniform, and which
        of them a cell takes does not depend on either, so

            P(u < p) = rho p + (1 - rho) p = p,    P(follower | u < p) = rho.

        A column of one array is weak at rate p if its threshold is below p; then all its followers
        are faulty. A chip has few columns, so chance would decide how many are weak: one threshold
        lies in each of n equal parts of (0, 1), in random order, which keeps each one uniform. On
        one chip, the share of faulty cells still rises in steps of rho / n (n columns in all); at
        rates below 1 / n a chip has one weak column or none.

        Stored bits lie in the cells one after another: tensors in their order, word by word, the
        least significant bit first, each word as wide as its tensor says; along a row, then row by
        row, then array by array, from a random cell on. Where the last cell is reached, the first
        one follows, so in a network larger than the memory a faulty cell hits several words.
Source: Stutz et al., MLSys 2021 (arrays of 512 x 64 cells); METHODS E.7. The construction of
        thresholds is our own, as the profiles themselves are not public.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt, UInt8
from pydantic import model_validator

from bitproof.core.rng import derive_seed, draw_seed
from bitproof.core.types import Count, Probability, Seed
from bitproof.faults.base import FAULTS, FaultModel, Memory
from bitproof.faults.table import FLIP, STUCK0, STUCK1
from bitproof.stats.threats import ThreatLabel

BLOCK = 1 << 17
"""Words that break at a time, which bounds the memory needed; no influence on the result."""
MOST_CELLS = 2**28
"""Cells of a simulated chip; their thresholds take 8 bytes each."""


@dataclass(frozen=True, eq=False)
class FaultyCells:
    """The faulty cells of a memory, and what they do to the words stored there.

    Example:
        >>> words = torch.tensor([0b0000, 0b1111], dtype=torch.uint8)
        >>> memory = Memory.of({"w": (words, 4)})
        >>> cells = FaultyCells(16, np.array([3, 6]), np.array([STUCK1, STUCK0], np.uint8))
        >>> cells.break_(memory, offset=2)  # cell 3 holds bit 1 of the first word
        >>> memory.codes
        tensor([ 2, 14], dtype=torch.uint8)
    """

    n_cells: int
    """Cells of the whole memory."""
    cells: Int64[np.ndarray, " f"]
    """Numbers of the faulty ones, ascending."""
    actions: UInt8[np.ndarray, " f"]
    """What each does to the bit that it holds: index into `faults.table.ACTIONS`."""

    def select(self, keep: Bool[np.ndarray, " f"]) -> "FaultyCells":
        """Return those that a mask keeps."""
        return FaultyCells(self.n_cells, self.cells[keep], self.actions[keep])

    def break_(self, memory: Memory, *, offset: int) -> None:
        """Change the words of `memory` as they are read; its first bit lies in cell `offset`."""
        raw = memory.codes.numpy().view(f"u{memory.codes.element_size()}")
        for tensor in memory.tensors:
            stored = raw[tensor.start : tensor.start + tensor.size]
            for start in range(0, tensor.size, BLOCK):
                self._break_(stored[start : start + BLOCK], bits=tensor.bits, first=offset)
                offset += len(stored[start : start + BLOCK]) * tensor.bits

    def _break_(self, words: UInt[np.ndarray, " w"], *, bits: int, first: int) -> None:
        """Break words that lie one after another from cell `first` on, counted without wrapping."""
        stop = first + len(words) * bits
        laps = np.arange(first // self.n_cells, -(-stop // self.n_cells))
        positions = (laps[:, None] * self.n_cells + self.cells).ravel() - first
        reached = slice(*np.searchsorted(positions, (0, stop - first)))
        word, bit = np.divmod(positions[reached], bits)
        actions = np.tile(self.actions, len(laps))[reached]
        masks = words.dtype.type(1) << bit.astype(words.dtype)
        stored = words[word] & masks != 0
        wrong = (actions == FLIP) | (stored != (actions == STUCK1))
        np.bitwise_xor.at(words, word[wrong], masks[wrong])


@FAULTS.register
class SimulatedSram(FaultModel):
    """Store the words in a simulated chip, whose faulty cells read 0 or 1 whatever they hold.

    The chip stays the same in every draw; what is drawn is the cell in which the network begins,
    and which of the faulty cells that err now and then do so. Faults are nested in `ber`.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> chip = SimulatedSram(ber=1.0, chip=3, to_one=1.0)
        >>> words = torch.tensor([1, 2, 15], dtype=torch.uint8)
        >>> chip.corrupt(words, bits=4, generator=make_generator(0))
        tensor([15, 15, 15], dtype=torch.uint8)
    """

    level: ClassVar[str] = "ber"

    kind: Literal["simulated_sram"] = "simulated_sram"
    ber: Probability
    """Share of cells that are faulty, as a fraction (1 % is 0.01). A faulty cell that holds the
    value it reads does no harm, so about half as many bits are wrong."""
    chip: Seed = 0
    """Which piece of silicon: seed of its weak cells and of what they read."""
    arrays: Count = 32
    """Arrays of the memory."""
    rows: Count = 512
    """Rows of one array, in cells: the length of a column."""
    columns: Count = 64
    """Columns of one array, in cells."""
    column_share: Probability = 0.0
    """Share of the faulty cells, on average, that are faulty because their column is weak."""
    to_one: Probability = 0.5
    """Share of the faulty cells, on average, that read 1; the others read 0."""
    persistence: Probability = 1.0
    """Share of the faulty cells, on average, that err in every draw; each of the others does so in
    half of the draws, and then in all words that it holds."""

    @model_validator(mode="after")
    def _check_size(self) -> "SimulatedSram":
        if self.n_cells > MOST_CELLS:
            raise ValueError(f"wanted at most {MOST_CELLS} cells in all, got {self.n_cells}")
        return self

    @property
    def label(self) -> ThreatLabel:
        """Return how people read the faults and their rate."""
        return ThreatLabel("memory_fault", f"Simulated SRAM, chip {self.chip}", "BER", "scientific")

    @property
    def n_cells(self) -> int:
        """Cells of the memory; each holds one bit."""
        return self.arrays * self.rows * self.columns

    def thresholds(self) -> Float64[np.ndarray, " m"]:
        """Return the rate above which each cell is faulty, array by array, row by row; read-only.

        Example:
            >>> chip = SimulatedSram(ber=0.01, arrays=1, rows=4, columns=2, column_share=1.0)
            >>> chip.thresholds().reshape(4, 2).std(axis=0)
            array([0., 0.])
        """
        size = (self.arrays, self.rows, self.columns)
        return _thresholds(self.chip, size, self.column_share)

    def faulty_cells(self) -> FaultyCells:
        """Return the cells that are faulty at `ber`, also those that err now and then.

        Example:
            >>> SimulatedSram(ber=1.0, arrays=1, rows=1, columns=4).faulty_cells().cells
            array([0, 1, 2, 3])
        """
        return _faulty_cells(self)[0]

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:
        """Read the words back from a random place of the chip."""
        seed = draw_seed(generator)
        faulty, steady = _faulty_cells(self)
        if self.persistence < 1:
            chance = _source(seed, "reads").integers(2, size=self.n_cells, dtype=bool)
            faulty = faulty.select(steady | chance[faulty.cells])
        faulty.break_(memory, offset=seed % self.n_cells)


CHIP_1 = SimulatedSram(ber=0.0086, chip=1)
"""In the way of the first profiled chip of METHODS E.7: faults anywhere, no value preferred. The
rate is the lower of the two published (0.86 and 2.75 %)."""
CHIP_2 = SimulatedSram(ber=0.0014, chip=2, column_share=0.75, to_one=0.8)
"""In the way of the second one: aligned in columns, mostly 0 read as 1. The rate is the lower of
the two published (0.14 and 1.08 %); both shares are assumed, as METHODS has no figures for them."""


@lru_cache(maxsize=8)
def _faulty_cells(chip: SimulatedSram) -> tuple[FaultyCells, Bool[np.ndarray, " f"]]:
    """Return the faulty cells, and which of them err in every draw."""
    cells = np.flatnonzero(chip.thresholds() < chip.ber)
    value, steady = (
        _source(chip.chip, use).random(chip.n_cells)[cells] < share
        for use, share in (("value", chip.to_one), ("persistence", chip.persistence))
    )
    actions = np.where(value, STUCK1, STUCK0).astype(np.uint8)
    return FaultyCells(chip.n_cells, _frozen(cells), _frozen(actions)), steady


@lru_cache(maxsize=8)
def _thresholds(
    chip: int, size: tuple[int, int, int], column_share: float
) -> Float64[np.ndarray, " m"]:
    arrays, _, columns = size
    n = arrays * columns
    source = _source(chip, "columns")
    of_column = (source.permutation(n) + source.random(n)) / n
    follows = _source(chip, "followers").random(size) < column_share
    own = _source(chip, "cells").random(size)
    return _frozen(np.where(follows, of_column.reshape(arrays, 1, columns), own).ravel())


def _frozen(array: np.ndarray) -> np.ndarray:
    """Return an array that callers share, made read-only."""
    array.setflags(write=False)
    return array


def _source(seed: int, use: str) -> np.random.Generator:
    """Return the randomness of one use."""
    return np.random.Generator(np.random.SFC64(derive_seed(seed, "sram", use)))
