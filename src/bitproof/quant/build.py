"""From a float model and calibration images to an integer network."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Num
from torch import Tensor, nn

from bitproof.core.errors import QuantizationError, near
from bitproof.quant.accumulator_width import check_accumulator, fit_accumulator
from bitproof.quant.bias_correction import correct_biases
from bitproof.quant.calibrate import Range, measure_ranges
from bitproof.quant.compare import compare_with_floats
from bitproof.quant.equalize import equalize
from bitproof.quant.graph import Graph, Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.network import IntegerNetwork, check_inputs, in_float32
from bitproof.quant.operations import MAC_OPS, MEMORY_OPS, MOVING_OPS
from bitproof.quant.quantizer import AffineQuantizer, Quantizer
from bitproof.quant.scheme import Scheme
from bitproof.quant.trace import trace
from bitproof.quant.vector_words import (
    VectorWords,
    encode_vector,
    split_streams,
    vector_grid,
    vector_words,
)
from bitproof.quant.wide_outputs import wide_outputs

LOG = logging.getLogger("bitproof.quant")


def quantize(
    model: nn.Module,
    images: Num[Tensor, "n *features"],
    scheme: Scheme | None = None,
    *,
    shrink: Mapping[str, float] | None = None,
) -> IntegerNetwork:
    """Return the integer network of `model`, which holds its own normalisation.

    It is compared with the float network on some of the images: `network.fidelity`. Where the two
    are far apart, a warning is logged (`bitproof.quant`).

    Args:
        model: any module with one input that torch.fx or torch.export captures, in any mode and
            float type; parameters become float32 in a copy (from float64 to within 2**-24 of each
            value).
        images: calibration images in [0, 1], from the training set.
        scheme: None for robust quantization at 8 bits.
        shrink: factors on the weight ranges of single layers, by node name (RESQ's alpha).

    Raises:
        TraceError: the model cannot be traced or holds what cannot be quantized.
        QuantizationError: weights or activations are not finite, or sums of a layer would wrap in
            int32 accumulators.
        InputRangeError: images lie outside [0, 1], or there are none.
        ModelError: it is no module as written in Python.
    """
    if images.is_floating_point():
        check_inputs(images)
    images = in_float32(images)
    network = quantize_traced(trace(model, images), images, scheme, shrink=shrink)
    if network.fidelity and network.fidelity.warning:
        LOG.warning("%s", network.fidelity.warning)
    return network


def quantize_traced(
    graph: Graph,
    images: Num[Tensor, "n *features"],
    scheme: Scheme | None = None,
    *,
    shrink: Mapping[str, float] | None = None,
) -> IntegerNetwork:
    """Return the integer network of a traced graph, compared with it; see `quantize`.

    Raises:
        QuantizationError: as `quantize_graph`.
        InputRangeError: images lie outside [0, 1].
    """
    scheme = scheme or Scheme()
    if scheme.equalize:
        graph = equalize(graph)
    if scheme.vector_bits:
        graph = split_streams(graph)
    network = quantize_graph(graph, images, scheme, shrink=shrink)
    if scheme.adaround:
        network = scheme.adaround.apply(network, graph, images)
    if scheme.bias_correction:
        network = correct_biases(network, graph, images, scheme)
    return replace(network, fidelity=compare_with_floats(network, graph, images))


def quantize_graph(
    graph: Graph,
    images: Num[Tensor, "n *features"],
    scheme: Scheme | None = None,
    *,
    shrink: Mapping[str, float] | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> IntegerNetwork:
    """Return the integer network of a traced graph, bare; see `quantize`.

    Bare: not compared with floats, and without what `scheme` asks for before and after: equalized
    layers, copies of streams, adaptive rounding, corrected biases. Searches call this many times.

    `ranges` are those of activations from an earlier call; None measures them.

    Raises:
        QuantizationError: weights or activations are not finite, `shrink` names no layer, or sums
            of a layer would wrap in int32 accumulators.
        InputRangeError: images lie outside [0, 1].
    """
    if not graph.nodes[0].attrs.get("tokens"):
        check_inputs(images)
    scheme, shrink = scheme or Scheme(), shrink or {}
    _check_shrink(shrink, graph)
    ranges = ranges if ranges is not None else measure_ranges(graph, images, scheme)
    as_activations = {n.memory or n.name for n in graph.nodes if n.op in MEMORY_OPS}
    tensors: dict[str, CodedTensor] = {}
    grids: dict[str, Grid] = {}
    wide = wide_outputs(graph)
    long = vector_words(graph) if scheme.vector_bits else VectorWords()
    for node in graph.nodes:
        weight, bias = (graph.tensors.get(f"{node.name}.{key}") for key in ("weight", "bias"))
        if weight is not None:
            factor = shrink.get(node.name, 1.0)
            flat = node.name in as_activations
            if node.name in long.parameters:
                coded = encode_vector(weight, shrink=factor)
            else:
                coded = _encode_weight(node, graph, scheme.weight, shrink=factor, flat=flat)
            if node.op in MAC_OPS:
                coded = fit_accumulator(
                    node,
                    coded,
                    weight,
                    bias,
                    source=grids[node.inputs[0]],
                    quantizer=scheme.weight,
                    shrink=factor,
                )
            tensors[node.key("weight")] = coded
        elif node.memory and node.op in MAC_OPS:
            check_accumulator(
                node,
                tensors[node.key("weight")],
                graph.tensors.get(node.key("bias")),
                source=grids[node.inputs[0]],
            )
        if node.name not in wide:
            own = None if node.name in long.outputs else scheme.activation()
            grids[node.name] = _output_grid(
                node, graph, own, ranges=ranges, grids=grids, tensors=tensors
            )
        if bias is not None:
            known = tensors.get(node.key("weight")), grids[node.inputs[0]]
            tensors[node.key("bias")] = _encode_bias(
                bias,
                scheme,
                *known,
                accumulates=node.op in MAC_OPS,
                long=node.name in long.parameters,
            )
    shape = tuple(images.shape[1:])
    return IntegerNetwork(
        graph.nodes, tensors, grids, scheme.activation_rounding, input_shape=shape
    )


def _encode_weight(
    node: Node, graph: Graph, quantizer: Quantizer, *, shrink: float, flat: bool
) -> CodedTensor:
    """Return the words of a weight; of one that is read as activations are, on one grid."""
    weight = graph.tensors[node.key("weight")]
    if node.key("weight") in graph.less_one:
        return encode_scale(weight, quantizer, shrink=shrink)
    return quantizer.encode(
        weight, quantizer.fit(weight.flatten() if flat else weight, shrink=shrink)
    )


def _encode_bias(
    bias: Tensor,
    scheme: Scheme,
    weight: CodedTensor | None,
    source: Grid,
    *,
    accumulates: bool,
    long: bool,
) -> CodedTensor:
    """Return the words of a bias, of accumulators or `long` ones where `scheme` has no other."""
    if scheme.bias is None and accumulates:
        assert weight is not None
        return _on_accumulator_grid(bias, weight.grid.scale.double() * source.scale.double())
    if scheme.bias is None and long:
        return encode_vector(bias)
    return (scheme.bias or scheme.weight).encode(bias)


def encode_scale(scale: Tensor, quantizer: Quantizer, *, shrink: float = 1.0) -> CodedTensor:
    """Return the words of a scale `1 + a` that the model holds as `a`.

    What is stored is `a`, so that a range around zero, or a bound on it, does not cost the one that
    arithmetic adds; it becomes part of the zero point, to the nearest step.
    """
    excess = scale - 1
    grid = quantizer.fit(excess, shrink=shrink)
    steps = (1 / grid.scale.double()).round()
    if bool((steps >= 2**30).any()):  # no room for the 1 in a zero point
        return quantizer.encode(scale, quantizer.fit(scale, shrink=shrink))
    point = grid.zero_point - steps.to(torch.int32)
    return CodedTensor(quantizer.encode(excess, grid).codes, replace(grid, zero_point=point))


def _on_accumulator_grid(bias: Tensor, scale: Tensor) -> CodedTensor:
    """Return a bias as int32 words in steps of `scale`."""
    codes = (bias.double() / scale).round().to(torch.int32)  # `fit_accumulator` has made room
    zero = torch.zeros_like(scale, dtype=torch.int32)
    axis = 0 if scale.ndim else None
    return CodedTensor(codes, Grid(scale.float(), zero, 32, True, axis))


def _output_grid(
    node: Node,
    graph: Graph,
    quantizer: AffineQuantizer | None,
    *,
    ranges: Mapping[str, Range],
    grids: Mapping[str, Grid],
    tensors: Mapping[str, CodedTensor],
) -> Grid:
    """Return the grid of what a node gives; None as `quantizer`: of 16-bit words."""
    if node.op in MOVING_OPS:
        grid = grids[node.inputs[0]]
        return replace(grid, scale=grid.scale * node.attrs.get("factor", 1.0))
    if node.attrs.get("tokens"):
        zero = torch.tensor(0, dtype=torch.int32)
        return Grid(torch.tensor(1.0), zero, 32, signed=True)
    if node.op in MEMORY_OPS:
        return tensors[node.key("weight")].grid
    low, high = input_range(node) if node.op == "input" else ranges[node.name]
    device = next(iter(graph.tensors.values())).device if graph.tensors else "cpu"
    if quantizer is None:
        return vector_grid((low, high), device)
    ends = (torch.tensor([end], dtype=torch.float64, device=device) for end in (low, high))
    grid = quantizer.grid_for(*ends)
    zero_point = grid.zero_point[0].clamp(grid.low, grid.high)
    return Grid(grid.scale[0], zero_point, grid.bits, grid.signed)


def input_range(node: Node) -> Range:
    """Return the range of the normalised input, given that images lie in [0, 1]."""
    if "mean" not in node.attrs:
        return 0.0, 1.0
    pairs = list(zip(node.attrs["mean"], node.attrs["std"], strict=True))
    ends = [(end - mean) / std for mean, std in pairs for end in (0, 1)]
    return min(0.0, *ends), max(0.0, *ends)


def _check_shrink(shrink: Mapping[str, float], graph: Graph) -> None:
    layers = [node.name for node in graph.nodes if f"{node.name}.weight" in graph.tensors]
    for name in shrink:
        if name not in layers:
            raise QuantizationError(f"shrink: no layer '{name}'. {near(name, layers)}")
