"""Three copies of every bit and a majority voter.

Model:  memories, registers and multipliers exist three times, a voter that never breaks compares
        them bit by bit. A list of faults is read as the faults of all three copies together: each
        row falls on one copy, all alike, by a draw of its own. So one fault alone never passes; a
        list drawn at a rate per stored bit describes copies that break at a third of it each.
        Where a memory breaks as a whole, the two further copies are words of it that break as all
        others do: there, each copy breaks at the full rate.
Source: von Neumann, "Probabilistic Logics and the Synthesis of Reliable Organisms from Unreliable
        Components", 1956; Lyons and Vanderkulk, "The Use of Triple-Modular Redundancy to Improve
        Computer Reliability", IBM J. Res. Dev. 6(2), 1962.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt64
from torch import Tensor

from bitproof.core.rng import derive_seed
from bitproof.core.types import Seed
from bitproof.faults.protection import (
    PROTECTIONS,
    Protection,
    Repaired,
    covered,
    replace_rows,
)
from bitproof.faults.table import FLIP, SITES, STUCK0, STUCK1, WORD_SITES, FaultSite, FaultTable
from bitproof.faults.word_faults import group_starts, settle
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying by it loses nothing: 2**64 over the golden ratio, as in SplitMix64."""


@PROTECTIONS.register
class TripleModular(Protection):
    """Keep every bit three times and read what most copies say.

    What a copy does to a bit is known whatever is stored: it keeps it, inverts it, or makes it 0
    or 1. So is what the voter does, for registers as for words. Nothing is reported as detected.

    Example:
        >>> flip = (0, "accumulator", "conv1", 5, -1, 30, "flip")
        >>> table = FaultTable.from_rows([flip] * 2 + [(1, *flip[1:])])
        >>> faulty_copies(table, seed=0).tolist()
        [1, 0, 1]
        >>> TripleModular(seed=0).repair(table, IntegerNetwork((), {}, {})).table.rows()
        [(0, 'accumulator', 'conv1', 5, -1, 30, 'flip')]
    """

    kind: Literal["triple_modular"] = "triple_modular"
    sites: tuple[FaultSite, ...] = WORD_SITES
    """What exists three times."""
    seed: Seed = 0
    """Of the draw that puts each fault on a copy."""

    def repair(self, table: FaultTable, network: IntegerNetwork) -> Repaired:  # noqa: ARG002
        """Return the bits that two copies or more get wrong, one row a bit."""
        covered = np.isin(table.site, [SITES.index(site) for site in self.sites])
        rows = np.flatnonzero(covered)
        # `output` is another name for the activation of some layers.
        output, activation = SITES.index("output"), SITES.index("activation")
        site = np.where(table.site == output, activation, table.site)
        names = (table.bit, table.tap, table.element, table.layer, site, table.trial)
        copy = faulty_copies(table, seed=self.seed)
        rows = rows[np.lexsort((copy[rows], *(column[rows] for column in names)))]
        bit_keys = [column[rows] for column in names]
        starts = group_starts(*bit_keys, copy[rows])
        bit_starts = group_starts(*(key[starts] for key in bit_keys))
        result = np.zeros((2, len(bit_starts)), bool)
        for stored, read in enumerate(settle(table.action[rows], starts)):
            if len(starts):
                wrong = np.add.reduceat((read != bool(stored)).astype(np.int64), bit_starts)
                result[stored] = (wrong >= 2) ^ bool(stored)
        at0, at1 = result
        broken = at0 | ~at1
        action = np.where(at0 & ~at1, FLIP, np.where(at0, STUCK1, STUCK0))[broken]
        sources = rows[starts[bit_starts[broken]]]
        voted = replace_rows(table, covered, sources, action=action)
        return Repaired(voted, np.zeros(table.n_trials, bool))

    def redundancy(self, network: IntegerNetwork) -> dict[str, tuple[Tensor, int]]:
        """Return the second and the third copy of stored words, on a first axis of their own."""
        return {
            name: (torch.stack([coded.codes, coded.codes]), coded.grid.bits)
            for name, coded in self._copied(network)
        }

    def read(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return the majority of three copies, `codes` the first; `seed` has no part in it."""
        read = dict(codes)
        for name, coded in self._copied(network):
            if name in codes:
                known = (redundant or {}).get(name)
                a, (b, c) = codes[name], (coded.codes, coded.codes) if known is None else known
                read[name] = (a & b) | (b & c) | (a & c)
        return read

    def _copied(self, network: IntegerNetwork) -> list[tuple[str, CodedTensor]]:
        """Return the stored words that exist three times."""
        stored = tuple(site for site in ("weight", "bias") if site in self.sites)
        return list(covered(network, stored).items())


def faulty_copies(table: FaultTable, *, seed: int) -> Int64[np.ndarray, " f"]:
    """Return the copy, 0 to 2, that each row falls on.

    It depends on `seed`, the trial and the number of the row in its trial, and on nothing else.
    """
    number = np.arange(len(table)) - np.searchsorted(table.trial, table.trial)
    start = np.array([derive_seed(seed, "copy")], np.uint64)
    of_trial = _mix(start + table.trial.astype(np.uint64) * GOLDEN)
    drawn = _mix(of_trial + number.astype(np.uint64) * GOLDEN)
    copies: np.ndarray = (drawn >> np.uint64(32)) * np.uint64(3) >> np.uint64(32)
    return copies.astype(np.int64)


def _mix(x: UInt64[np.ndarray, " f"]) -> UInt64[np.ndarray, " f"]:
    """Return the finalizer of SplitMix64 (Steele et al., OOPSLA 2014), a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
