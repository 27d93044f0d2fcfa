"""Affine maps of a batch of images, such as rotations, pixel for pixel as Pillow moves them.

Model:  each image has an affine map from a pixel of the result to a place in the original. The
        nearest pixel is taken, in 16.16 fixed point; places outside get the fill value.
Source: `Image.transform(AFFINE, NEAREST)` of Pillow, whose arithmetic is repeated here: results
        are equal up to sides of about 20,000 pixels, where Pillow leaves fixed point.
"""

import math

import torch
from jaxtyping import Float64, UInt8
from torch import Tensor

from bitproof.data.color_changes import Pixels
from bitproof.data.select import select

Matrix = tuple[float, float, float, float, float, float]
"""`(a, b, c, d, e, f)`: the result at `(x, y)` is taken from `(ax + by + c, dx + ey + f)`."""

FRACTION = 16
"""Bits after the point in fixed point."""


def rotate(degrees: float, *, height: int, width: int) -> Matrix:
    """Return the map that turns images about their centre, counter-clockwise.

    Example:
        >>> rotate(0.0, height=32, width=32)
        (1.0, -0.0, 0.0, 0.0, 1.0, 0.0)
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y)


def warp(
    pixels: Pixels, matrices: Float64[Tensor, "n 6"], *, fill: UInt8[Tensor, "fills 1 1"]
) -> Pixels:
    """Return each image moved by its own map.

    Args:
        pixels: the images.
        matrices: one `Matrix` per image, on the device of `pixels`.
        fill: what places outside of the image hold, one value or one per channel.

    Example:
        >>> image = torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8)
        >>> move = torch.tensor([(1.0, 0.0, 1.0, 0.0, 1.0, 0.0)], dtype=torch.float64)
        >>> warp(image, move, fill=torch.tensor([[[9]]], dtype=torch.uint8)).tolist()
        [[[[2, 3, 9]]]]
    """
    channels, height, width = pixels.shape[1:]
    y = torch.arange(height, dtype=torch.int32, device=pixels.device)[:, None]
    x = torch.arange(width, dtype=torch.int32, device=pixels.device)
    column, inside_x = _places(matrices[:, 0:3], x, y, size=width)
    row, inside_y = _places(matrices[:, 3:6], x, y, size=height)
    source = (row * width + column).to(torch.int64).flatten(1)[:, None].expand(-1, channels, -1)
    moved = pixels.flatten(2).gather(2, source).view(pixels.shape)
    outside = ~(inside_x & inside_y)
    return select(outside[:, None], fill, moved)


def _places(
    rows: Float64[Tensor, "n 3"], x: Tensor, y: Tensor, *, size: int
) -> tuple[Tensor, Tensor]:
    """Return one source coordinate of every pixel, moved inside, and whether it was inside."""
    along, across, offset = rows.unbind(1)
    middle = offset + along * 0.5 + across * 0.5  # of a pixel, in the order of Pillow's additions
    fixed = torch.stack([along, across, middle]) * 2**FRACTION
    a, b, c = (fixed + 0.5).floor().to(torch.int32)[..., None, None]
    place = (a * x + b * y + c) >> FRACTION
    return place.clamp(0, size - 1), (place >= 0) & (place < size)
