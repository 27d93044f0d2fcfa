"""Shapes of what every node gives, by rules alone: whether a network runs, without running it.

A rule gets the shapes of what a node reads, those of what it stores and the number of images. It
returns the shape of the output, or says what does not fit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NoReturn

from bitproof.core.errors import WeightsError
from bitproof.quant.floats import concrete
from bitproof.quant.graph import Node
from bitproof.quant.network_data import NetworkData

Shape = tuple[int, ...]
Stored = Mapping[str, Shape]
"""Shapes of a node's weight and bias."""
LARGEST = 1 << 28
"""Numbers in an output for one image: more is a mistake, or meant to fill the memory."""
BATCHES = (1, 2, 3)
"""Numbers of images that are tried: sizes that stay the same with these do so with all."""


class MisfitError(Exception):
    """A node cannot compute with what it reads."""


def check_shapes(network: NetworkData, image: Sequence[int]) -> None:
    """Check that a network runs on images of a shape, however many.

    Raises:
        WeightsError: an operation does not fit what it reads, or gives more than fits in memory.
    """
    for n in BATCHES:
        infer_shapes(network, (n, *image))


def infer_shapes(network: NetworkData, inputs: Shape) -> dict[str, Shape]:
    """Return the shape of every node's output for inputs of a shape.

    Raises:
        WeightsError: an operation does not fit what it reads, or gives more than fits in memory.
    """
    known: dict[str, Shape] = {}
    for node in network.nodes:
        try:
            read = [known[name] for name in node.inputs] or [inputs]
            found = RULES[node.op](node, read, shapes_of(node, network), inputs[0])
            _check_size(found, inputs[0])
        except MisfitError as error:
            given = f"for inputs of shape {_text(inputs)}"
            raise WeightsError(f"{node.name} ({node.op}): {error} ({given})") from None
        known[node.name] = found
    return known


def shapes_of(node: Node, network: NetworkData) -> dict[str, Shape]:
    """Return the shapes of the weight and the bias that a node reads."""
    keys = {kind: node.key(kind) for kind in ("weight", "bias")}
    tensors = network.tensors
    return {kind: tuple(tensors[k].codes.shape) for kind, k in keys.items() if k in tensors}


def _check_size(shape: Shape, n: int) -> None:
    if min(shape, default=1) < 1:
        _fail(f"wanted an output with numbers in it, got the shape {_text(shape)}")
    if math.prod(shape) > n * LARGEST:
        _fail(f"wanted an output of at most {LARGEST} numbers an image, got {_text(shape)}")


def _fail(problem: str) -> NoReturn:
    raise MisfitError(problem)


