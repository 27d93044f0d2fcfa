"""What every protection promises, and what a list of faults makes of bits and blocks of words.

Model:  a protection is hardware between the bits that break and the network that reads them. Given
        the list of what breaks, it returns the list of what is read, so that an engine which
        replays lists needs to know nothing of protections. Its own parts never break.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from bitproof.core.errors import FaultListError, near
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.faults.table import COLUMNS, FLIP, SITES, STUCK1, FaultTable
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork

StoredSite = Literal["weight", "bias"]
"""Words that are stored once, and so known beforehand."""


@dataclass(frozen=True, eq=False)
class Repaired:
    """What a protection leaves of a list of faults."""

    table: FaultTable
    """What the network reads: rows that matter no more are gone, rows that the hardware causes by
    its own mistakes come last in their trial."""
    detected: Bool[np.ndarray, " t"]
    """For each trial: something was found broken and could not be mended (DUE)."""


class Protection(Spec):
    """Hardware that detects, corrects or bounds what broken bits do."""

    kind: str

    @abstractmethod
    def repair(self, table: FaultTable, network: IntegerNetwork) -> Repaired:
        """Return what is read in the place of what breaks.

        Rows on one bit of one trial happen in their order; those at sites that the protection does
        not cover come back unchanged. `network` holds the words as they were stored: a stuck bit
        changes a word only if it differs from them.

        Raises:
            FaultListError: a row at a covered site names a word or bit that `network` lacks.
            SpecError: the words of `network` do not fit the protection.
        """


PROTECTIONS: Registry[Protection] = Registry("protections")


def group_starts(*keys: Integer[np.ndarray, " r"]) -> Int64[np.ndarray, " g"]:
    """Return where runs of rows with equal keys begin.

    Example:
        >>> group_starts(np.array([4, 4, 7]), np.array([0, 1, 1]))
        array([0, 1, 2])
    """
    begins = np.zeros(len(keys[0]), bool)
    begins[:1] = True
    for key in keys:
        begins[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(begins)


def settle(
    actions: UInt8[np.ndarray, " r"], starts: Int64[np.ndarray, " g"]
) -> tuple[Bool[np.ndarray, " g"], Bool[np.ndarray, " g"]]:
    """Return what a stored 0 and a stored 1 read as, after each run of actions on one bit.

    Example:
        >>> from bitproof.faults.table import STUCK0
        >>> at0, at1 = settle(np.array([FLIP, STUCK0, FLIP], np.uint8), np.array([0, 1]))
        >>> at0.tolist(), at1.tolist()
        ([True, True], [False, True])
    """
    if not len(starts):
        return np.zeros(0, bool), np.zeros(0, bool)
    flip = actions == FLIP
    last_stuck = np.maximum.reduceat(np.where(flip, -1, np.arange(len(actions))), starts)
    # Only the last stuck row and the flips after it count.
    first = np.maximum(last_stuck, starts)
    last = np.append(starts[1:], len(actions)) - 1
    flips = np.cumsum(flip)
    odd = (flips[last] - flips[first] + flip[first]) % 2 == 1
    stuck, one = last_stuck >= 0, actions[first] == STUCK1
    return (stuck & one) ^ odd, (~stuck | one) ^ odd


def replace_rows(
    table: FaultTable,
    dropped: Bool[np.ndarray, " f"],
    sources: Int64[np.ndarray, " a"],
    **changes: Integer[np.ndarray, " a"],
) -> FaultTable:
    """Return a table without the dropped rows and with others, which come last in their trial.

    `sources` names a row of `table` for each new one, from which it takes the columns that
    `changes` lacks.
    """
    columns = {}
    for name in COLUMNS:
        column = getattr(table, name)
        columns[name] = np.concatenate([column[~dropped], changes.get(name, column[sources])])
    return FaultTable.build(table.layers, table.n_trials, **columns)


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of words that break, each decoded as one, and the broken bits in them."""

    tensors: list[CodedTensor]
    """Those that rows fall in."""
    rows: Int64[np.ndarray, " r"]
    """Rows of the table, ordered by trial, block and bit."""
    block: Int64[np.ndarray, " r"]
    """Number of each row's block."""
    first: Int64[np.ndarray, " b"]
    """For each block, one of its rows."""
    tensor: Int64[np.ndarray, " b"]
    """Index into `tensors`."""
    bits: Int64[np.ndarray, " b"]
    """Width of the block's words."""
    span: Int64[np.ndarray, " b"]
    """Words in a block."""
    size: Int64[np.ndarray, " b"]
    """Words in the tensor."""
    starts: Int64[np.ndarray, " b"]
    """Where the bits of each block begin."""
    place: Int64[np.ndarray, " k"]
    """Position in the block of each broken bit."""
    changed: Bool[np.ndarray, " k"]
    """Whether it differs from what is stored."""

    @property
    def n_changed(self) -> Int64[np.ndarray, " b"]:
        """Changed bits in each block."""
        counts: np.ndarray = np.add.reduceat(self.changed.astype(np.int64), self.starts)
        return counts

    def rows_of(self, chosen: Bool[np.ndarray, " b"], n_rows: int) -> Bool[np.ndarray, " f"]:
        """Return a mask of the table's rows that lie in chosen blocks."""
        mask = np.zeros(n_rows, bool)
        mask[self.rows[chosen[self.block]]] = True
        return mask


