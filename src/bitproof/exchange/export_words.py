"""From numbers in steps of the output to words, in ONNX: as `requantize` does it."""

from bitproof.exchange.export_state import ENDS, ExportState, Wire, refused
from bitproof.quant import Node


def finish(
    state: ExportState, node: Node, steps: str, *, dtype: str = "float32", apart: bool = False
) -> Wire:
    """Return the words for numbers in output steps, of type `dtype`; real ones as they are.

    QuantizeLinear with scale 1 rounds half to even, adds the zero point and saturates. What is to
    stay `apart` from it is rounded before, lest ONNX Runtime makes one kernel of both.
    """
    constants, grid, writer = state.constants(node), state.grid(node), state.writer
    if grid is None:
        return Wire(steps, "real")
    wire = state.wire(grid, node.name)
    point = constants.zero_point
    low, high = constants.low - point, constants.high - point
    if not ENDS[wire.dtype][0] <= wire.zero_point <= ENDS[wire.dtype][1]:
        raise refused(node, f"wanted a zero point within its words, got {point}")
    if constants.rounding == "truncate":
        state.note("truncation, not rounding, of sums: spelled out, without int8 kernels", node)
        steps = _truncated(state, node, steps, dtype)
    else:
        ends = (low + wire.zero_point, high + wire.zero_point)
        if ends != ENDS[wire.dtype] or dtype != "float32":
            limits = (state.number(end, dtype) for end in (low, high))
            steps = writer.add("Clip", steps, *limits)
        if apart or dtype != "float32":
            steps = writer.add("Round", steps)
    if dtype != "float32":
        steps = writer.cast(steps, "float32")
    return state.renamed(wire, to_words(state, wire, steps, node.name))


def to_words(state: ExportState, wire: Wire, steps: str, name: str) -> str:
    """Return the words for numbers in steps."""
    scale, zero = state.number(1.0), state.number(wire.zero_point, wire.dtype)
    return state.writer.add("QuantizeLinear", steps, scale, zero, to=name)


def _truncated(state: ExportState, node: Node, steps: str, dtype: str) -> str:
    """Return whole steps: cut towards zero after the zero point is added, as a C cast does."""
    constants, writer = state.constants(node), state.writer
    point = state.number(constants.zero_point, dtype)
    low, high = (state.number(end, dtype) for end in (constants.low, constants.high))
    codes = writer.add("Clip", writer.add("Add", steps, point), low, high)
    down = writer.add("Floor", codes)
    if constants.low < 0:
        below = writer.add("Less", codes, state.number(0.0, dtype))
        down = writer.add("Where", below, writer.add("Ceil", codes), down)
    return writer.add("Sub", down, point)


def clip_words(state: ExportState, node: Node, wire: Wire) -> Wire:
    """Return words within the node's own bounds, where those are narrower than the type's."""
    constants = state.constants(node)
    low, high = constants.low + wire.shift, constants.high + wire.shift
    if (low, high) == ENDS[wire.dtype]:
        return wire
    ends = (state.number(end, wire.dtype) for end in (low, high))
    return state.renamed(wire, state.writer.add("Clip", wire.name, *ends))
