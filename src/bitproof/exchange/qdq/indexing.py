"""Parts of what there is, and parts put together."""

from typing import Any

from bitproof.exchange.assembly import same_grid
from bitproof.exchange.onnx_arguments import (
    gathered,
    places_of,
    slices_of,
    split_sizes,
)
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq.operands import Operands, constant_at, constants_of, first_of
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.qdq.reshaping import reshape_to
from bitproof.exchange.values import Rounded, Value


def slices(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Slice`; backwards, as a choice of places."""
    value = first_of(operands)
    shape = reader.shape(value, node)
    found = slices_of(node, constants_of(reader, node, operands), len(shape))
    plain: list[Any] = [[None, None, None] for _ in shape]
    for axis, part in found.items():
        places = places_of(part, axis, shape, node)
        if places == range(shape[axis]):
            continue
        if places.step < 0:
            value = reader.move(value, "take", {"dim": axis, "index": list(places)}, node)
        else:
            plain[axis] = [places.start, places.stop, places.step]
    if all(entry == [None, None, None] for entry in plain):
        return value
    return reader.move(value, "slice", {"index": plain}, node)


def split(reader: Reader, node: OnnxNode, operands: Operands) -> list[Value]:
    """Lower `Split`."""
    value = first_of(operands)
    shape = reader.shape(value, node)
    axis, sizes = split_sizes(shape, node, constants_of(reader, node, operands))
    found, start = [], 0
    for size in sizes:
        index: list[Any] = [[None, None, None] for _ in shape]
        index[axis] = [start, start + size, 1]
        found.append(reader.move(value, "slice", {"index": index}, node))
        start += size
    return found


def gather(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower a `Gather` of constant places."""
    value, shape = first_of(operands), reader.shape(first_of(operands), node)
    axis, places, sizes = gathered(shape, node, constant_at(reader, node, operands, 1))
    if not sizes:
        entry: list[Any] = [[None, None, None] for _ in shape]
        entry[axis] = places[0]
        return reader.move(value, "slice", {"index": entry}, node)
    taken = reader.move(value, "take", {"dim": axis, "index": places}, node)
    return reshape_to(reader, node, taken, [*shape[:axis], *sizes, *shape[axis + 1 :]])


def concat(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Concat`."""
    if all(isinstance(one, Rounded) for one in operands):
        return _of_words(reader, node, operands)
    names = [reader.reals(one, node) for one in operands]
    dim = _axis_of_concat(reader, node, names[0])
    return reader.unrounded("concat", names, node, attrs={"dim": dim})


def _axis_of_concat(reader: Reader, node: OnnxNode, name: str) -> int:
    dim = int(node.attrs["axis"]) % len(reader.assembly.shapes[name])
    if dim == 0:
        reader.refuse(node, "wanted parts of one image, got images behind one another")
    return dim


def _of_words(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Return a `Concat` of words that are all on one grid."""
    rounded = [one for one in operands if isinstance(one, Rounded)]
    if any(not same_grid(rounded[0].grid, one.grid) for one in rounded):
        reader.refuse(node, "wanted words on one grid, got several")
    names = [reader.settle(one) for one in rounded]
    dim = _axis_of_concat(reader, node, names[0])
    return Rounded(reader.unrounded("concat", names, node, attrs={"dim": dim}), rounded[0].grid)
