"""Pools, means and extremes."""

from bitproof.exchange.onnx_arguments import axes_of
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.onnx_windows import windows_of
from bitproof.exchange.qdq.operands import Operands, constants_of, first_of
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import Known, Value


def max_pool(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `MaxPool`."""
    value = first_of(operands)
    if len(node.outputs) > 1 and node.outputs[1]:
        reader.refuse(node, "no form for the places of maxima")
    kernel = [int(size) for size in node.attrs["kernel_shape"]]
    shape, ceil = reader.shape(value, node), bool(node.attrs.get("ceil_mode", 0))
    move = windows_of(node, shape, kernel)
    if move.uneven or any(2 * a > d * (k - 1) + 1 for (a, _), d, k in move.edges_of(kernel)):
        move, ceil = move.cut(shape, kernel, ceil=ceil), False
        value = reader.move(value, "pad", {**move.as_pad(), "lowest": True}, node)
        move = move.without_padding()
    attrs = {"kernel": kernel, **move.attrs(), "ceil_mode": ceil}
    return reader.move(value, "max_pool", attrs, node)


def average_pool(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `AveragePool`; where windows hold different numbers of words, one axis at a time."""
    source = reader.reals(operands[0], node)
    shape = reader.assembly.shapes[source]
    kernel = [int(size) for size in node.attrs["kernel_shape"]]
    move = windows_of(node, shape, kernel)
    counts_padding = bool(node.attrs.get("count_include_pad", 0))
    padded, ceil = any(map(any, move.pads)), bool(node.attrs.get("ceil_mode", 0))
    if any(gap != 1 for gap in move.dilation):
        reader.refuse(node, "no form for dilations")
    even = not move.uneven and not ceil and (counts_padding or not padded)
    if even and all(2 * a <= k for (a, _), k in zip(move.pads, kernel, strict=True)):
        attrs = {"kernel": kernel, "stride": move.stride, "padding": move.before}
        return reader.unrounded("avg_pool", [source], node, attrs=attrs)
    rows, counts = [], move.counts(shape, kernel, ceil=ceil)
    for axis, size in enumerate(shape[2:]):
        (before, after), step, taps = move.pads[axis], move.stride[axis], kernel[axis]
        starts = [at * step - before for at in range(counts[axis])]
        weights = [[int(start <= at < start + taps) for at in range(size)] for start in starts]
        whole = [min(start + taps, size + after) - start for start in starts]
        divisors = whole if counts_padding else [max(sum(row), 1) for row in weights]
        rows.append((weights, divisors))
    return reader.mixed(source, rows, node)


def reduce_mean(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `ReduceMean` and `GlobalAveragePool`."""
    source = reader.reals(operands[0], node)
    rank = len(reader.assembly.shapes[source])
    if node.op == "GlobalAveragePool":
        dims, keeps = list(range(2, rank)), True
    else:
        arrays = [one.array if isinstance(one, Known) else None for one in operands]
        axes = axes_of(node, arrays, rank)
        dims, keeps = axes or list(range(rank)), bool(node.attrs.get("keepdims", 1))
    if 0 in dims:
        reader.refuse(node, "wanted a mean within one image, got one over several")
    return reader.unrounded("mean", [source], node, attrs={"dims": dims, "keepdim": keeps})


def extremes(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `ReduceMax`, `ReduceMin` and `GlobalMaxPool`."""
    value = first_of(operands)
    rank = len(reader.shape(value, node))
    if node.op == "GlobalMaxPool":
        dims, keeps = list(range(2, rank)), True
    else:
        dims = axes_of(node, constants_of(reader, node, operands), rank) or list(range(rank))
        keeps = bool(node.attrs.get("keepdims", 1))
    if 0 in dims:
        reader.refuse(node, "wanted an extreme within one image, got one of several")
    op = "amin" if node.op == "ReduceMin" else "amax"
    return reader.move(value, op, {"dims": dims, "keepdim": keeps}, node)
