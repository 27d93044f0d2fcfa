"""A quantized ONNX model as an integer network: its words, scales and zero points as they are.

Model:  QDQ graphs as onnxruntime's static quantization, torchao (pt2e) and Brevitas write them,
        and operators on integers (`QLinearConv`). Between a DequantizeLinear and a QuantizeLinear
        lies one operation, which our integer network computes in exact int32 sums, one float32
        multiplication and one rounding. onnxruntime rounds its factors twice, ours once: words
        differ by one at ties, rarely.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.core.errors import ExchangeError, shorten
from bitproof.exchange.assembly import RUNS, Assembly, merged
from bitproof.exchange.onnx_file import OnnxFile, OnnxInput, OnnxNode, read_onnx
from bitproof.exchange.operator_format import as_qdq
from bitproof.exchange.qdq import IMAGES, Reader, apply_rule
from bitproof.exchange.values import Image, Known, Value
from bitproof.quant.network import IntegerNetwork

LOG = logging.getLogger("bitproof.exchange")
SUFFIX = ".onnx"
LOWEST, HIGHEST = -0.1, 2.1
"""Where the words of an input end, at most, if the model is for images in [0, 1]: observers that
spare one bit double the range."""
AROUND_ZERO = 1.1
"""The same for words that lie around 0."""
FLOATS, WHOLE = frozenset({"FLOAT", "DOUBLE", "FLOAT16"}), frozenset({"UINT8", "INT8"})
QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul"})


@dataclass(frozen=True)
class InputScaling:
    """What a model takes for images in [0, 1]: `x * factor + summand`, by channel.

    Example:
        >>> InputScaling.of(None, None, (0.0, 255.0))
        InputScaling(factor=(255.0,), summand=(0.0,))
    """

    factor: tuple[float, ...] = (1.0,)
    summand: tuple[float, ...] = (0.0,)

    @classmethod
    def of(
        cls,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        ends: tuple[float, float] | None = None,
    ) -> "InputScaling":
        """Return the scaling of `(x - mean) / std`, or that to a range.

        Raises:
            ExchangeError: both are given, or numbers do not go together.
        """
        if ends is not None:
            if mean is not None or std is not None:
                raise ExchangeError("input_range: wanted it, or mean and std, got both")
            low, high = (float(end) for end in ends)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ExchangeError(f"input_range: wanted two rising ends, got {low:g}, {high:g}")
            return cls((high - low,), (low,))
        means = np.asarray([0.0] if mean is None else mean, np.float64).reshape(-1)
        stds = np.asarray([1.0] if std is None else std, np.float64).reshape(-1)
        if not (np.isfinite(means).all() and np.isfinite(stds).all() and (stds > 0).all()):
            raise ExchangeError("mean, std: wanted finite numbers and positive deviations")
        if 1 not in {means.size, stds.size} and means.size != stds.size:
            raise ExchangeError(f"mean, std: wanted as many, got {means.size} and {stds.size}")
        means, stds = np.broadcast_arrays(means, stds)
        return cls(tuple((1 / stds).tolist()), tuple((-means / stds).tolist()))

    @property
    def is_plain(self) -> bool:
        """Whether a model takes images in [0, 1]."""
        return self == InputScaling()

    def apply(self, images: Float[Tensor, "n *features"]) -> Float[Tensor, "n *features"]:
        """Return images in [0, 1] as a model takes them."""
        shape = [-1] + [1] * (images.ndim - 2)
        factor, summand = (torch.tensor(one).reshape(shape) for one in (self.factor, self.summand))
        return images if self.is_plain else images * factor + summand


def import_onnx(
    path: Path | str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_range: tuple[float, float] | None = None,
    input_shape: Sequence[int] | None = None,
) -> IntegerNetwork:
    """Return the integer network that a quantized ONNX model is.

    The network takes images in [0, 1]. What the model takes is said by `mean` and `std` (of
    `(x - mean) / std` by channel, in input units) or by `input_range` (what 0 and 1 are, such as
    `(0, 255)`); without them, it has to take images in [0, 1] itself, normalised inside or not.

    Args:
        path: a file with QuantizeLinear and DequantizeLinear, or with operators on integers.
        mean: of each channel, or one for all.
        std: of each channel, or one for all.
        input_range: two ends.
        input_shape: of one image, without the batch, where the file leaves sizes free.

    Raises:
        AdapterError: the package onnx is not installed.
        ExchangeError: the file is none, or an operator, a type or a missing pair of
            QuantizeLinear and DequantizeLinear has no form as integers; it is named with its node.

    Example:
        >>> import_onnx("model.onnx")  # doctest: +SKIP
    """
    path = Path(path)
    file = read_onnx(path)
    if not any(node.op in QUANTIZED for node in file.nodes):
        raise ExchangeError(
            f"{path}: wanted a quantized model, got one without QuantizeLinear; a float model goes "
            "where models go: model = 'file.onnx', --model file.onnx"
        )
    if file.facts.get("bitproof.form", "portable") != "portable":
        raise ExchangeError(
            f"{path}: bitproof wrote it in the form {shorten(file.facts['bitproof.form'])}, whose "
            "scales are not those of its network; what can be read back is --format portable"
        )
    scaling = None
    if (mean, std, input_range) != (None, None, None):
        scaling = InputScaling.of(mean, std, input_range)
    try:
        file = as_qdq(file)
        source = one_input(file)
        shape = image_shape(source, input_shape)
        if source.dtype == "INT8" and scaling is None:
            raise ExchangeError(
                "input: it takes signed bytes; say what 0 and 1 are by input_range, such as "
                "-128,127 (`bitproof import --range`)"
            )
        networks = [walk(file, source, shape, scaling, n) for n in RUNS]
    except ExchangeError as error:
        reason = str(error)
        raise ExchangeError(
            reason if reason.startswith(str(path)) else f"{path}: {reason}"
        ) from None
    network = merged(networks, str(path))
    if scaling is None:
        check_range(network, str(path))
    return network


def is_onnx(name: str | Path) -> bool:
    """Tell whether a name is that of an ONNX file.

    Example:
        >>> is_onnx("nets/a.onnx"), is_onnx("runs/x/networks/s1")
        (True, False)
    """
    return str(name).endswith(SUFFIX)


def one_input(file: OnnxFile) -> OnnxInput:
    """Return the input of a model that has one.

    Raises:
        ExchangeError: it has several, or one of another type.
    """
    if len(file.inputs) != 1:
        names = ", ".join(shorten(one.name) for one in file.inputs[:5])
        raise ExchangeError(f"wanted a model with one input, got {names or 'none'}")
    source = file.inputs[0]
    if source.dtype not in FLOATS | WHOLE:
        raise ExchangeError(f"input: wanted real numbers or bytes, got {source.dtype}")
    if len(file.outputs) > 1:
        LOG.warning("%s: of several outputs, the network gives %s", file.path, file.outputs[0])
    return source


def image_shape(source: OnnxInput, given: Sequence[int] | None) -> tuple[int, ...]:
    """Return the sizes of one image, those that a file leaves free as they are `given`.

    Raises:
        ExchangeError: they are not known, or others.
    """
    if len(source.shape) < 2:
        raise ExchangeError(f"input: wanted a batch of images, got sizes {source.shape}")
    sizes = tuple(source.shape[1:] if given is None else given)
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise ExchangeError(
            f"input: its sizes {_text(sizes)} are free; say them with input_shape (or --shape)"
        )
    fits = len(sizes) == len(source.shape) - 1 and all(
        wanted in {None, size} for wanted, size in zip(source.shape[1:], sizes, strict=True)
    )
    if not fits or min(known) < 1 or math.prod(known) > 1 << 26:
        raise ExchangeError(f"input: wanted images of {_text(source.shape[1:])}, got {known}")
    return tuple(known)


def _text(sizes: Sequence[int | None]) -> str:
    return " x ".join("?" if size is None else str(size) for size in sizes)


def walk(
    file: OnnxFile,
    source: OnnxInput,
    shape: tuple[int, ...],
    scaling: InputScaling | None,
    images: int,
) -> IntegerNetwork:
    """Return the network of a graph, put together for some number of images.

    Raises:
        ExchangeError: it has no form as integers.
    """
    assembly = Assembly(images)
    assembly.shapes[IMAGES] = (images, *shape)
    reader = Reader(assembly, file.opset, source.shape[0])
    whole = source.dtype in WHOLE
    given = scaling or InputScaling((255.0 if whole else 1.0,))
    factor, summand = np.asarray(given.factor), np.asarray(given.summand)
    first = Image(factor, summand, shape=(images, *shape), integer=whole)
    values: dict[str, Value] = {name: Known(array) for name, array in file.arrays.items()}
    values[source.name] = first
    last: OnnxNode | None = None
    for node in file.nodes:
        operands: list[Value | None] = []
        for name in node.inputs:
            if name and name not in values:
                raise ExchangeError(
                    f"{node.label}: reads {shorten(name)}, which nothing before it gives"
                )
            operands.append(values[name] if name else None)
        found = apply_rule(reader, node, operands)
        values.update(zip(node.outputs, found, strict=False))
        if file.outputs[0] in node.outputs:
            last = node
    if last is None:
        raise ExchangeError(f"output: nothing gives {shorten(file.outputs[0])}")
    name = reader.output(values[file.outputs[0]], last)
    if assembly.shapes[name][:1] != (images,):
        raise ExchangeError(
            f"{last.label}: wanted an output for each image, got the shape "
            f"{assembly.shapes[name]} for {images}"
        )
    return assembly.finish(name, shape)


def check_range(network: IntegerNetwork, path: str) -> None:
    """Check that the input of a model is one of images in [0, 1], as far as its grid tells.

    Raises:
        ExchangeError: it is not.
    """
    node = network.nodes[0]
    grid = network.grids.get(node.name)
    if node.op != "input" or grid is None or "mean" in node.attrs:
        return
    low, high = (float(grid.scale) * (end - int(grid.zero_point)) for end in (grid.low, grid.high))
    around_zero = abs(low + high) < 0.1 * high <= 0.1 * AROUND_ZERO
    if not (around_zero or (low >= LOWEST and high <= HIGHEST)):
        raise ExchangeError(
            f"{path}: its input reaches from {low:.3g} to {high:.3g}, images here from 0 to 1; "
            "say what it takes by mean and std, or by input_range (`bitproof import --mean --std "
            "--range`; --range 0,1 for these)"
        )
