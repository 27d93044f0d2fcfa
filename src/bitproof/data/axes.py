"""Which axis of inputs holds the channels: said, or what can be nothing else; never guessed."""

from typing import Literal

import numpy as np

from bitproof.core.errors import DataError

AxisLayout = Literal["auto", "channels_first", "channels_last", "no_channels"]
COLOURS = (1, 3, 4)
"""Channels that images are stored with."""
LEAST = 5
"""Height and width from which an axis is no axis of channels."""


def looks_channels_last(shape: tuple[int, ...]) -> bool:
    """Tell whether inputs of this shape are almost certainly images with their channels last.

    Example:
        >>> looks_channels_last((10, 32, 32, 3)), looks_channels_last((10, 3, 32, 32))
        (True, False)
        >>> looks_channels_last((10, 9, 128, 1))
        False
    """
    if len(shape) not in {4, 5} or shape[-1] not in COLOURS or shape[1] in COLOURS:
        return False
    sides = shape[1:-1]
    if min(sides) < LEAST:
        return False
    # (n, 9, 128, 1) is a signal of nine channels; (n, 28, 28, 1) is grey.
    return shape[-1] != 1 or len(set(sides)) == 1


def check_channels_first(shape: tuple[int, ...], *, where: str, cure: str) -> None:
    """Refuse images with their channels last.

    Raises:
        DataError: they are; the message ends with the cure.
    """
    if looks_channels_last(shape):
        came, order = _said(shape), "n, d, h, w, c" if len(shape) == 5 else "n, h, w, c"
        wanted = "(n, c, d, h, w)" if len(shape) == 5 else "(n, c, h, w)"
        raise DataError(f"{where}: wanted {wanted}, got {came}, which is ({order}); {cure}")


def channels_first(images: np.ndarray, layout: AxisLayout, *, where: str) -> np.ndarray:
    """Return inputs with their channels first.

    Raises:
        DataError: `auto` and it could be two things; or the layout asks for other axes.
    """
    shape = images.shape
    if layout == "channels_last":
        if images.ndim < 3:
            raise DataError(f"{where}: wanted (n, ..., c) for channels_last, got {_said(shape)}")
        return np.moveaxis(images, -1, 1)
    if layout == "no_channels":
        if images.ndim < 2:
            raise DataError(f"{where}: wanted (n, ...) for no_channels, got {_said(shape)}")
        return images[:, None]
    if layout == "auto":
        check_channels_first(
            shape,
            where=where,
            cure="say layout = 'channels_last' to turn them round, or 'channels_first' where they "
            "are so already",
        )
        if images.ndim == 3 and (images.dtype == np.uint8 or shape[1] == shape[2]):
            raise DataError(
                f"{where}: wanted to know the axes of {_said(shape)}: grey images (n, h, w) are "
                "layout = 'no_channels', signals (n, c, t) layout = 'channels_first'"
            )
    return images


def _said(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
