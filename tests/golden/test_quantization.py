"""Quantization against implementations that are not ours: torch's own and ONNX Runtime's.

Origin of the stored vectors: `PROVENANCE.md`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.quant import AffineQuantizer, CodedTensor, Grid, IntegerNetwork, Node
from bitproof.quant.integers import integer_op

STORED = Path(__file__).parent / "onnxruntime.npz"
FULL = AffineQuantizer(narrow=False, margin=0.0)
deprecated = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    with np.load(STORED, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def grid_of(scale: Any, zero_point: Any, *, signed: bool, bits: int = 8) -> Grid:
    scales = torch.as_tensor(np.array(scale), dtype=torch.float32)
    points = torch.as_tensor(np.array(zero_point), dtype=torch.int32)
    return Grid(scales, points, bits, signed, axis=0 if scales.ndim else None)


def convolve(
    x: CodedTensor, weight: CodedTensor, bias: Tensor, out: Grid, how: list[int]
) -> Tensor:
    """Return the words of one integer convolution, requantized."""
    padding, stride, dilation, groups = how
    attrs = {
        "padding": [padding] * 2,
        "stride": [stride] * 2,
        "dilation": [dilation] * 2,
        "groups": groups,
    }
    node = Node("conv", "conv", ("x",), attrs)
    wide = grid_of(1.0, 0, signed=True, bits=32)
    tensors = {"conv.weight": weight, "conv.bias": CodedTensor(bias, wide)}
    network = IntegerNetwork((Node("x", "input"), node), tensors, {"x": x.grid, "conv": out})
    return integer_op(network, node, [x.codes], torch.zeros(len(x.codes), 1))


@pytest.mark.parametrize("case", ["padded", "strided", "grouped", "signed", "ties"])
def test_convolution_has_the_words_of_onnxruntime(case: str, stored: dict[str, Any]) -> None:
    """QLinearConv: accumulators, zero points, padding, requantization, rounding, saturation."""
    v = {key: stored[f"{case}.{key}"] for key in ("x", "xs", "xz", "w", "ws", "wz", "b", "how")}
    signed_x, signed_w = v["x"].dtype == np.int8, v["w"].dtype == np.int8
    codes = convolve(
        CodedTensor(torch.from_numpy(v["x"]), grid_of(v["xs"], v["xz"], signed=signed_x)),
        CodedTensor(torch.from_numpy(v["w"]), grid_of(v["ws"], v["wz"], signed=signed_w)),
        torch.from_numpy(v["b"]),
        grid_of(stored[f"{case}.ys"], stored[f"{case}.yz"], signed=signed_x),
        v["how"].tolist(),
    )
    np.testing.assert_array_equal(codes.numpy(), stored[f"{case}.y"])


def test_case_with_ties_has_ties(stored: dict[str, Any]) -> None:
    """The multiplier is 1/2, so half of the sums lie between two words."""
    v = {
        key: torch.from_numpy(np.array(stored[f"ties.{key}"]))
        for key in ("x", "w", "xz", "wz", "b")
    }
    x, w = (v[a].double() - v[b].double() for a, b in (("x", "xz"), ("w", "wz")))
    sums = torch.nn.functional.conv2d(x, w, v["b"].double())
    ties = (sums % 2 == 1).float().mean()
    assert 0.3 < float(ties) < 0.7


@pytest.mark.parametrize("name", ["uint8", "int8"])
def test_words_of_values_are_those_of_onnxruntime(name: str, stored: dict[str, Any]) -> None:
    """QuantizeLinear, ties included where the step is a power of two."""
    x, y, scale, zero = (stored[f"quantize.{name}.{key}"] for key in ("x", "y", "scale", "zero"))
    ratio = x.astype(np.float64) / np.float64(scale)
    sure = (np.abs(ratio - np.floor(ratio) - 0.5) > 1e-4) | (scale == 0.25)
    signed = name == "int8"
    quantizer = FULL.model_copy(update={"signed": signed})
    coded = quantizer.encode(torch.from_numpy(x), grid_of(scale, zero, signed=signed))
    np.testing.assert_array_equal(coded.codes.numpy()[sure], y[sure])
    assert sure.sum() > 400


@deprecated
@pytest.mark.parametrize("signed", [True, False])
def test_words_of_values_are_those_of_torch(signed: bool) -> None:
    values = torch.randn(4000, generator=make_generator(0)) * 3
    values = torch.cat([values, (torch.arange(-300, 300) + 0.5) / 32])  # ties at the second step
    # Torch rounds the sum with the zero point, so only even ones leave its ties where ours are.
    for scale, zero in ((0.0237, 11), (1 / 32, 12), (1 / 64, 0), (0.05, -3 if signed else 240)):
        grid = grid_of(np.float32(scale), zero, signed=signed)
        ours = FULL.model_copy(update={"signed": signed}).encode(values, grid)
        kind = torch.qint8 if signed else torch.quint8
        theirs = torch.quantize_per_tensor(values, float(grid.scale), zero, kind)
        ratio = values.double() / grid.scale.double()
        exact = float(grid.scale) in {1 / 32, 1 / 64}
        sure = ((ratio - ratio.floor() - 0.5).abs() > 1e-4) | exact
        assert int(sure.sum()) > 4000
        assert torch.equal(ours.codes[sure], theirs.int_repr()[sure])
        assert torch.equal(ours.values()[sure], theirs.dequantize()[sure])


@pytest.mark.parametrize(("scale", "zero"), [(1 / 32, 100), (1 / 16, 128), (1 / 128, 0)])
def test_fake_quantization_is_that_of_torch(scale: float, zero: int) -> None:
    values = torch.randn(4000, generator=make_generator(1)) * 3
    theirs = torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, 255)
    ours = FULL.encode(values, grid_of(np.float32(scale), zero, signed=False)).values()
    assert torch.equal(ours, theirs)


def test_activation_grid_is_that_of_torchs_observer() -> None:
    """Full range, zero included: the affine scheme that everybody uses for activations."""
    from torch.ao.quantization import MinMaxObserver  # noqa: PLC0415 - slow to import

    for low, high in ((-1.3, 2.9), (0.0, 6.0), (-4.0, 0.0), (-0.01, 7.7)):
        observer = MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
        observer(torch.tensor([low, high]))
        scale, zero_point = observer.calculate_qparams()
        ends = (torch.tensor([end], dtype=torch.float64) for end in (low, high))
        ours = FULL.grid_for(*ends)
        assert float(ours.scale) == pytest.approx(float(scale), rel=1e-6)
        assert int(ours.zero_point) == int(zero_point)


@deprecated
@pytest.mark.parametrize("how", [[1, 1, 1, 1], [0, 2, 1, 1], [2, 1, 2, 3]])
def test_convolution_has_the_words_of_torchs_int8_kernel(how: list[int]) -> None:
    """Requantization by one single-precision factor, as FBGEMM and oneDNN do it."""
    from torch.ao.nn.quantized import functional as quantized  # noqa: PLC0415 - slow to import

    padding, stride, dilation, groups = how
    generator = make_generator(0, *how)
    # 7-bit activations: without VNNI instructions these kernels saturate pairs of products.
    x = torch.randint(0, 128, (3, 6, 9, 9), generator=generator, dtype=torch.uint8)
    weight = torch.randint(-127, 128, (6, 6 // groups, 3, 3), generator=generator, dtype=torch.int8)
    bias = torch.randint(-5000, 5000, (6,), generator=generator, dtype=torch.int32)
    x_grid = grid_of(np.float32(0.0173), 41, signed=False)
    w_grid, out = (
        grid_of(np.float32(0.0081), 0, signed=True),
        grid_of(np.float32(0.191), 97, signed=False),
    )
    coded_x, coded_w = CodedTensor(x, x_grid), CodedTensor(weight, w_grid)
    theirs = quantized.conv2d(  # type: ignore[no-untyped-call]
        torch.quantize_per_tensor(coded_x.values(), float(x_grid.scale), 41, torch.quint8),
        torch.quantize_per_tensor(coded_w.values(), float(w_grid.scale), 0, torch.qint8),
        (bias.double() * x_grid.scale.double() * w_grid.scale.double()).float(),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        scale=float(out.scale),
        zero_point=97,
    )
    ours = convolve(coded_x, coded_w, bias, out, how)
    assert torch.equal(ours, theirs.int_repr())
    assert len(set(ours.flatten().tolist())) > 50


def test_accumulators_are_those_of_torchs_integer_product() -> None:
    generator = make_generator(3)
    a = torch.randint(-128, 128, (40, 700), generator=generator, dtype=torch.int8)
    b = torch.randint(-128, 128, (24, 700), generator=generator, dtype=torch.int8)
    grids = [grid_of(1.0, 0, signed=True) for _ in range(2)]
    node = Node("linear", "linear", ("x",))
    network = IntegerNetwork(
        (Node("x", "input"), node), {"linear.weight": CodedTensor(b, grids[1])}, {"x": grids[0]}
    )
    ours = integer_op(network, node, [a], torch.zeros(40, 1))
    theirs = torch._int_mm(a, b.T.contiguous())
    assert torch.equal(ours, theirs.float())
    assert torch.equal(ours.to(torch.int32), theirs)
