"""Which stored bits a list of faults changes, sorted by the code words that hold them.

Model:  the words of a tensor lie in their order in blocks of equally many, and a block is decoded
        as one. A flip changes its bit; a stuck bit changes only if the other value is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from bitproof.core.errors import FaultListError, near
from bitproof.faults.protection import group_starts, settle
from bitproof.faults.table import SITES, FaultTable
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork

StoredSite = Literal["weight", "bias"]
"""Words that are stored once, and so known beforehand."""


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

    Example:
        >>> import torch
        >>> from bitproof.quant import Grid
        >>> grid = Grid(torch.tensor(0.1), torch.tensor(0, dtype=torch.int32), 3, signed=False)
        >>> weight = CodedTensor(torch.tensor([0, 5, 1], dtype=torch.uint8), grid)
        >>> network = IntegerNetwork((), {"conv1.weight": weight}, {})
        >>> rows = [(0, "weight", "conv1", word, -1, 2, "stuck1") for word in range(3)]
        >>> table = FaultTable.from_rows(rows)
        >>> blocks = find_blocks(table, network, ("weight",), words_per_block=lambda _: 2)
        >>> blocks.place.tolist(), blocks.changed.tolist(), blocks.n_changed.tolist()
        ([2, 5, 2], [True, False, True], [1, 1])
    """
    rows = np.flatnonzero(np.isin(table.site, [SITES.index(site) for site in sites]))
    if not len(rows):
        return None
    pair = table.site[rows].astype(np.int64) * len(table.layers) + table.layer[rows]
    pairs, tensor = np.unique(pair, return_inverse=True)
    tensors = [_find_tensor(table, network, int(number)) for number in pairs]
    size = np.array([coded.codes.numel() for coded in tensors])
    bits = np.array([coded.grid.bits for coded in tensors])
    span = np.array([words_per_block(coded) for coded in tensors])
    element, bit = table.element[rows], table.bit[rows]
    outside = (element < 0) | (element >= size[tensor]) | (bit >= bits[tensor])
    if outside.any():
        row = int(rows[np.argmax(outside)])
        name = f"{table.layers[table.layer[row]]}.{SITES[table.site[row]]}"
        raise FaultListError(
            f"faults: wanted a bit that '{name}' has, "
            f"got bit {table.bit[row]} of word {table.element[row]}"
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


def _find_tensor(table: FaultTable, network: IntegerNetwork, pair: int) -> CodedTensor:
    site, layer = divmod(pair, len(table.layers))
    name = f"{table.layers[layer]}.{SITES[site]}"
    if name not in network.tensors:
        raise FaultListError(f"faults: no words '{name}'. {near(name, network.tensors)}")
    return network.tensors[name]