def find_blocks(
    table: FaultTable,
    network: IntegerNetwork,
    sites: tuple[StoredSite, ...],
    *,
    words_per_block: Callable[[CodedTensor], int],
) -> Blocks | None:
    """Return the blocks with faults and the bits that these change; None if no row is at `sites`.

    Raises:
        FaultListError: a row at `sites` names a word or bit that `network` lacks.
    """
    rows = np.flatnonzero(np.isin(table.site, [SITES.index(site) for site in sites]))
    if not len(rows):
        return None
    pair = table.site[rows].astype(np.int64) * len(table.layers) + table.layer[rows]
    pairs, tensor = np.unique(pair, return_inverse=True)
    names = [
        f"{table.layers[layer]}.{SITES[site]}"
        for site, layer in zip(*np.divmod(pairs, len(table.layers)), strict=True)
    ]
    if unknown := [name for name in names if name not in network.tensors]:
        raise FaultListError(
            f"faults: no words '{unknown[0]}'. {near(unknown[0], network.tensors)}"
        )
    tensors = [network.tensors[name] for name in names]
    size = np.array([coded.codes.numel() for coded in tensors])
    bits = np.array([coded.grid.bits for coded in tensors])
    span = np.array([words_per_block(coded) for coded in tensors])
    element, bit = table.element[rows], table.bit[rows]
    outside = (element < 0) | (element >= size[tensor]) | (bit >= bits[tensor])
    if outside.any():
        wrong = int(np.argmax(outside))
        raise FaultListError(
            f"faults: wanted a bit that '{names[tensor[wrong]]}' has, "
            f"got bit {bit[wrong]} of word {element[wrong]}"
        )

    place = element % span[tensor] * bits[tensor] + bit
    _, trial = np.unique(table.trial[rows], return_inverse=True)
    n_blocks = -(-size // span)
    block = (np.cumsum(n_blocks) - n_blocks)[tensor] + element // span[tensor]
    block += trial * n_blocks.sum()
    width = int(place.max()) + 1
    key = block * width + place
    order = np.argsort(key, kind="stable")
    rows, tensor, key = rows[order], tensor[order], key[order]

    bit_starts = group_starts(key)
    broken = rows[bit_starts]
    at0, at1 = settle(table.action[rows], bit_starts)
    stored = np.zeros(len(broken), bool)
    for number, coded in enumerate(tensors):
        mine = np.flatnonzero(tensor[bit_starts] == number)
        codes = coded.codes.detach().cpu().flatten().numpy()[table.element[broken[mine]]]
        stored[mine] = codes.astype(np.int64) >> table.bit[broken[mine]] & 1
    row_starts = group_starts(key // width)
    of_block = tensor[row_starts]
    return Blocks(
        tensors,
        rows,
        block=np.repeat(np.arange(len(row_starts)), np.diff(row_starts, append=len(rows))),
        first=rows[row_starts],
        tensor=of_block,
        bits=bits[of_block],
        span=span[of_block],
        size=size[of_block],
        starts=group_starts(key[bit_starts] // width),
        place=key[bit_starts] % width,
        changed=np.where(stored, ~at1, at0),
    )
