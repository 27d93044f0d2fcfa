# ruff: noqa: ARG001 - all moves share one signature
"""Operations that move or select words: the same on floats, codes and centered codes.

On centered codes zero is zero, so padding needs no zero point. `n` is the batch size.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional


def reshape(x: Tensor, attrs: dict[str, Any], n: int) -> Tensor:
    """Return `x` in the stored shape."""
    return x.reshape(concrete(attrs["shape"], n))


def expand(x: Tensor, attrs: dict[str, Any], n: int) -> Tensor:
    """Return `x` repeated along axes of size one; a constant learns its batch from `attrs`."""
    return x.expand(concrete(attrs["shape"], n))


def permute(x: Tensor, attrs: dict[str, Any], n: int) -> Tensor:
    """Return `x` with its axes reordered."""
    return x.permute(attrs["dims"])


def take_slice(x: Tensor, attrs: dict[str, Any], n: int) -> Tensor:
    """Return a part: per axis `[start, stop, step]`, or an index that drops the axis."""
    return x[tuple(slice(*i) if isinstance(i, list) else i for i in attrs["index"])]


def pad(x: Tensor, attrs: dict[str, Any], n: int) -> Tensor:
    """Return `x` with zeros around it."""
    return functional.pad(x, attrs["padding"])


def max_pool(x: Tensor, attrs: dict[str, Any], n: int) -> Tensor:
    """Return the largest word of each window."""
    pool: Callable[..., Tensor] = getattr(functional, f"max_pool{len(attrs['kernel'])}d")
    return pool(
        x,
        attrs["kernel"],
        attrs["stride"],
        attrs["padding"],
        attrs["dilation"],
        ceil_mode=attrs["ceil_mode"],
    )


def rescale(x: Tensor, attrs: dict[str, Any], n: int) -> Tensor:
    """Return `x`: multiplication by a positive constant changes the grid, not the words."""
    return x


def concrete(shape: list[Any], n: int) -> list[int]:
    """Return `shape` for a batch of `n`: `[BATCH, k]` stands for `k * n`."""
    return [size[1] * n if isinstance(size, list) else size for size in shape]


MOVES: dict[str, Callable[[Tensor, dict[str, Any], int], Tensor]] = {
    "reshape": reshape,
    "expand": expand,
    "permute": permute,
    "slice": take_slice,
    "pad": pad,
    "max_pool": max_pool,
    "rescale": rescale,
}
"""Every movement, by operation name."""
