"""A float ONNX model as a network that can be trained, hardened and quantized like any other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from bitproof.core.errors import AdapterError, ExchangeError, ModelError, shorten
from bitproof.core.packages import Package
from bitproof.core.rng import make_generator
from bitproof.core.user_code import folders
from bitproof.exchange.float_onnx import RULES, build_module
from bitproof.exchange.onnx_file import OnnxFile, read_onnx
from bitproof.exchange.onnx_import import QUANTIZED, InputScaling, image_shape, one_input
from bitproof.exchange.onnx_library import onnx_runtime
from bitproof.models.base import MODELS, ImageModelSpec, Normalize

CHECKED = 3
"""Images that onnxruntime's answers are compared on: another number than the graph was read for."""
TOLERANCE = 1e-3
"""Of their distance, relative to the largest output."""


def model_from_onnx(
    path: Path | str,
    *,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    input_shape: Sequence[int] | None = None,
) -> nn.Module:
    """Return the module that a float ONNX model is, its weights as parameters.

    It takes images in [0, 1]; with `mean` and `std`, by channel, a normalisation comes first.
    Where onnxruntime is installed, its answers on random images are compared with the module's.

    Args:
        path: a float model, with one input.
        mean: what the model wants subtracted; empty: zeros.
        std: what it wants to divide by; empty: ones.
        input_shape: of one image, where the file leaves sizes free.

    Raises:
        AdapterError: the package onnx is not installed.
        ExchangeError: it is no ONNX file, it is quantized, an operator has no form in torch (named
            with its node), or onnxruntime answers otherwise;
            or mean and std are not for its channels.

    Example:
        >>> model_from_onnx("model.onnx")  # doctest: +SKIP
    """
    path = Path(path)
    file = read_onnx(path)
    if any(node.op in QUANTIZED for node in file.nodes):
        raise ExchangeError(
            f"{path}: wanted a float model, got a quantized one; it goes where networks go: "
            "network = 'file.onnx', --network file.onnx"
        )
    try:
        shape = image_shape(one_input(file), input_shape)
        module: nn.Module = build_module(file, shape, RULES)
    except ExchangeError as error:
        reason = str(error)
        raise ExchangeError(
            reason if reason.startswith(str(path)) else f"{path}: {reason}"
        ) from None
    normalize = _normalize(mean, std, shape[0])
    _check(file, module, shape)
    return nn.Sequential(normalize, module) if normalize is not None else module


def _normalize(mean: Sequence[float], std: Sequence[float], channels: int) -> Normalize | None:
    """Return the layer before a model; None: it takes images in [0, 1]."""
    if not (len(mean) or len(std)):
        return None
    means = [float(one) for one in mean] if len(mean) else [0.0] * len(std)
    stds = [float(one) for one in std] if len(std) else [1.0] * len(mean)
    InputScaling.of(means, stds)  # finite and positive
    if len(means) != len(stds) or len(means) not in {1, channels}:
        raise ExchangeError(
            f"mean, std: wanted one for each of {channels} channels, "
            f"got {len(means)} and {len(stds)}"
        )
    return Normalize(means, stds)


@torch.no_grad()
def _check(file: OnnxFile, module: nn.Module, shape: Sequence[int]) -> None:
    """Compare with onnxruntime, where it is installed."""
    try:
        ort = onnx_runtime()
    except AdapterError:
        return
    images = torch.rand((file.inputs[0].shape[0] or CHECKED, *shape), generator=make_generator(0))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = ort.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
        (found,) = session.run([file.outputs[0]], {file.inputs[0].name: images.numpy()})
    except Exception as error:  # onnxruntime has no common base of its errors
        reason = " ".join(str(error).split())[:200]
        raise ExchangeError(f"{file.path}: does not run in onnxruntime ({reason})") from None
    wanted, got = torch.from_numpy(np.asarray(found)), module.eval()(images)
    off = float((got - wanted).abs().max()) if got.shape == wanted.shape else float("inf")
    if not off <= TOLERANCE * (1 + float(wanted.abs().max())):
        raise ExchangeError(
            f"{file.path}: its answers here are off by {off:.3g} from those of onnxruntime"
        )


@MODELS.register
class OnnxModel(ImageModelSpec):
    """A float ONNX model; in recipes also `model = "file.onnx"`.

    It has its weights; images in [0, 1] are not normalised but by `mean` and `std`. A digest covers
    the name of the file, not its content.

    Example:
        >>> OnnxModel(file="nets/a.onnx").kind
        'onnx'
    """

    packages: ClassVar[tuple[Package, ...]] = (
        Package("onnx", wanted_by="onnx", install="pip install 'bitproof[onnx]'"),
    )
    brings_weights: ClassVar[bool] = True

    kind: Literal["onnx"] = "onnx"
    file: Annotated[str, Field(pattern=r"\.onnx$", max_length=1000)]
    """Relative to the recipe's folder or to the working directory."""

    def assemble(
        self,
        *,
        in_channels: int,
        image_size: int,
        n_classes: int,  # noqa: ARG002 - the file has as many as it has
    ) -> nn.Module:
        """Return the module of the file, once it fits the images."""
        path = find_onnx(self.file)
        file_shape = one_input(read_onnx(path)).shape[1:]
        free = None
        if any(size is None for size in file_shape):
            wanted = (in_channels, image_size, image_size)
            free = [a if a is not None else b for a, b in zip(file_shape, wanted, strict=False)]
        if file_shape and file_shape[0] not in {None, in_channels}:
            raise ModelError(
                f"onnx: wanted a model for {in_channels} channels, {shorten(self.file)} is for "
                f"{file_shape[0]}"
            )
        return model_from_onnx(path, mean=self.mean, std=self.std, input_shape=free)


def find_onnx(name: str) -> Path:
    """Return the path of a file that a recipe names, beside it or in the working directory.

    Raises:
        ModelError: it lies in neither.
    """
    places = [*folders(), Path()]
    for place in places:
        if (place / name).is_file():
            return place / name
    looked = ", ".join(str(place / name) for place in places)
    raise ModelError(f"onnx: no file {shorten(name)}; looked for {looked}")
