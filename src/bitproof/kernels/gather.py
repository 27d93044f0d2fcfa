"""Sums of table products by torch alone: where no compiled kernel is, and on any device.

Model:  for one word of the input, the products with all filters are a row of a matrix, and the sum
        over a window is a sum of such rows: an embedding bag. Rows hold float32; a slice of at
        most 256 products below 2**16 sums exactly, and slices add in int32, which wraps.
"""

import torch
from jaxtyping import Int32, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from bitproof.kernels.exact_floats import EXACT_FLOAT32
from bitproof.kernels.forms import WORDS
from bitproof.kernels.geometry import Geometry

ROWS = 1 << 19
"""Numbers in the rows of one slice: 2 MiB."""
PATCHES = 1 << 26
"""Words under all windows that are laid out at once."""
FEW = 8
"""Filters of a group below which they are taken one by one."""


def gathered_sums(
    words: UInt8[Tensor, "n c h w"],
    weight: UInt8[Tensor, "m d kh kw"],
    tables: Int32[Tensor, "t 256 256"],
    choice: Int64[Tensor, " m"],
    *,
    geometry: Geometry,
) -> Int32[Tensor, "n m y x"]:
    """Return sums of products that are looked up, modulo 2**32; arguments are as in `LookUp`.

    Example:
        >>> tables = torch.arange(256).outer(torch.arange(256)).int()[None]
        >>> word, weight = torch.full((1, 1, 1, 1), 20).byte(), torch.full((1, 1, 1, 1), 30).byte()
        >>> gathered_sums(word, weight, tables, torch.zeros(1).long(), geometry=Geometry()).item()
        600
    """
    # One row for each table and word of a weight: its products with all words of the input.
    rows = tables.transpose(1, 2).reshape(-1, WORDS)
    named = weight.flatten(1).long() + WORDS * choice.to(weight.device)[:, None]
    taps = weight[0].numel() * geometry.groups
    images = max(PATCHES // (taps * words.shape[2] * words.shape[3]), 1)
    sums = _by_filter if len(weight) < FEW * geometry.groups else _by_group
    parts = [
        sums(windows(part, weight.shape[2:], geometry), named, rows, groups=geometry.groups)
        for part in torch.split(words, images)
    ]
    return torch.cat(parts)


def windows(
    words: UInt8[Tensor, "n c h w"], size: torch.Size, geometry: Geometry
) -> UInt8[Tensor, "n k y x"]:
    """Return the words under each window, channels first, then rows and columns of the window.

    Example:
        >>> maps, size = torch.arange(9).byte().reshape(1, 1, 3, 3), torch.Size([2, 2])
        >>> windows(maps, size, Geometry())[0, :, 0, 0]
        tensor([0, 1, 3, 4], dtype=torch.uint8)
    """
    return torch.stack([*geometry.taps(words, size)], 2).flatten(1, 2)


def _by_filter(
    columns: UInt8[Tensor, "n k y x"],
    named: Int64[Tensor, "m d"],
    rows: Int32[Tensor, "r 256"],
    *,
    groups: int,
) -> Int32[Tensor, "n m y x"]:
    """Return sums where groups have few filters: product by product, all groups at once."""
    n, _, high, wide = columns.shape
    grouped = columns.reshape(n, groups, -1, high, wide)
    starts, entries = WORDS * named.reshape(groups, -1, named.shape[1]), rows.reshape(-1)
    sums = []
    for own in starts.unbind(1):
        total = torch.zeros(n, groups, high, wide, dtype=torch.int32, device=columns.device)
        for tap, start in enumerate(own.unbind(1)):
            total += entries[grouped[:, :, tap] + start[:, None, None]]
        sums.append(total)
    return torch.stack(sums, 2).flatten(1, 2)


def _by_group(
    columns: UInt8[Tensor, "n k y x"],
    named: Int64[Tensor, "m d"],
    rows: Int32[Tensor, "r 256"],
    *,
    groups: int,
) -> Int32[Tensor, "n m y x"]:
    """Return sums where groups have many filters: all filters of a group at once."""
    n, _, high, wide = columns.shape
    grouped = columns.reshape(n, groups, -1, high * wide)
    per_group = len(named) // groups
    sums = torch.empty(n, len(named), high * wide, dtype=torch.int32, device=columns.device)
    for group in range(groups):
        own = slice(group * per_group, (group + 1) * per_group)
        patches = grouped[:, group].transpose(1, 2).int().reshape(n * high * wide, -1)
        total = _sums(patches, named[own], rows)
        sums[:, own] = total.reshape(n, high * wide, per_group).transpose(1, 2)
    return sums.reshape(n, -1, high, wide)


def _sums(
    patches: Int32[Tensor, "p k"], named: Int64[Tensor, "m k"], rows: Int32[Tensor, "r 256"]
) -> Int32[Tensor, "p m"]:
    """Return the sums of one group; `named` tells the row of each weight."""
    filters, taps = named.shape
    largest = max(int(rows.max()), -int(rows.min()), 1)
    step = min(EXACT_FLOAT32 // largest, max(ROWS // (WORDS * filters), 1))
    if step == 0:  # products that float32 does not hold: their halves are summed one by one
        low = rows & 0xFFFF
        halves = [_sums(patches, named, half) for half in (low, (rows - low) >> 16)]
        return halves[0] + (halves[1] << 16)
    real = rows.float()
    shift = WORDS * torch.arange(step, dtype=torch.int32, device=patches.device)
    total = torch.zeros(len(patches), filters, dtype=torch.int32, device=patches.device)
    for start in range(0, taps, step):
        part = named[:, start : start + step]
        bags = real[part].permute(1, 2, 0).reshape(-1, filters).contiguous()
        index = patches[:, start : start + step] + shift[: part.shape[1]]
        total += functional.embedding_bag(index, bags, mode="sum").to(torch.int32)
    return total
