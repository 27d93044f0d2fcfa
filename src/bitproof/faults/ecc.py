"""Codes over stored words: SECDED that corrects one bit, and parity that finds one.

Model:  weights and biases lie in a memory with check bits, written with the words. Whatever reads a
        word has it decoded first. The words of a tensor lie in their order in blocks of equally
        many, each decoded as one. A fault list names data bits alone; where a memory breaks as a
        whole, check bits are words of it that break as all others do. Activations are not covered:
        their words change with each image, so a list alone does not tell which of their stuck bits
        matter.
Source: Hsiao, "A Class of Optimal Minimum Odd-weight-column SEC-DED Codes", IBM J. Res. Dev. 14(4),
        1970.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Int16, Int64, Integer, UInt8
from pydantic import Field
from torch import Tensor

from bitproof.core.errors import SpecError
from bitproof.faults.protection import (
    PROTECTIONS,
    DecodedWords,
    Protection,
    Repaired,
    StoredSite,
    covered,
    find_blocks,
    replace_rows,
    zero_codes,
)
from bitproof.faults.table import FLIP, STUCK0, STUCK1, FaultTable
from bitproof.faults.word_faults import changed_bits, read_words
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork

NOTHING, UNCORRECTABLE = -1, -2
"""What a decoder does if it flips no data bit; a check bit it flips is nothing to the data."""


@PROTECTIONS.register
class Secded(Protection):
    """Correct one wrong bit in a code word, detect two.

    A code word holds as many whole words of a tensor as fit, in their order, the first in the low
    bits; what is left over, there and at the tensor's end, holds zeros. One changed bit is mended.
    With two the trial is marked and the words are read as they are. With more the decoder does
    what its syndrome says: an odd number may look like one, so that another bit is flipped; an even
    number may look like none.

    Example:
        >>> import torch
        >>> from bitproof.quant import quantize
        >>> network = quantize(torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.rand(8, 4))
        >>> flips = [(0, 5, 7), (1, 0, 0), (1, 0, 1)]  # trial, word, bit
        >>> rows = [(t, "weight", "0", word, -1, bit, "flip") for t, word, bit in flips]
        >>> repaired = Secded().repair(FaultTable.from_rows(rows), network)
        >>> len(repaired.table), repaired.detected.tolist()
        (2, [False, True])
    """

    kind: Literal["secded"] = "secded"
    data_bits: Annotated[int, Field(ge=8, le=1024, strict=True)] = 64
    """Data bits in a code word; a stored word must fit in."""
    sites: tuple[StoredSite, ...] = ("weight", "bias")
    """Which words are coded."""

    def repair(self, table: FaultTable, network: IntegerNetwork) -> Repaired:
        """Return what the decoder gives: fewer flips, and those that it makes itself."""
        return self._decode(table, network, None)[0]

    def redundancy(self, network: IntegerNetwork) -> dict[str, tuple[Tensor, int]]:
        """Return the check bits, a word of them for each code word."""
        n_checks = check_bits(self.data_bits)
        return {
            name: (self._encode(coded), n_checks)
            for name, coded in covered(network, self.sites).items()
        }

    def read(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what the decoder gives, of broken data and check bits."""
        return self.decoded(network, codes, redundant)[0]

    @property
    def counts_words(self) -> bool:
        """Whether `decoded` tells how many words broke: always."""
        return True

    def decoded(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], DecodedWords | None]:
        """Return what the decoder gives, and what it made of the code words that broke."""
        stored = {name: pair for name, pair in network.codes().items() if name in codes}
        written = self.redundancy(network) if redundant else {}
        checks = changed_bits(written, redundant or {})
        decoded, words = self._decode(changed_bits(stored, codes), network, checks)
        return read_words(stored, decoded.table), words

    def _decode(
        self, table: FaultTable, network: IntegerNetwork, checks: FaultTable | None
    ) -> tuple[Repaired, DecodedWords]:
        """Return the table behind the decoder, where `checks` are flips in check words.

        And how many code words broke, by what the decoder made of them.
        """
        detected = np.zeros(table.n_trials, bool)
        blocks = find_blocks(
            table,
            network,
            self.sites,
            words_per_block=self._words_per_code,
            checks=checks,
            check_place=self.data_bits,
        )
        if blocks is None:
            return Repaired(table, detected), DecodedWords()
        columns = np.array(hsiao_columns(self.data_bits))
        every = np.append(columns, 1 << np.arange(check_bits(self.data_bits)))
        syndrome = np.bitwise_xor.reduceat(
            np.where(blocks.changed, every[blocks.place], 0), blocks.starts
        )
        verdict = _decoder(columns)[syndrome]
        clean = blocks.n_changed <= 1
        uncorrectable = verdict == UNCORRECTABLE
        detected[blocks.table.trial[blocks.first[uncorrectable]]] = True
        words = DecodedWords(
            corrected=int((blocks.n_changed == 1).sum()),
            detected=int(uncorrectable.sum()),
            silent=int((~uncorrectable & ~clean).sum()),
        )

        wrong = np.flatnonzero((verdict >= 0) & ~clean)
        word, bit = np.divmod(verdict[wrong], blocks.bits[wrong])
        element = blocks.word[wrong] + word
        real = (word < blocks.span[wrong]) & (element < blocks.size[wrong])  # else it flips padding
        read = replace_rows(
            blocks.table,
            blocks.rows_of(clean),
            blocks.first[wrong[real]],
            element=element[real],
            bit=bit[real],
            action=np.full(real.sum(), FLIP),
        )
        return Repaired(read, detected), words

    def _encode(self, coded: CodedTensor) -> Integer[Tensor, " b"]:
        """Return the check word of each code word of a tensor."""
        span, bits = self._words_per_code(coded), coded.grid.bits
        columns, n_checks = hsiao_columns(self.data_bits), check_bits(self.data_bits)
        raw = coded.codes.detach().cpu().contiguous().view(-1).numpy()
        raw = np.append(raw, np.zeros(-len(raw) % span, raw.dtype))
        parts = raw.view(np.uint8).reshape(-1, span, raw.itemsize)
        words = np.zeros(len(parts), np.int16)
        for word in range(span):
            for byte in range(raw.itemsize):
                place = word * bits + 8 * byte
                own = columns[place : place + min(8, bits - 8 * byte)]
                words ^= _sums(own)[parts[:, word, byte]]
        if n_checks <= 8:
            return torch.from_numpy(words.astype(np.uint8))
        above = 16 - n_checks  # signed words are sign-extended
        return torch.from_numpy(words << above >> above)

    def _words_per_code(self, coded: CodedTensor) -> int:
        if coded.grid.bits > self.data_bits:
            raise SpecError(
                f"data_bits: wanted {coded.grid.bits} or more, the width of a word of "
                f"shape {tuple(coded.codes.shape)}, got {self.data_bits}"
            )
        return self.data_bits // coded.grid.bits


