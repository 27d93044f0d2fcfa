"""Other sizes and orders of the same words."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bitproof.exchange.onnx_arguments import (
    reshaped,
    squeezed,
    unsqueezed,
    whole_numbers,
    with_zeros_filled,
)
from bitproof.exchange.onnx_file import OnnxNode
from bitproof.exchange.qdq.operands import (
    Operands,
    constant_at,
    constants_of,
    first_of,
)
from bitproof.exchange.qdq.reader import Reader
from bitproof.exchange.values import (
    KnownWords,
    Value,
)
from bitproof.quant.grid import CodedTensor


def reshape(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Reshape`."""
    wanted = whole_numbers(constant_at(reader, node, operands, 1), node)
    value = first_of(operands)
    sizes = with_zeros_filled(reader.shape(value, node), node, wanted)
    return reshape_to(reader, node, value, sizes)


def flatten(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Flatten`."""
    shape = reader.shape(first_of(operands), node)
    axis = int(node.attrs.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    sizes = [math.prod(shape[:axis]), math.prod(shape[axis:])]
    return reshape_to(reader, node, first_of(operands), sizes)


def squeeze(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Squeeze`."""
    shape = reader.shape(first_of(operands), node)
    sizes = squeezed(shape, node, constants_of(reader, node, operands))
    return reshape_to(reader, node, first_of(operands), sizes)


def unsqueeze(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Unsqueeze`."""
    shape = reader.shape(first_of(operands), node)
    sizes = unsqueezed(shape, node, constants_of(reader, node, operands))
    return reshape_to(reader, node, first_of(operands), sizes)


def transpose(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Transpose`; stored words are turned here and now."""
    value = first_of(operands)
    rank = len(reader.shape(value, node))
    dims = [int(one) % rank for one in node.attrs.get("perm", range(rank)[::-1])]
    if isinstance(value, KnownWords):
        grid = value.coded.grid
        axis = None if grid.axis is None else dims.index(grid.axis)
        codes = value.coded.codes.permute(dims).contiguous()
        return KnownWords(CodedTensor(codes, replace(grid, axis=axis)), f"{value.key} {dims}")
    return reader.move(value, "permute", {"dims": dims}, node)


def expand(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `Expand`."""
    value = first_of(operands)
    shape, wanted = (
        reader.shape(value, node),
        whole_numbers(constant_at(reader, node, operands, 1), node),
    )
    sizes = list(np.broadcast_shapes(shape, tuple(wanted)))
    return reader.move(value, "expand", {"shape": [int(one) for one in sizes]}, node)


def depth_to_space(reader: Reader, node: OnnxNode, operands: Operands) -> Value:
    """Lower `DepthToSpace` and `SpaceToDepth`."""
    value, size = first_of(operands), int(node.attrs["blocksize"])
    n, c, h, w = reader.shape(value, node)
    if node.op == "SpaceToDepth":
        apart, dims = [n, c, h // size, size, w // size, size], [0, 3, 5, 1, 2, 4]
        whole = [n, c * size * size, h // size, w // size]
    elif node.attrs.get("mode", "DCR") == "DCR":
        apart, dims = [n, size, size, c // size**2, h, w], [0, 3, 4, 1, 5, 2]
        whole = [n, c // size**2, h * size, w * size]
    else:
        apart, dims = [n, c // size**2, size, size, h, w], [0, 1, 4, 2, 5, 3]
        whole = [n, c // size**2, h * size, w * size]
    value = reader.move(value, "reshape", {"shape": apart}, node)
    value = reader.move(value, "permute", {"dims": dims}, node)
    return reader.move(value, "reshape", {"shape": whole}, node)


def reshape_to(reader: Reader, node: OnnxNode, value: Value, sizes: Sequence[int]) -> Value:
    """Return a value with other sizes; a file for some number of images may have that in them."""
    shape, wanted = reader.shape(value, node), list(sizes)
    if isinstance(value, KnownWords):
        if value.coded.grid.axis is not None:
            reader.refuse(node, "no form for other sizes of words with several scales")
        coded = CodedTensor(value.coded.codes.reshape(wanted), value.coded.grid)
        return KnownWords(coded, f"{value.key} {wanted}")
    fixed, n = reader.fixed_batch, reader.assembly.images
    count = math.prod(shape)
    if fixed and -1 not in wanted and wanted and math.prod(wanted) * n == count * fixed:
        if wanted[0] % fixed == 0 and math.prod(wanted) != count:
            wanted[0] = wanted[0] // fixed * n
    elif fixed and wanted and wanted[0] == fixed and -1 in wanted[1:] and shape[0] == n:
        wanted[0] = n
    wanted = reshaped(shape, node, wanted)
    if tuple(wanted) == tuple(shape):
        return value
    return reader.move(value, "reshape", {"shape": wanted}, node)
