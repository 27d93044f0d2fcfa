"""Self-attention within windows of a map, which may be shifted by half a window.

Model:  tokens lie on a square map and attend to those of their own window, with a learned bias
        for each relative position. The windows of a shifted layer are cut off by the map's edges:
        3 x 3 strips with windows of several shapes. In training the map is rolled instead, so that
        all windows have one shape, and a mask of -100 keeps apart what only the roll has brought
        together: the same result in fewer, larger products. Evaluation goes without the mask,
        which would take most words of an 8-bit grid away from scores of about 1.
Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        ICCV 2021, section 3.2 and figures 2 and 4. Names and shapes are torchvision's; as there, a
        map whose side is no multiple of the window is padded with zeros.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from bitproof.models.shapes import Maps

MASKED = -100.0
"""Added to the scores between tokens that are no neighbours."""

Strip = tuple[int, int, int]
"""First row, row behind the last, and rows of one window; likewise for columns."""


def cut_strips(side: int, window: int, shift: int) -> list[Strip]:
    """Return the strips of a map in which windows have one height.

    The first of them is `shift` rows high, or none if 0. `side` is a multiple of `window`.

    Example:
        >>> cut_strips(14, 7, 3)
        [(0, 3, 3), (3, 10, 7), (10, 14, 4)]
    """
    if shift == 0:
        return [(0, side, window)]
    edge = side - (window - shift)
    return [(0, shift, shift), (shift, edge, window), (edge, side, window - shift)]


def relative_positions(window: int) -> Tensor:
    """Return the row of the bias table for each pair of tokens of a window, flattened.

    Example:
        >>> relative_positions(2).reshape(4, 4)[0]
        tensor([4, 3, 1, 0])
    """
    place = torch.arange(window)
    apart = place[:, None] - place[None, :] + window - 1
    rows, columns = apart[:, None, :, None], apart[None, :, None, :]
    return (rows * (2 * window - 1) + columns).flatten()


def mask_rolled(side: int, window: int, shift: int) -> Tensor:
    """Return 0 for each pair of tokens of a rolled map's window that are neighbours, else -100.

    Example:
        >>> mask_rolled(2, 2, 1)[0, 0, 0]
        tensor([   0., -100., -100., -100.])
    """
    lengths = torch.tensor([side - window, window - shift, shift])
    strip = torch.arange(3).repeat_interleave(lengths, output_size=side)
    region = 3 * strip[:, None] + strip
    count = side // window
    windows = region.reshape(count, window, count, window).transpose(1, 2).flatten(2).flatten(0, 1)
    together = windows[:, None, :, None] == windows[:, None, None, :]
    return torch.where(together, 0.0, MASKED)


class WindowAttention(nn.Module):
    """Multi-head self-attention of `n i j d` maps within windows.

    Example:
        >>> layer = WindowAttention(8, 2, side=6, window=4, shift=2)
        >>> layer(torch.rand(1, 6, 6, 8)).shape
        torch.Size([1, 6, 6, 8])
    """

    relative_position_index: Tensor
    """Row of the bias table for each pair of tokens of a window."""
    mask: Tensor
    """What training adds to the scores of a shifted layer, window by window."""

    def __init__(self, width: int, heads: int, *, side: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.side, self.window, self.shift = heads, side, window, shift
        self.head_width = width // heads
        self.scale = self.head_width**-0.5
        self.padding = -side % window
        padded = side + self.padding
        self.strips = cut_strips(padded, window, shift)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        table = torch.zeros((2 * window - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_positions(window))
        if shift:
            self.register_buffer("mask", mask_rolled(padded, window, shift), persistent=False)

    def forward(self, maps: Maps) -> Maps:
        """Return what the tokens gather from their windows."""
        around = (0, 0, 0, self.padding, 0, self.padding)
        padded = functional.pad(maps, around) if self.padding else maps
        q, k, v = self.qkv(padded).chunk(3, dim=-1)
        mix = self._mix_rolled if self.shift and self.training else self._mix_strips
        mixed: Maps = self.proj(mix([q * self.scale, k, v]))
        return mixed[:, : self.side, : self.side] if self.padding else mixed

    def _mix_strips(self, qkv: list[Maps]) -> Maps:
        """Attend strip by strip, in windows that the edges cut off."""
        bands = []
        for rows in self.strips:
            pieces = []
            for columns in self.strips:
                bias = self._bias(rows[2], columns[2])
                parts = [x[:, rows[0] : rows[1], columns[0] : columns[1]] for x in qkv]
                pieces.append(self._mix(parts, bias, rows=rows, columns=columns))
            bands.append(torch.cat(pieces, dim=2) if self.shift else pieces[0])
        return torch.cat(bands, dim=1) if self.shift else bands[0]

    def _mix_rolled(self, qkv: list[Maps]) -> Maps:
        """Attend in whole windows of the rolled map, and roll back."""
        whole = (0, self.side + self.padding, self.window)
        rolled = [torch.roll(x, (-self.shift, -self.shift), (1, 2)) for x in qkv]
        bias = self._bias(self.window, self.window) + self.mask
        mixed = self._mix(rolled, bias, rows=whole, columns=whole)
        return torch.roll(mixed, (self.shift, self.shift), (1, 2))

    def _bias(self, rows: int, columns: int) -> Maps:
        """Return the bias between the tokens of a window of `rows` x `columns`: `heads t t`."""
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.reshape(self.window, self.window, self.window, self.window, self.heads)
        bias = bias[:rows, :columns, :rows, :columns]
        return bias.reshape(rows * columns, rows * columns, self.heads).permute(2, 0, 1)

    def _mix(self, qkv: list[Maps], bias: Maps, *, rows: Strip, columns: Strip) -> Maps:
        """Attend within the windows of one part of the map."""
        q, k, v = (self._split(x, rows, columns) for x in qkv)
        weights = (q @ k.transpose(-2, -1) + bias).softmax(dim=-1)
        return self._join(weights @ v, rows, columns)

    def _split(self, maps: Maps, rows: Strip, columns: Strip) -> Maps:
        """Return the tokens of each window and head, `n windows heads t d`."""
        (down, height), (across, width) = _count(rows), _count(columns)
        apart = maps.reshape(-1, down, height, across, width, self.heads, self.head_width)
        return apart.permute(0, 1, 3, 5, 2, 4, 6).reshape(
            -1, down * across, self.heads, height * width, self.head_width
        )

    def _join(self, tokens: Maps, rows: Strip, columns: Strip) -> Maps:
        """Undo `_split`."""
        (down, height), (across, width) = _count(rows), _count(columns)
        apart = tokens.reshape(-1, down, across, self.heads, height, width, self.head_width)
        return apart.permute(0, 1, 4, 2, 5, 3, 6).reshape(
            -1, down * height, across * width, self.proj.in_features
        )


def _count(strip: Strip) -> tuple[int, int]:
    """Return how many windows lie in a strip, and the size of each."""
    start, stop, size = strip
    return (stop - start) // size, size
