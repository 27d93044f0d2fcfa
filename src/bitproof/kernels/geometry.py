"""How a kernel moves over maps, and how large what comes out is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over the map; an entry for each axis of space.

    Example:
        >>> move = Geometry(stride=(2, 2), padding=(1, 1), dilation=(1, 2))
        >>> move.reaches((3, 3)), move.outputs((8, 9), (3, 3))
        ([3, 5], [4, 4])
    """

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    def reaches(self, kernel: Sequence[int]) -> list[int]:
        """Return the pixels from one end of a window to the other, for each axis."""
        return [gap * (taps - 1) + 1 for gap, taps in zip(self.dilation, kernel, strict=True)]

    def outputs(self, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """Return the size of what comes out, for each axis of maps of `sizes`."""
        moves = zip(sizes, self.reaches(kernel), self.padding, self.stride, strict=True)
        return [(size + 2 * edge - reach) // step + 1 for size, reach, edge, step in moves]

    def taps(self, maps: Tensor, kernel: Sequence[int]) -> Iterator[Tensor]:
        """Return what each tap of a kernel sees of maps that are padded already, as views.

        Example:
            >>> import torch
            >>> [tap.tolist() for tap in Geometry().taps(torch.arange(4).reshape(2, 2), (1, 2))]
            [[[0], [2]], [[1], [3]]]
        """
        return (self.tap(maps, kernel, place) for place in product(*map(range, kernel)))

    def tap(self, maps: Tensor, kernel: Sequence[int], place: Sequence[int]) -> Tensor:
        """Return what the tap at one place of a kernel sees."""
        index: list[Any] = [...]
        sizes = maps.shape[-len(kernel) :]
        moves = zip(sizes, self.reaches(kernel), self.dilation, self.stride, place, strict=True)
        for size, reach, gap, step, at in moves:
            index.append(slice(gap * at, gap * at + size - reach + 1, step))
        return maps[tuple(index)]
