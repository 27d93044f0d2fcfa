"""What every protection promises, and what a list of faults makes of blocks of words.

Model:  a protection is hardware between the bits that break and the network that reads them. Given
        the list of what breaks, it returns the list of what is read, so that an engine which
        replays lists needs to know nothing of protections. Lists name no parts of a protection, so
        there they never break. In a memory that breaks as a whole, whatever a protection stores
        beside the words, such as check bits, breaks as they do; what decides never breaks.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Int64, Integer
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.errors import FaultListError, near, shorten
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.faults.table import COLUMNS, SITES, FaultTable
from bitproof.faults.word_faults import changed_bits, group_starts, read_words, settle
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


@dataclass(frozen=True)
class DecodedWords:
    """How many code words of a memory broke, by what a decoder made of them.

    Example:
        >>> DecodedWords(corrected=2) + DecodedWords(detected=1)
        DecodedWords(corrected=2, detected=1, silent=0)
    """

    corrected: int = 0
    """Read as they were written."""
    detected: int = 0
    """Found broken beyond repair, and read as they are."""
    silent: int = 0
    """Wrong, with no sign of it: changed for the worse, or taken for whole."""

    def __add__(self, other: "DecodedWords") -> "DecodedWords":
        """Return the words of two decoders."""
        return DecodedWords(
            self.corrected + other.corrected,
            self.detected + other.detected,
            self.silent + other.silent,
        )


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

    def redundancy(self, network: IntegerNetwork) -> dict[str, tuple[Tensor, int]]:  # noqa: ARG002
        """Return words that it stores in the same memory, with their width in bits.

        They are named as the words of `network` that they belong to. None, unless a kind has some.

        Raises:
            SpecError: the words of `network` do not fit the protection.
        """
        return {}

    def overhead_bits(self, network: IntegerNetwork) -> int:
        """Return how many bits it stores beside those of the network."""
        return sum(words.numel() * bits for words, bits in self.redundancy(network).values())

    def read(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what is read in the place of broken words: as `repair`, for many faults at once.

        What is found broken beyond repair is read as it is. A kind with a `redundancy` overrides
        this.

        Args:
            network: holds the words as they were stored.
            codes: the broken words, by name.
            redundant: the words of `redundancy` as they broke; None: they are whole.

        Raises:
            SpecError: the words of `network` do not fit the protection.
        """
        assert not redundant, "a kind with words of its own reads them itself"
        stored = {name: pair for name, pair in network.codes().items() if name in codes}
        return read_words(stored, self.repair(changed_bits(stored, codes), network).table)

    @property
    def counts_words(self) -> bool:
        """Whether `decoded` tells how many words broke."""
        return False

    def decoded(
        self,
        network: IntegerNetwork,
        codes: Mapping[str, Tensor],
        redundant: Mapping[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], DecodedWords | None]:
        """Return what `read` does, and how many words broke; None where `counts_words` is False."""
        return self.read(network, codes, redundant), None


PROTECTIONS: Registry[Protection] = Registry("protections")
AnyProtection = Annotated[SerializeAsAny[Protection], BeforeValidator(PROTECTIONS.validate)]
"""A field of a spec that holds any protection, also as a table."""


def covered(network: IntegerNetwork, sites: tuple[StoredSite, ...]) -> dict[str, CodedTensor]:
    """Return the stored words of some sites, by name."""
    tensors = network.tensors.items()
    return {name: coded for name, coded in tensors if name.rpartition(".")[2] in sites}


def zero_codes(coded: CodedTensor) -> Integer[Tensor, "*shape"]:
    """Return for each word of a tensor the code nearest to the value 0.

    Example:
        >>> import torch
        >>> from bitproof.quant import Grid
        >>> grid = Grid(torch.tensor(0.1), torch.tensor(9, dtype=torch.int32), 3, signed=False)
        >>> zero_codes(CodedTensor(torch.tensor([0, 5], dtype=torch.uint8), grid))
        tensor([7, 7], dtype=torch.uint8)
    """
    grid, codes = coded.grid, coded.codes
    points = grid.zero_point.clamp(grid.low, grid.high).to(codes)
    return grid.spread(points, codes.ndim).expand(codes.shape)


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


