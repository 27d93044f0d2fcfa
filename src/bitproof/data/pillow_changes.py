"""Changes of a batch of images, level for level and pixel for pixel as Pillow makes them.

Model:  every change of tone and colour is a function of 8-bit levels, with its own amount for each
        image. Grey images are images of one channel; the colour of a grey image cannot change.
        An affine change maps each pixel of the result to a place in the original. The nearest
        pixel is taken, in 16.16 fixed point; places outside get the fill value.
Source: `ImageOps`, `ImageEnhance` and `Image.transform(AFFINE, NEAREST)` of Pillow, whose rounding
        is repeated here: blends in float32, cut off, not rounded; stretching in float64. Results
        are equal, not close (affine maps up to sides of about 20,000 pixels, where Pillow leaves
        fixed point).
"""

import math

import torch
from jaxtyping import Bool, Float, Float64, Int, Shaped, UInt8
from torch import Tensor

Pixels = UInt8[Tensor, "n c h w"]
"""Images as 8-bit levels."""
Amounts = Float[Tensor, " n"]
"""One number per image."""
LUMA = (19_595, 38_470, 7_471)
"""Weights of red, green and blue in grey (ITU-R 601-2), out of 65,536."""
Matrix = tuple[float, float, float, float, float, float]
"""`(a, b, c, d, e, f)`: the result at `(x, y)` is taken from `(ax + by + c, dx + ey + f)`."""
FRACTION = 16
"""Bits after the point in fixed point."""


def select(
    chosen: Bool[Tensor, "*#shape"], this: Shaped[Tensor, "*#shape"], that: Shaped[Tensor, "*shape"]
) -> Shaped[Tensor, "*shape"]:
    """Return `this` where `chosen`, elsewhere `that`; the first two may be broadcast.

    The answer is that of `torch.where`, whose loop over bytes is ten times slower on a CPU.

    Example:
        >>> chosen = torch.tensor([True, False])
        >>> select(chosen, torch.tensor([7], dtype=torch.uint8), torch.zeros(2, dtype=torch.uint8))
        tensor([7, 0], dtype=torch.uint8)
    """
    if that.dtype == torch.uint8 and that.device.type == "cpu":
        return that ^ ((that ^ this) * chosen)
    return torch.where(chosen, this, that)


def invert(pixels: Pixels) -> Pixels:
    """Return the negatives.

    Example:
        >>> invert(torch.full((1, 1, 1, 1), 5, dtype=torch.uint8)).item()
        250
    """
    return 255 - pixels


def solarize(pixels: Pixels, thresholds: Amounts) -> Pixels:
    """Return images whose levels from a threshold on (0 to 256) are inverted.

    Example:
        >>> solarize(torch.full((1, 1, 1, 1), 200, dtype=torch.uint8), torch.tensor([128.0])).item()
        55
    """
    return select(pixels >= _per_image(thresholds), 255 - pixels, pixels)


def posterize(pixels: Pixels, bits: Int[Tensor, " n"]) -> Pixels:
    """Return images that keep only the highest bits (1 to 8) of each level.

    Example:
        >>> posterize(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), torch.tensor([4])).item()
        240
    """
    dropped = _per_image(8 - bits).to(torch.uint8)
    return (pixels >> dropped) << dropped


def brightness(pixels: Pixels, factors: Amounts) -> Pixels:
    """Return images blended with black: 0 is black, 1 no change, more is brighter.

    Example:
        >>> brightness(torch.full((1, 1, 1, 1), 99, dtype=torch.uint8), torch.tensor([0.5])).item()
        49
    """
    return _blend(torch.zeros_like(pixels), pixels, factors)


def contrast(pixels: Pixels, factors: Amounts) -> Pixels:
    """Return images blended with their mean grey: 0 is flat, 1 no change.

    Example:
        >>> image = torch.tensor([[[[0, 100]]]], dtype=torch.uint8)
        >>> contrast(image, torch.tensor([0.5])).tolist()
        [[[[25, 75]]]]
    """
    grey = _grey(pixels)
    size = grey[0, 0].numel()
    mean = (2 * grey.sum((2, 3), keepdim=True, dtype=torch.int64) + size) // (2 * size)
    return _blend(mean, pixels, factors)


def color(pixels: Pixels, factors: Amounts) -> Pixels:
    """Return images blended with their grey version: 0 is grey, 1 no change.

    Example:
        >>> red = torch.tensor([[[[255]], [[0]], [[0]]]], dtype=torch.uint8)
        >>> color(red, torch.tensor([0.0])).flatten().tolist()
        [76, 76, 76]
    """
    return _blend(_grey(pixels), pixels, factors)


def sharpness(pixels: Pixels, factors: Amounts) -> Pixels:
    """Return images blended with their smoothed version: 0 is smooth, 1 no change.

    The smoothing weighs a pixel 5 and its eight neighbours 1; the outermost pixels stay.

    Example:
        >>> image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
        >>> image[0, 0, 1, 1] = 130
        >>> sharpness(image, torch.tensor([0.0]))[0, 0, 1].tolist()
        [0, 50, 0]
    """
    height, width = pixels.shape[2:]
    smooth = pixels.clone()
    if height > 2 and width > 2:
        wide = pixels.to(torch.int16)
        rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
        sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * wide[:, :, 1:-1, 1:-1]
        # Thirteenths are never halfway: float32 rounds them as the integers would.
        smooth[:, :, 1:-1, 1:-1] = (sums.to(torch.float32) / 13 + 0.5).to(torch.uint8)
    return _blend(smooth, pixels, factors)


def autocontrast(pixels: Pixels) -> Pixels:
    """Return images whose channels are stretched to run from 0 to 255; flat ones stay.

    Example:
        >>> autocontrast(torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)).tolist()
        [[[[0, 127, 255]]]]
    """
    low = pixels.amin((2, 3), keepdim=True).to(torch.float64)
    high = pixels.amax((2, 3), keepdim=True).to(torch.float64)
    span = (high - low).clamp(min=1)
    scale = torch.full_like(span, 255) / span  # `255 / span` would multiply by the inverse
    stretched = (pixels * scale - low * scale).clamp(0, 255).to(torch.uint8)
    return select(high > low, stretched, pixels)


def equalize(pixels: Pixels) -> Pixels:
    """Return images whose levels are spread evenly, channel by channel.

    Channels too small or too flat for that stay.

    Example:
        >>> ramp = torch.arange(100, 164, dtype=torch.uint8).repeat(8).reshape(1, 1, 16, 32)
        >>> equalize(ramp).unique()[[0, 1, -1]].tolist()
        [0, 8, 255]
    """
    levels = pixels.flatten(2).to(torch.int64)
    counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels))
    brightest = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - brightest) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=pixels.device))
    return table.to(torch.uint8).gather(2, levels).view(pixels.shape)


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
    """Return each image moved by its own map; places outside of it hold `fill`.

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


def _blend(start: Shaped[Tensor, "n _ _ _"], pixels: Pixels, factors: Tensor) -> Pixels:
    """Return `start` at factor 0, `pixels` at 1, and what lies between or beyond."""
    origin = start.to(torch.float32)
    mixed = origin + _per_image(factors).to(torch.float32) * (pixels - origin)
    return mixed.clamp(0, 255).to(torch.uint8)


def _grey(pixels: Pixels) -> Shaped[Tensor, "n 1 h w"]:
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels.to(torch.int32).unbind(1)
    return ((red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + 0x8000) >> 16)[:, None]


def _per_image(amounts: Tensor) -> Tensor:
    return amounts[:, None, None, None]


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
