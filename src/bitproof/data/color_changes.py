"""Changes of tone and colour of a batch of images, level for level as Pillow makes them.

Model:  every change is a function of 8-bit levels, with its own amount for each image. Grey
        images are images of one channel; the colour of a grey image cannot change.
Source: `ImageOps` and `ImageEnhance` of Pillow, whose rounding is repeated here: blends in
        float32, cut off, not rounded; stretching in float64. Results are equal, not close.
"""

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from bitproof.data.select import select

Pixels = UInt8[Tensor, "n c h w"]
"""Images as 8-bit levels."""
Amounts = Float[Tensor, " n"]
"""One number per image."""
LUMA = (19_595, 38_470, 7_471)
"""Weights of red, green and blue in grey (ITU-R 601-2), out of 65,536."""


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
    low, high = (end.to(torch.float64) for end in _ends(pixels))
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


def _ends(pixels: Pixels) -> tuple[Tensor, Tensor]:
    return pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)


def _per_image(amounts: Tensor) -> Tensor:
    return amounts[:, None, None, None]
