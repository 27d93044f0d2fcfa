"""Codes over stored words: SECDED that corrects one bit, and parity that finds one.

Model:  weights and biases lie in a memory with check bits, written with the words. Whatever reads a
        word has it decoded first. The words of a tensor lie in their order in blocks of equally
        many, each decoded as one. Only data bits break, never check bits; a fault list names no
        others. Activations are not covered: their words change with each image, so a list alone
        does not tell which of their stuck bits matter.
Source: Hsiao, "A Class of Optimal Minimum Odd-weight-column SEC-DED Codes", IBM J. Res. Dev. 14(4),
        1970.
"""

from functools import lru_cache
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from bitproof.core.errors import SpecError
from bitproof.faults.protection import (
    PROTECTIONS,
    Protection,
    Repaired,
    StoredSite,
    find_blocks,
    replace_rows,
)
from bitproof.faults.table import FLIP, STUCK0, STUCK1, FaultTable
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
        detected = np.zeros(table.n_trials, bool)
        blocks = find_blocks(table, network, self.sites, words_per_block=self._words_per_code)
        if blocks is None:
            return Repaired(table, detected)
        columns = np.array(hsiao_columns(self.data_bits))
        syndrome = np.bitwise_xor.reduceat(
            np.where(blocks.changed, columns[blocks.place], 0), blocks.starts
        )
        verdict = _decoder(columns)[syndrome]
        clean = blocks.n_changed <= 1
        detected[table.trial[blocks.first[verdict == UNCORRECTABLE]]] = True

        wrong = np.flatnonzero((verdict >= 0) & ~clean)
        bits, span = blocks.bits[wrong], blocks.span[wrong]
        word, bit = np.divmod(verdict[wrong], bits)
        element = table.element[blocks.first[wrong]] // span * span + word
        real = (word < span) & (element < blocks.size[wrong])  # else it flips padding
        read = replace_rows(
            table,
            blocks.rows_of(clean, len(table)),
            blocks.first[wrong[real]],
            element=element[real],
            bit=bit[real],
            action=np.full(real.sum(), FLIP),
        )
        return Repaired(read, detected)

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
            word[mine] = _zero_codes(coded, table.element[first[mine]])
        sources, word = np.repeat(first, bits), np.repeat(word, bits)
        bit = np.arange(len(sources)) - np.repeat(np.cumsum(bits) - bits, bits)
        action = np.where(word >> bit & 1, STUCK1, STUCK0)
        gone = blocks.rows_of(odd, len(table))
        return Repaired(replace_rows(table, gone, sources, bit=bit, action=action), detected)


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


def _zero_codes(coded: CodedTensor, element: Int64[np.ndarray, " f"]) -> Int64[np.ndarray, " f"]:
    """Return the codes nearest to the value 0 for words of a tensor."""
    grid, shape = coded.grid, coded.codes.shape
    points = grid.zero_point.clamp(grid.low, grid.high).long().cpu()
    codes: np.ndarray = grid.spread(points, len(shape)).expand(shape).flatten().numpy()[element]
    return codes