def _text(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _axis(dim: int, shape: Shape) -> int:
    """Return an axis counted from the first."""
    if not -len(shape) <= dim < len(shape):
        _fail(f"wanted an axis of {_text(shape)}, got {dim}")
    return dim % len(shape)


def _axes(dims: Sequence[int], shape: Shape) -> list[int]:
    found = [_axis(dim, shape) for dim in dims]
    if len(set(found)) < len(found):
        _fail(f"wanted each axis of {_text(shape)} once, got {dims}")
    return found


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    sizes = []
    for column in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        larger = {size for size in column if size != 1}
        if len(larger) > 1:
            _fail(f"wanted shapes that go together, got {' and '.join(map(_text, shapes))}")
        sizes.append(larger.pop() if larger else 1)
    return tuple(sizes)


def _input(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), mean = read, node.attrs.get("mean")
    if mean is not None and (len(x) < 2 or len(mean) not in {1, x[1]}):
        _fail(f"wanted {len(mean)} channels on the second axis, got the shape {_text(x)}")
    return x


def _same(_: Node, read: list[Shape], __: Stored, ___: int) -> Shape:
    return read[0]


def _elementwise(_: Node, read: list[Shape], __: Stored, ___: int) -> Shape:
    return _broadcast(read)


def _along(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    _axis(node.attrs["dim"], read[0])
    return read[0]


def _embedding(_: Node, read: list[Shape], stored: Stored, __: int) -> Shape:
    return read[0] + stored["weight"][1:]


def _conv(node: Node, read: list[Shape], stored: Stored, _: int) -> Shape:
    (x,), (filters, depth, *kernel) = read, stored["weight"]
    _check_maps(x, len(kernel))
    if x[1] != depth * node.attrs["groups"]:
        _fail(f"wanted {depth * node.attrs['groups']} channels, got the shape {_text(x)}")
    return (x[0], filters, *_outputs(node, x[2:], kernel))


def _pool(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), kernel = read, node.attrs["kernel"]
    _check_maps(x, len(kernel))
    return (*x[:2], *_outputs(node, x[2:], kernel))


def _check_maps(x: Shape, axes: int) -> None:
    if len(x) != axes + 2:
        _fail(f"wanted images, channels and {axes} axes of space, got the shape {_text(x)}")


def _outputs(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return how many windows there are along each axis of space."""
    attrs, found = node.attrs, []
    gaps = attrs.get("dilation") or [1] * len(kernel)
    moves = zip(sizes, kernel, attrs["stride"], attrs["padding"], gaps, strict=True)
    for size, taps, step, edge, gap in moves:
        room = size + 2 * edge - gap * (taps - 1) - 1
        if room < 0:
            _fail(f"wanted a map of at least {gap * (taps - 1) + 1 - 2 * edge}, got {size}")
        count = room // step + 1
        if attrs.get("ceil_mode"):
            count = -(-room // step) + 1
            count -= (count - 1) * step >= size + edge
        if node.op == "max_pool" and _has_empty_window(size, taps, step, edge, gap=gap):
            _fail(f"wanted a word under every window, got a map of {size} with gaps of {gap}")
        found.append(count)
    return found


def _has_empty_window(size: int, taps: int, step: int, edge: int, *, gap: int) -> bool:
    """Tell whether all taps of a window that starts in the padding lie outside of the map."""
    for start in range(-edge, 0, step):
        first = -(start // gap)  # tap that lies behind the start of the map, or on it
        if first >= taps or start + first * gap >= size:
            return True
    return False


def _linear(_: Node, read: list[Shape], stored: Stored, __: int) -> Shape:
    (x,), (filters, depth) = read, stored["weight"]
    if not x or x[-1] != depth:
        _fail(f"wanted rows of {depth}, got the shape {_text(x)}")
    return (*x[:-1], filters)


def _affine(_: Node, read: list[Shape], stored: Stored, __: int) -> Shape:
    (x,), (channels,) = read, stored["weight"]
    if len(x) < 2 or x[1] != channels:
        _fail(f"wanted {channels} channels on the second axis, got the shape {_text(x)}")
    return x


def _matmul(_: Node, read: list[Shape], __: Stored, ___: int) -> Shape:
    left, right = read
    if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
        _fail(f"wanted matrices (i, k) and (k, j), got {_text(left)} and {_text(right)}")
    return (*_broadcast([left[:-2], right[:-2]]), left[-2], right[-1])


def _concat(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    axis = _axis(node.attrs["dim"], read[0])
    for first, second in pairwise(read):
        if len(first) != len(second) or any(
            a != b for place, (a, b) in enumerate(zip(first, second, strict=True)) if place != axis
        ):
            _fail(f"wanted shapes that differ along axis {axis} only, got {_text(second)}")
    return (*read[0][:axis], sum(shape[axis] for shape in read), *read[0][axis + 1 :])


def _resample(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), weights, dim = read, node.attrs["weights"], node.attrs["dim"]
    axis = _axis(dim, x)
    if axis != dim or x[axis] != len(weights[0]):
        _fail(f"wanted {len(weights[0])} places along axis {dim}, got the shape {_text(x)}")
    return (*x[:axis], len(weights), *x[axis + 1 :])


def _reduce(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), dims = read, _axes(node.attrs["dims"], read[0])
    kept = [1 if axis in dims else size for axis, size in enumerate(x)]
    keeps = node.attrs["keepdim"]
    return tuple(size for axis, size in enumerate(kept) if keeps or axis not in dims)


def _layer_norm(node: Node, read: list[Shape], stored: Stored, _: int) -> Shape:
    (x,), axes = read, node.attrs["axes"]
    last = x[-axes:] if axes <= len(x) else _fail(f"wanted {axes} axes, got the shape {_text(x)}")
    for kind, shape in stored.items():
        if shape != last:
            _fail(f"wanted a {kind} of {_text(last)}, got {_text(shape)}")
    return x


def _group_norm(node: Node, read: list[Shape], stored: Stored, _: int) -> Shape:
    (x,), groups = read, node.attrs["groups"]
    if len(x) < 2 or x[1] % groups:
        _fail(f"wanted channels in {groups} equal groups, got the shape {_text(x)}")
    for kind, shape in stored.items():
        if shape != (x[1],):
            _fail(f"wanted a {kind} of {x[1]}, got {_text(shape)}")
    return x


def _rms_norm(node: Node, read: list[Shape], stored: Stored, _: int) -> Shape:
    (x,) = read
    _axes(node.attrs["dims"], x)
    if "weight" in stored and _broadcast([x, stored["weight"]]) != x:
        _fail(f"wanted a weight for {_text(x)}, got {_text(stored['weight'])}")
    return x


def _reshape(node: Node, read: list[Shape], _: Stored, n: int) -> Shape:
    (x,), sizes = read, concrete(node.attrs["shape"], n)
    count = math.prod(x)
    rest = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and count % rest == 0:
        sizes[sizes.index(-1)] = count // rest
    if math.prod(sizes) != count or -1 in sizes:
        _fail(f"wanted a shape for the {count} numbers of {_text(x)}, got {_text(sizes)}")
    return tuple(sizes)


def _expand(node: Node, read: list[Shape], _: Stored, n: int) -> Shape:
    (x,), sizes = read, concrete(node.attrs["shape"], n)
    new = len(sizes) - len(x)
    if new < 0 or -1 in sizes[:new]:
        _fail(f"wanted at least the axes of {_text(x)}, got {_text(sizes)}")
    for place, size in enumerate(x, new):
        if sizes[place] == -1:
            sizes[place] = size
        if size not in (1, sizes[place]):
            _fail(f"wanted axes of size 1 to repeat, got {_text(x)} for {_text(sizes)}")
    return tuple(sizes)


def _permute(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), dims = read, _axes(node.attrs["dims"], read[0])
    if len(dims) != len(x):
        _fail(f"wanted all axes of {_text(x)}, got {dims}")
    return tuple(x[dim] for dim in dims)


def _slice(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), index = read, node.attrs["index"]
    if len(index) > len(x):
        _fail(f"wanted an index of {_text(x)}, got one of {len(index)} axes")
    sizes = []
    for size, entry in zip(x, index, strict=False):
        if isinstance(entry, list):
            sizes.append(len(range(*slice(*entry).indices(size))))
        elif not -size <= entry < size:
            _fail(f"wanted a place of {_text(x)}, got {entry}")
    return (*sizes, *x[len(index) :])


def _pad(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), edges, sizes = read, node.attrs["padding"], list(read[0])
    if len(edges) % 2 or len(edges) > 2 * len(x):
        _fail(f"wanted two numbers for each of the last axes of {_text(x)}, got {len(edges)}")
    pairs = zip(edges[::2], edges[1::2], strict=True)
    for axis, (before, after) in enumerate(pairs, 1):
        if sizes[-axis] + min(before, 0) + min(after, 0) < 1:
            _fail(f"wanted to leave something of {_text(x)}, got the padding {edges}")
        sizes[-axis] += before + after
    return tuple(sizes)


def _take(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), index = read, node.attrs["index"]
    axis = _axis(node.attrs["dim"], x)
    if max(index, default=0) >= x[axis]:
        _fail(f"wanted places below {x[axis]}, got {max(index)}")
    return (*x[:axis], len(index), *x[axis + 1 :])


def _spread(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), factors = read, node.attrs["factors"]
    lead = len(x) - len(factors)
    if lead < 0:
        _fail(f"wanted factors for the last axes of {_text(x)}, got {len(factors)}")
    wide = [(s - 1) * factor + 1 for s, factor in zip(x[lead:], factors, strict=True)]
    return (*x[:lead], *wide)


def _mask(node: Node, read: list[Shape], _: Stored, __: int) -> Shape:
    (x,), sizes = read, tuple(node.attrs["sizes"])
    if _broadcast([x, sizes]) != x:
        _fail(f"wanted a mask for {_text(x)}, got {_text(sizes)}")
    return x


Rule = Callable[[Node, list[Shape], Stored, int], Shape]

RULES: dict[str, Rule] = {
    "input": _input,
    "constant": lambda _, __, stored, ___: stored["weight"],
    "embedding": _embedding,
    "conv": _conv,
    "linear": _linear,
    "affine": _affine,
    "matmul": _matmul,
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum"), _elementwise),
    "concat": _concat,
    "resample": _resample,
    **dict.fromkeys(("avg_pool", "max_pool"), _pool),
    **dict.fromkeys(("mean", "rms", "amax", "amin"), _reduce),
    **dict.fromkeys(("requantize", "table", "rescale"), _same),
    **dict.fromkeys(("softmax", "log_softmax"), _along),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "reshape": _reshape,
    "expand": _expand,
    "permute": _permute,
    "slice": _slice,
    "pad": _pad,
    "take": _take,
    "spread": _spread,
    "mask": _mask,
}
"""How each operation makes the shape of its output; the input gets that of the images."""
