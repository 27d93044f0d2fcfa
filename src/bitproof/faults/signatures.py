"""Signatures over groups of weights: a group whose signature is wrong is read as zeros.

Model:  the words of a tensor lie in groups of G. Each group has a signature of a few bits, taken
        when the words are written, and kept in a memory that never breaks. Whatever reads a word
        has the signature of its group taken again. Of the words c of a group, whose signs s are
        secret, it is

            floor(sum of s c / 2**(w + 1 - b)) modulo 2**b

        for words of w bits and signatures of b: those bits of the sum, 0 or 1 each, that have the
        weights of the b - 1 most significant bits of a word, and of twice the most significant one.
        Changing a single one of these bits always changes the signature. Several of them may cancel
        out. What happens in lower bits is seen only if it carries.
        Interleaved groups take their words from all over the tensor, so that faults in neighbours
        fall into different groups.
Source: Li et al., "RADAR: Run-time Adversarial Weight Attack Detection and Accuracy Recovery",
        DATE 2021: masked sum, two or three bits of it, interleaving, zeros in the place of a group.
        Here, the mask is one sign for each of 16 words in turn, and the words that interleaved
        groups take lie evenly apart.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int64
from pydantic import Field
from torch import Tensor

from bitproof.core.errors import FaultListError, SpecError
from bitproof.core.rng import derive_seed
from bitproof.core.types import Seed
from bitproof.faults.kinds import MOST_ROWS
from bitproof.faults.protection import (
    PROTECTIONS,
    Blocks,
    Protection,
    Repaired,
    StoredSite,
    covered,
    find_blocks,
    replace_rows,
    zero_codes,
)
from bitproof.faults.table import FLIP, FaultTable
from bitproof.faults.word_faults import group_starts
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork

MASK_WORDS = 16
"""Words in turn whose signs differ; then the signs come again."""


@PROTECTIONS.register
class Signatures(Protection):
    """Read a group of words as the value 0 if its signature is not the one that was stored.

    Example:
        >>> from bitproof.quant import Grid
        >>> grid = Grid(torch.tensor(0.1), torch.tensor(0, dtype=torch.int32), 8, signed=True)
        >>> codes = torch.arange(1, 9, dtype=torch.int8)
        >>> network = IntegerNetwork((), {"a.weight": CodedTensor(codes, grid)}, {})
        >>> radar = Signatures(words=4, interleaved=False)
        >>> broken = codes ^ torch.tensor([0, -128, 0, 0, 0, 1, 0, 0], dtype=torch.int8)
        >>> radar.read(network, {"a.weight": broken})
        {'a.weight': tensor([0, 0, 0, 0, 5, 7, 7, 8], dtype=torch.int8)}
        >>> radar.overhead_bits(network)
        4
    """

    kind: Literal["signatures"] = "signatures"
    words: Annotated[int, Field(ge=1, le=2**16, strict=True)] = 64
    """Words in a group; the last group of a tensor may have fewer."""
    bits: Annotated[int, Field(ge=2, le=9, strict=True)] = 2
    """Bits of a signature: 2 watch the most significant bit of each word, each further one the next
    bit below; one more than a word has bits watches all."""
    interleaved: bool = True
    """Take the words of a group from all over its tensor, evenly apart, in place of neighbours."""
    sites: tuple[StoredSite, ...] = ("weight",)
    """Which words have signatures."""
    seed: Seed = 0
    """Of the secret signs."""

    def repair(self, table: FaultTable, network: IntegerNetwork) -> Repaired:
        """Return flips that turn the words of wrong groups into zeros, in the place of theirs."""
        none = np.zeros(table.n_trials, bool)
        blocks = find_blocks(table, network, self.sites, words_per_block=lambda _: 1)
        if blocks is None:
            return Repaired(table, none)
        source, group, _, wrong = self._groups(blocks)
        if (n := int(wrong.sum()) * self.words) > MOST_ROWS:
            raise SpecError(
                f"signatures: wanted at most {MOST_ROWS} words read as zeros in all trials, "
                f"got {n}; have fewer trials, or fewer words in a group"
            )
        gone = blocks.rows_of(wrong[group])
        sources, elements, bits = [], [], []
        for number, coded in enumerate(blocks.tensors):
            flips = (zero_codes(coded) ^ coded.codes).flatten().cpu().numpy()
            at = np.flatnonzero(wrong & (blocks.tensor[source] == number))
            member, element = self._members(coded, blocks.word[source[at]])
            which, bit = np.nonzero(
                flips[element, None] >> np.arange(coded.grid.bits, dtype=flips.dtype) & 1
            )
            sources.append(blocks.first[source[at[member[which]]]])
            elements.append(element[which])
            bits.append(bit)
        flip = np.full(sum(map(len, bits)), FLIP)
        zeros = {"element": np.concatenate(elements), "bit": np.concatenate(bits), "action": flip}
        return Repaired(replace_rows(table, gone, np.concatenate(sources), **zeros), none)

    def read(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Return the words with zeros for those of wrong groups."""
        read = dict(codes)
        for name, coded in covered(network, self.sites).items():
            if name in codes:
                wrong = self.signatures(coded) != self.signatures(
                    CodedTensor(codes[name], coded.grid)
                )
                words = self.words
                each = wrong.repeat(words) if self.interleaved else wrong.repeat_interleave(words)
                mask = each[: coded.codes.numel()].view(coded.codes.shape)
                read[name] = torch.where(mask, zero_codes(coded), codes[name])
        return read

    def overhead_bits(self, network: IntegerNetwork) -> int:
        """Return how many bits the signatures take; they lie in a memory of their own."""
        tensors = covered(network, self.sites).values()
        return self.bits * sum(self._n_groups(coded) for coded in tensors)

    def signatures(self, coded: CodedTensor) -> Int64[Tensor, " g"]:
        """Return the signature of each group of a tensor.

        Example:
            >>> from bitproof.quant import Grid
            >>> grid = Grid(torch.tensor(0.1), torch.tensor(0, dtype=torch.int32), 8, signed=False)
            >>> codes = torch.tensor([200, 200, 0, 0, 127], dtype=torch.uint8)
            >>> Signatures(words=2, interleaved=False).signatures(CodedTensor(codes, grid)).shape
            torch.Size([3])
        """
        sums = self._sums(coded)
        return sums >> self._shift(coded.grid.bits) & (1 << self.bits) - 1

    def detection_rate(self, table: FaultTable, network: IntegerNetwork) -> float:
        """Return the share of groups with changed bits, over all trials, that are found wrong.

        Raises:
            FaultListError: the list changes nothing, or names words or bits that are not there.
        """
        blocks = find_blocks(table, network, self.sites, words_per_block=lambda _: 1)
        if blocks is None or not blocks.changed.any():
            raise FaultListError("faults: wanted changed bits in words with signatures, got none")
        _, _, struck, wrong = self._groups(blocks)
        return float(wrong.sum() / struck.sum())

    def _groups(
        self, blocks: Blocks
    ) -> tuple[
        Int64[np.ndarray, " g"],
        Int64[np.ndarray, " b"],
        Bool[np.ndarray, " g"],
        Bool[np.ndarray, " g"],
    ]:
        """Return the groups that broken words, one a block, lie in.

        Returns:
            For each group one of its words; for each word its group; for each group whether bits
            of it are changed, and whether its signature is wrong.
        """
        change = np.zeros(len(blocks.first), np.int64)
        before, number = np.zeros_like(change), np.zeros_like(change)
        shift = np.zeros_like(change)
        flipped = np.add.reduceat(blocks.changed * (1 << blocks.place), blocks.starts)
        for at, coded in enumerate(blocks.tensors):
            mine = np.flatnonzero(blocks.tensor == at)
            word, bits = blocks.word[mine], coded.grid.bits
            codes = coded.codes.flatten().cpu().numpy()[word].astype(np.int64)
            broken = (codes & (1 << bits) - 1) ^ flipped[mine]
            if coded.grid.signed:
                half = 1 << bits - 1
                broken = (broken ^ half) - half
            n_groups = self._n_groups(coded)
            place = word // n_groups if self.interleaved else word % self.words
            number[mine] = word % n_groups if self.interleaved else word // self.words
            change[mine] = (broken - codes) * self._signs().numpy()[place]
            before[mine] = self._sums(coded).cpu().numpy()[number[mine]]
            shift[mine] = self._shift(bits)
        trial = blocks.table.trial[blocks.first]
        order = np.lexsort((number, blocks.tensor, trial))
        starts = group_starts(*(key[order] for key in (trial, blocks.tensor, number)))
        source, group = order[starts], np.empty_like(order)
        group[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(order)))
        after = before[source] + np.add.reduceat(change[order], starts)
        mask = (1 << self.bits) - 1
        was, now = (total >> shift[source] & mask for total in (before[source], after))
        return source, group, np.add.reduceat(flipped[order] != 0, starts) > 0, was != now

    def _sums(self, coded: CodedTensor) -> Int64[Tensor, " g"]:
        """Return the sum of signed words of each group."""
        n_groups, codes = self._n_groups(coded), coded.codes.flatten()
        codes = torch.nn.functional.pad(codes, (0, n_groups * self.words - len(codes)))
        signs = self._signs().to(codes.device)
        shape = (self.words, n_groups) if self.interleaved else (n_groups, self.words)
        signs = signs[:, None] if self.interleaved else signs
        wide = torch.int64 if coded.grid.bits > 8 else torch.int16
        return (codes.view(shape).to(wide) * signs.to(wide)).sum(0 if self.interleaved else 1)

    def _signs(self) -> Int64[Tensor, " w"]:
        """Return the sign of each word of a group."""
        key = derive_seed(self.seed, "signatures")
        return 1 - 2 * (key >> torch.arange(self.words) % MASK_WORDS & 1)

    def _members(
        self, coded: CodedTensor, words: Int64[np.ndarray, " a"]
    ) -> tuple[Int64[np.ndarray, " e"], Int64[np.ndarray, " e"]]:
        """Return all words of the groups of some, and for each the one it goes with."""
        n_groups, steps = self._n_groups(coded), np.arange(self.words)
        if self.interleaved:
            elements = (words % n_groups)[:, None] + steps * n_groups
        else:
            elements = (words // self.words * self.words)[:, None] + steps
        member, step = np.nonzero(elements < coded.codes.numel())
        return member, elements[member, step]

    def _n_groups(self, coded: CodedTensor) -> int:
        return -(-coded.codes.numel() // self.words)

    def _shift(self, bits: int) -> int:
        """Return the lowest bit of the sum that the signature of words of `bits` bits takes."""
        return max(bits + 1 - self.bits, 0)