def join_tables(table: FaultTable, other: FaultTable) -> tuple[FaultTable, Bool[np.ndarray, " f"]]:
    """Return the rows of two tables as one, by trial, and a mask of those of the other."""
    layers = tuple(dict.fromkeys((*table.layers, *other.layers)))
    places = np.array([layers.index(name) for name in other.layers], np.int32)
    columns = {
        name: np.concatenate([getattr(table, name), getattr(other, name)]) for name in COLUMNS
    }
    columns["layer"][len(table) :] = places[other.layer]
    mask = np.repeat([False, True], [len(table), len(other)])
    order = np.argsort(columns["trial"], kind="stable")
    return FaultTable.build(layers, table.n_trials, **columns), mask[order]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of words that break, each decoded as one, and the broken bits in them."""

    table: FaultTable
    """The list, and what breaks in check words."""
    check: Bool[np.ndarray, " f"]
    """Rows of check words."""
    tensors: list[CodedTensor]
    """Those that rows fall in."""
    rows: Int64[np.ndarray, " r"]
    """Rows of the table, ordered by trial, block and bit."""
    block: Int64[np.ndarray, " r"]
    """Number of each row's block."""
    first: Int64[np.ndarray, " b"]
    """For each block, one of its rows."""
    word: Int64[np.ndarray, " b"]
    """Number of its first word in the tensor."""
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

    def rows_of(self, chosen: Bool[np.ndarray, " b"]) -> Bool[np.ndarray, " f"]:
        """Return a mask of the table's rows that lie in chosen blocks, or in check words."""
        mask = self.check.copy()
        mask[self.rows[chosen[self.block]]] = True
        return mask


def find_blocks(
    table: FaultTable,
    network: IntegerNetwork,
    sites: tuple[StoredSite, ...],
    *,
    words_per_block: Callable[[CodedTensor], int],
    checks: FaultTable | None = None,
    check_place: int = 0,
) -> Blocks | None:
    """Return the blocks with faults and the bits that these change; None if no row is at `sites`.

    Args:
        table: the list of faults.
        network: holds the words as they were stored.
        sites: whose words lie in blocks; other rows are left out.
        words_per_block: gives the length of the blocks in a tensor.
        checks: flips in the check words, of which each block has one.
        check_place: position in the block of the first check bit, behind all data bits.

    Raises:
        FaultListError: a row at `sites` names a word or bit that `network` lacks.
    """
    check = np.zeros(len(table), bool)
    if checks is not None and len(checks):
        table, check = join_tables(table, checks)
    rows = np.flatnonzero(np.isin(table.site, [SITES.index(site) for site in sites]))
    if not len(rows):
        return None
    pair = table.site[rows].astype(np.int64) * len(table.layers) + table.layer[rows]
    pairs = np.flatnonzero(np.bincount(pair))
    tensor = np.searchsorted(pairs, pair)
    names = [
        f"{table.layers[layer]}.{SITES[site]}"
        for site, layer in zip(*np.divmod(pairs, len(table.layers)), strict=True)
    ]
    if unknown := [name for name in names if name not in network.tensors]:
        raise FaultListError(
            f"faults: no words {shorten(unknown[0])}. {near(unknown[0], network.tensors)}"
        )
    tensors = [network.tensors[name] for name in names]
    size = np.array([coded.codes.numel() for coded in tensors])
    bits = np.array([coded.grid.bits for coded in tensors])
    span = np.array([words_per_block(coded) for coded in tensors])
    bit, own_check = table.bit[rows], check[rows]
    # A check word has the number of its block.
    element = np.where(own_check, table.element[rows] * span[tensor], table.element[rows])
    outside = (element < 0) | (element >= size[tensor]) | (~own_check & (bit >= bits[tensor]))
    if outside.any():
        wrong = int(np.argmax(outside))
        raise FaultListError(
            f"faults: wanted a bit that '{names[tensor[wrong]]}' has, "
            f"got bit {bit[wrong]} of word {element[wrong]}"
        )

    number, word = np.divmod(element, span[tensor])
    place = np.where(own_check, check_place, word * bits[tensor]) + bit
    trial = np.cumsum(np.diff(table.trial[rows], prepend=table.trial[rows[0]]) != 0)
    n_blocks = -(-size // span)
    block = (np.cumsum(n_blocks) - n_blocks)[tensor] + number + trial * n_blocks.sum()
    width = int(place.max()) + 1
    key = block * width + place
    order = np.argsort(key, kind="stable")
    rows, tensor, key = rows[order], tensor[order], key[order]

    bit_starts = group_starts(key)
    broken = rows[bit_starts]
    at0, at1 = settle(table.action[rows], bit_starts)
    stored = np.zeros(len(broken), bool)
    for at, coded in enumerate(tensors):
        mine = np.flatnonzero((tensor[bit_starts] == at) & ~check[broken])
        codes = coded.codes.detach().cpu().flatten().numpy()[table.element[broken[mine]]]
        stored[mine] = codes.astype(np.int64) >> table.bit[broken[mine]] & 1
    row_starts = group_starts(key // width)
    of_block = tensor[row_starts]
    return Blocks(
        table,
        check,
        tensors,
        rows,
        block=np.repeat(np.arange(len(row_starts)), np.diff(row_starts, append=len(rows))),
        first=rows[row_starts],
        word=number[order[row_starts]] * span[of_block],
        tensor=of_block,
        bits=bits[of_block],
        span=span[of_block],
        size=size[of_block],
        starts=group_starts(key[bit_starts] // width),
        place=key[bit_starts] % width,
        changed=np.where(stored, ~at1, at0),
    )
