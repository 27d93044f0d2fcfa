"""Where a multiplier errs: a map of its 65,536 errors, in characters or as a picture.

Model:  operands run by value, the first from top to bottom, the second from left to right. In
        characters, each stands for a block of pairs, and its darkness for the mean |e| in it, as a
        share of the largest such mean. In the picture, each pair is a dot of its own: blue where
        the product is too small, red where it is too large, white where it is right; the darkest
        shade is the worst-case error, and shades go with the square root of |e|.
"""

import io

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from bitproof.approx.base import ProductTable
from bitproof.kernels.forms import WORDS

SHADES = " .:-=+*#%@"
"""From no error to the largest."""
SCALE = 2
"""Pixels along each side of a pair of operands."""
BLUE, WHITE, RED = (33, 102, 172), (255, 255, 255), (178, 24, 43)
MARGIN = 28
"""Height of the captions above and below the picture, in pixels."""


def character_map(table: ProductTable, *, rows: int = 32, columns: int = 64) -> list[str]:
    """Return the map as lines of characters; `rows` and `columns` divide 256.

    Example:
        >>> from bitproof.approx import TruncatedOperands
        >>> character_map(TruncatedOperands(bits=4).table(), rows=4, columns=8)
        ['.:--==+*', '--==+**#', '==+**#%%', '+**#%%@@']
    """
    distances = table.by_value(table.errors).abs().double()
    blocks = distances.reshape(rows, WORDS // rows, columns, WORDS // columns).mean((1, 3))
    largest = float(blocks.max()) or 1.0
    # Any error at all shows.
    levels = (blocks / largest * (len(SHADES) - 1)).ceil().long().tolist()
    return ["".join(SHADES[level] for level in line) for line in levels]


def picture(table: ProductTable) -> UInt8[Tensor, "256 256 3"]:
    """Return the map as red, green and blue of each pair.

    Example:
        >>> from bitproof.approx import Kulkarni
        >>> picture(Kulkarni().table())[255, 255].tolist()
        [33, 102, 172]
    """
    errors = table.by_value(table.errors).double()
    largest = max(1.0, float(errors.abs().max()))
    depth = (errors.abs() / largest).sqrt()[..., None]
    dark = torch.where(errors[..., None] < 0, torch.tensor(BLUE), torch.tensor(RED))
    return (torch.tensor(WHITE) * (1 - depth) + dark * depth).round().to(torch.uint8)


def png(table: ProductTable, title: str) -> bytes:
    """Return the picture with its captions as a PNG file.

    Example:
        >>> from bitproof.approx import Exact
        >>> png(Exact().table(), "exact")[1:4]
        b'PNG'
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415 (slow to import, and most uses need none)

    dots = picture(table).numpy().repeat(SCALE, 0).repeat(SCALE, 1)
    side = len(dots)
    canvas = np.full((side + 2 * MARGIN, side, 3), WHITE, dtype=np.uint8)
    canvas[MARGIN : MARGIN + side] = dots
    image = Image.fromarray(canvas)
    (low, high), (least, most) = (
        [int(end) for end in numbers.aminmax()] for numbers in (table.operands, table.errors)
    )
    above = f"{title}: product - exact, {least} (blue) to {most} (red)"
    below = f"first operand (activation) down, second (weight) right, both from {low} to {high}"
    for top, caption in ((8, above), (MARGIN + side + 8, below)):
        ImageDraw.Draw(image).text((4, top), caption, fill="black")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
