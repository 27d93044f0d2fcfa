"""Integer networks as ONNX files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitproof.core.errors import ExchangeError, near, shorten
from bitproof.core.files import write_bytes
from bitproof.core.version import __version__
from bitproof.exchange.export_layers import integer_layer
from bitproof.exchange.export_movements import move
from bitproof.exchange.export_portable import portable_node
from bitproof.exchange.export_qdq import quantized_layer
from bitproof.exchange.export_real import real_node
from bitproof.exchange.export_state import ExportState, Wire, refused
from bitproof.exchange.export_sums import SUMS
from bitproof.exchange.onnx_library import onnx_library
from bitproof.quant import IntegerNetwork, Node
from bitproof.quant.operations import MAC_OPS, MOVING_OPS
from bitproof.quant.shapes import infer_shapes
from bitproof.quant.wide_outputs import reads_wide

FORMS = "qdq", "integer", "portable"
WEIGHTS = "uint8", "int8"
INPUT, OUTPUT = "input", "output"
"""Names of the tensors that go in and come out."""
LARGEST = (1 << 31) - 1
"""Bytes of a file in the protocol that ONNX uses."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    form: str
    digest: str
    """Of the network."""
    nodes: int
    """Of the ONNX graph."""
    size: int
    """Of the file, bytes."""
    rewritten: dict[str, tuple[str, ...]]
    """What was spelled out in another way, and the nodes where it was."""


def export_onnx(
    network: IntegerNetwork,
    path: Path | str,
    *,
    form: str = "qdq",
    weights: str = "uint8",
) -> Exported:
    """Write a network as an ONNX file, which takes any number of images.

    Args:
        network: what is exported; its products are exact.
        path: the file.
        form: `qdq`: layers between QuantizeLinear and DequantizeLinear, for which ONNX Runtime has
            int8 kernels; `integer`: operators alone whose results the standard defines to the bit;
            `portable`: QDQ with real scales and operators by name, whose logits differ at ties.
        weights: type of the weights of `qdq`; the kernels for int8 are faster, but saturate on CPUs
            that have AVX2 and no VNNI.

    Raises:
        AdapterError: the package onnx is not installed.
        ExchangeError: a node has no form in ONNX, or the network no shape of its images.
        StorageError: the file cannot be written.

    Example:
        >>> import torch
        >>> from bitproof.quant import quantize
        >>> network = quantize(torch.nn.Linear(4, 2), torch.rand(8, 4))
        >>> export_onnx(network, "network.onnx").nodes  # doctest: +SKIP
        9
    """
    path = Path(path)
    model, state = build_onnx(network, form=form, weights=weights)
    if model.ByteSize() > LARGEST:
        raise ExchangeError(f"export: wanted at most 2 GiB in a file, got {model.ByteSize():,}")
    onnx_library().checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    write_bytes(path, content)
    rewritten = {text: tuple(names) for text, names in state.notes.items()}
    nodes = len(model.graph.node)
    return Exported(path, form, network.digest(), nodes, len(content), rewritten)


def build_onnx(
    network: IntegerNetwork, *, form: str = "qdq", weights: str = "uint8"
) -> tuple[Any, ExportState]:
    """Return the ONNX model of a network, and what was noted on the way.

    Raises:
        AdapterError: the package onnx is not installed.
        ExchangeError: a node has no form in ONNX, or the network no shape of its images.
    """
    for what, value, known in (("form", form, FORMS), ("weights", weights, WEIGHTS)):
        if value not in known:
            raise ExchangeError(f"export: no {what} {shorten(value)}. {near(value, known)}")
    onnx_library()
    _check_products(network)
    network = network.to("cpu")
    image = network.input_shape
    if image is None:
        raise ExchangeError(
            "export: wanted a network that knows the shape of its images, got one from before that "
            "was kept; quantize it again"
        )
    two, three = (infer_shapes(network, (n, *image)) for n in (2, 3))
    state = ExportState(network, (two, three), weights=weights, signed_words=form == "portable")
    state.source, output = state.writer.fresh(INPUT), state.writer.fresh(OUTPUT)
    for node in network.nodes:
        _note_words(state, node)
        state.wires[node.name] = _output_of(state, node, form)
    last = network.nodes[-1]
    wire, grid = state.wires[last.name], state.grid(last)
    values = wire.name if grid is None else state.scaled(wire, float(grid.scale))
    state.writer.name_output(values, output)
    tokens = network.nodes[0].attrs.get("tokens")
    result = ["n" if isinstance(size, tuple) else size for size in state.sizes(last.name)]
    about = {"bitproof.digest": network.digest(), "bitproof.form": form}
    about |= {f"bitproof.rewritten {text}": ", ".join(n) for text, n in state.notes.items()}
    model = state.writer.model(
        source=(state.source, "int64" if tokens else "float32", ["n", *image]),
        result=(output, result),
        version=__version__,
        about=about,
    )
    return model, state


def _output_of(state: ExportState, node: Node, form: str) -> Wire:
    """Write a node, and return its output."""
    if reads_wide(node, state.network.grids):
        return real_node(state, node)
    if node.op in MOVING_OPS:
        return move(state, node)
    if form == "portable":
        return portable_node(state, node)
    if node.op in MAC_OPS or node.op == "avg_pool":
        return quantized_layer(state, node) if form == "qdq" else integer_layer(state, node)
    return SUMS[node.op](state, node)


def _check_products(network: IntegerNetwork) -> None:
    for node in network.nodes:
        if node.name in network.products:
            names = ", ".join(network.products[node.name].names) or "a table"
            raise refused(
                node,
                f"wanted exact products, got those of {names}; ONNX has no approximate "
                "multipliers: export the network from before with_multipliers",
            )


def _note_words(state: ExportState, node: Node) -> None:
    """Note words that are in other containers than in the network."""
    grid = state.grid(node)
    if grid is not None and grid.bits < 8:
        state.note("words below 8 bits: in 8-bit containers, clipped to their range", node)
    weight, bias = (state.network.tensors.get(node.key(kind)) for kind in ("weight", "bias"))
    if weight is not None and weight.grid.bits < 8 and node.op in MAC_OPS:
        state.note("weights below 8 bits: in 8-bit containers", node)
    if bias is not None and bias.grid.bits < 32 and node.op in MAC_OPS:
        state.note("biases of fewer bits: as int32, in whole steps of the sums", node)