@PROTECTIONS.register
class Parity(Protection):
    """Detect an odd number of wrong bits in a word, by one parity bit for each.

    Example:
        >>> import torch
        >>> from bitproof.quant import Grid
        >>> grid = Grid(torch.tensor(0.1), torch.tensor(6, dtype=torch.int32), 3, signed=False)
        >>> weight = CodedTensor(torch.tensor([0, 5], dtype=torch.uint8), grid)
        >>> network = IntegerNetwork((), {"conv1.weight": weight}, {})
        >>> table = FaultTable.from_rows([(0, "weight", "conv1", 1, -1, 2, "flip")])
        >>> [row[3:] for row in Parity().repair(table, network).table.rows()]
        [(1, -1, 0, 'stuck0'), (1, -1, 1, 'stuck1'), (1, -1, 2, 'stuck1')]
    """

    kind: Literal["parity"] = "parity"
    zero: bool = True
    """Read a wrong word as the value 0 (its zero point, clamped into the word); else mark the
    trial as detected and read the word as it is."""
    sites: tuple[StoredSite, ...] = ("weight", "bias")
    """Which words have a parity bit."""

    def repair(self, table: FaultTable, network: IntegerNetwork) -> Repaired:
        """Return the table with detected words stuck at zero, or unchanged but with marks."""
        detected = np.zeros(table.n_trials, bool)
        blocks = find_blocks(table, network, self.sites, words_per_block=lambda _: 1)
        if blocks is None:
            return Repaired(table, detected)
        odd = blocks.n_changed % 2 == 1
        if not self.zero:
            detected[table.trial[blocks.first[odd]]] = True
            return Repaired(table, detected)
        first, bits = blocks.first[odd], blocks.bits[odd]
        word = np.zeros(len(first), np.int64)
        for number, coded in enumerate(blocks.tensors):
            mine = blocks.tensor[odd] == number
            zeros = zero_codes(coded).flatten().cpu().numpy()
            word[mine] = zeros[table.element[first[mine]]]
        sources, word = np.repeat(first, bits), np.repeat(word, bits)
        bit = np.arange(len(sources)) - np.repeat(np.cumsum(bits) - bits, bits)
        action = np.where(word >> bit & 1, STUCK1, STUCK0)
        gone = blocks.rows_of(odd)
        return Repaired(replace_rows(table, gone, sources, bit=bit, action=action), detected)

    def redundancy(self, network: IntegerNetwork) -> dict[str, tuple[Tensor, int]]:
        """Return the parity bit of each word."""
        return {
            name: (_parity(coded.codes, coded.grid.bits), 1)
            for name, coded in covered(network, self.sites).items()
        }

    def read(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return zero for each word whose parity is not that of its parity bit."""
        read = dict(codes)
        if not self.zero:
            return read
        for name, coded in covered(network, self.sites).items():
            if name in codes:
                bits = coded.grid.bits
                known = (redundant or {}).get(name)
                parity = (
                    _parity(coded.codes, bits) if known is None else known.to(coded.codes.device)
                )
                odd = _parity(codes[name], bits) != parity
                read[name] = torch.where(odd, zero_codes(coded), codes[name])
        return read

    @property
    def counts_words(self) -> bool:
        """Whether `decoded` tells how many words broke: where they are not zeroed."""
        return not self.zero

    def decoded(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], DecodedWords | None]:
        """Return what is read; where words are not zeroed, how many were found broken or not."""
        read = self.read(network, codes, redundant)
        if self.zero:
            return read, None
        detected = broken = 0
        for name, coded in covered(network, self.sites).items():
            if name in codes:
                bits, known = coded.grid.bits, (redundant or {}).get(name)
                whole = _parity(coded.codes, bits)
                parity = whole if known is None else known.to(codes[name].device)
                odd = _parity(codes[name], bits) != parity
                detected += int(odd.sum())
                wrong = (codes[name] != coded.codes) | (parity != whole)
                broken += int((wrong & ~odd).sum())
        return read, DecodedWords(detected=detected, silent=broken)


def check_bits(data_bits: int) -> int:
    """Return how many check bits a SECDED code needs.

    Example:
        >>> [check_bits(data_bits) for data_bits in (8, 16, 32, 64, 128)]
        [5, 6, 7, 8, 9]
    """
    count = 3
    # Columns are the odd-weight vectors; those of weight 1 belong to the check bits.
    while 2 ** (count - 1) - count < data_bits:
        count += 1
    return count


@lru_cache
def hsiao_columns(data_bits: int) -> tuple[int, ...]:
    """Return the column of the parity-check matrix for each data bit, as an integer.

    Columns are distinct, of odd weight and as light as can be; of the heaviest ones those are
    taken, one by one, that keep the ones in each row (the inputs of each check) balanced. The
    columns of the check bits are the powers of two.

    Example:
        >>> [f"{column:05b}" for column in hsiao_columns(8)]
        ['00111', '11001', '01110', '10011', '11100', '01011', '10101', '10110']
    """
    rows = check_bits(data_bits)
    load = [0] * rows
    columns: list[int] = []
    for weight in range(3, rows + 1, 2):
        free = list(combinations(range(rows), weight))
        while free and len(columns) < data_bits:
            lightest = min(free, key=lambda ones: sum(load[row] for row in ones))
            free.remove(lightest)
            columns.append(sum(1 << row for row in lightest))
            for row in lightest:
                load[row] += 1
    return tuple(columns)


def _decoder(columns: Int64[np.ndarray, " d"]) -> Int64[np.ndarray, " s"]:
    """Return for each syndrome the data bit to flip, or what happens instead."""
    n_checks = check_bits(len(columns))
    verdicts = np.full(1 << n_checks, UNCORRECTABLE)
    verdicts[0] = NOTHING
    verdicts[1 << np.arange(n_checks)] = NOTHING
    verdicts[columns] = np.arange(len(columns))
    return verdicts


def _sums(columns: tuple[int, ...]) -> Int16[np.ndarray, " v"]:
    """Return for each byte the sum, modulo 2, of the columns of its ones."""
    byte = np.arange(256)
    sums = np.zeros(256, np.int64)
    for bit, column in enumerate(columns):
        sums ^= np.where(byte >> bit & 1, column, 0)
    return sums.astype(np.int16)


def _parity(codes: Integer[Tensor, "*shape"], bits: int) -> UInt8[Tensor, "*shape"]:
    """Return whether each word of `bits` bits has an odd number of ones."""
    fold = codes.int() & ((1 << bits) - 1 if bits < 32 else -1)  # a copy
    for shift in (16, 8, 4, 2, 1):
        fold ^= fold >> shift
    return (fold & 1).to(torch.uint8)
