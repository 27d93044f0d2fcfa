"""How windows of an ONNX node move over maps: strides, dilations, padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bitproof.exchange.onnx_arguments import refuse
from bitproof.exchange.onnx_file import OnnxNode


@dataclass(frozen=True)
class Windows:
    """How windows move over maps, axis by axis."""

    stride: list[int]
    dilation: list[int]
    pads: list[tuple[int, int]]
    """Before and behind."""

    @property
    def uneven(self) -> bool:
        """Whether there is more padding on one side."""
        return any(before != after or before < 0 for before, after in self.pads)

    @property
    def before(self) -> list[int]:
        """The padding before each axis."""
        return [before for before, _ in self.pads]

    def edges_of(self, kernel: Sequence[int]) -> Iterator[tuple[tuple[int, int], int, int]]:
        """Yield padding, gap and number of taps of each axis."""
        return zip(self.pads, self.dilation, kernel, strict=True)

    def counts(self, shape: Sequence[int], kernel: Sequence[int], *, ceil: bool) -> list[int]:
        """Return how many windows an axis has; none starts in the padding behind (`ceil_mode`)."""
        found = []
        for at, size in enumerate(shape[2:]):
            (before, after), step = self.pads[at], self.stride[at]
            room = size + before + after - self.dilation[at] * (kernel[at] - 1) - 1
            count = (-(-room // step) if ceil else room // step) + 1
            starts_behind = ceil and (count - 1) * step >= size + before
            found.append(count - starts_behind)
        return found

    def cut(self, shape: Sequence[int], kernel: Sequence[int], *, ceil: bool) -> "Windows":
        """Return the same windows with padding behind that ends with the last of them."""
        pads = []
        for at, count in enumerate(self.counts(shape, kernel, ceil=ceil)):
            before, reach = self.pads[at][0], self.dilation[at] * (kernel[at] - 1) + 1
            behind = (count - 1) * self.stride[at] + reach - shape[at + 2] - before
            pads.append((before, max(behind, 0)))
        return replace(self, pads=pads)

    def attrs(self) -> dict[str, Any]:
        """Return them as attributes of a node; padding is that before."""
        return {"stride": self.stride, "padding": self.before, "dilation": self.dilation}

    def as_pad(self) -> dict[str, Any]:
        """Return the padding as attributes of a node that does nothing else."""
        return {"padding": [edge for pair in reversed(self.pads) for edge in pair]}

    def without_padding(self) -> "Windows":
        """Return the same over maps that are padded already."""
        return replace(self, pads=[(0, 0)] * len(self.pads))


def windows_of(node: OnnxNode, shape: Sequence[int], kernel: Sequence[int]) -> Windows:
    """Return how the windows of a node move over maps of a shape."""
    rank = len(kernel)
    wanted = node.attrs.get("kernel_shape", kernel)
    if list(wanted) != list(kernel) or len(shape) != rank + 2:
        refuse(node, f"wanted maps and a kernel that fit, got {tuple(shape)} and {wanted}")
    stride = [int(one) for one in node.attrs.get("strides", [1] * rank)]
    dilation = [int(one) for one in node.attrs.get("dilations", [1] * rank)]
    pads = [int(one) for one in node.attrs.get("pads", [0] * 2 * rank)]
    if not len(stride) == len(dilation) == rank == len(pads) // 2 or min(stride + dilation) < 1:
        refuse(node, f"wanted strides, dilations and pads for {rank} axes")
    auto = node.attrs.get("auto_pad", "NOTSET")
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    if auto == "VALID":
        pairs = [(0, 0)] * rank
    elif auto in {"SAME_UPPER", "SAME_LOWER"}:
        pairs = []
        for size, taps, step, gap in zip(shape[2:], kernel, stride, dilation, strict=True):
            total = max((-(-size // step) - 1) * step + gap * (taps - 1) + 1 - size, 0)
            less, more = total // 2, total - total // 2
            pairs.append((less, more) if auto == "SAME_UPPER" else (more, less))
    elif auto != "NOTSET":
        refuse(node, f"no form for auto_pad {auto}")
    return Windows(stride, dilation, pairs)
