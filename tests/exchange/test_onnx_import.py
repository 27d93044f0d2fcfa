"""Quantized ONNX models as integer networks: onnxruntime gives the same words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitproof.core.errors import ExchangeError
from bitproof.exchange import export_onnx, import_onnx, open_network
from bitproof.quant import Scheme, load_network, quantize, save_network
from tests.exchange.tiny_onnx import Tiny, images_of, onnx, run_onnx

IMAGES = images_of(16, 2, 6, 6)
S = 1 / 255
Build = Callable[[Tiny, str], str]
"""Adds operators between a DequantizeLinear and a QuantizeLinear; returns what they give."""


def conv(tiny: Tiny, x: str, **attrs: Any) -> str:
    weight = tiny.words((4, 2, 3, 3), 0.01)
    bias = tiny.dq(tiny.array([5, -900, 300, 0], np.int32), 0.01 * S, 0, np.int32)
    return str(tiny.op("Conv", x, weight, bias, **attrs))


def conv_by_channel(tiny: Tiny, x: str) -> str:
    scales = np.array([0.01, 0.02, 0.005, 0.03], np.float32)
    weight = tiny.words((4, 2, 3, 3), scales, axis=0)
    codes = tiny.array([5, -900, 300, 0], np.int32)
    bias = tiny.dq(codes, scales * np.float32(S), [0] * 4, np.int32, axis=0)
    return str(tiny.op("Relu", tiny.op("Conv", x, weight, bias, pads=[1, 1, 1, 1])))


def linear(tiny: Tiny, x: str) -> str:
    flat = tiny.op("Flatten", x)
    scales = np.linspace(0.005, 0.02, 5, dtype=np.float32)
    weight = tiny.words((72, 5), scales, axis=1)
    return str(tiny.op("Gemm", flat, weight, tiny.array(np.linspace(-1, 1, 5))))


def torch_linear(tiny: Tiny, x: str) -> str:
    """What exporters write for a linear layer with weights by channel, stored as in torch."""
    flat = tiny.op("Reshape", x, tiny.array([0, -1], np.int64))
    scales = np.linspace(0.005, 0.02, 5, dtype=np.float32)
    weight = tiny.op("Transpose", tiny.words((5, 72), scales, axis=0), perm=[1, 0])
    product = tiny.op("MatMul", flat, weight)
    return str(tiny.op("Add", product, tiny.array(np.linspace(-1, 1, 5))))


def conv_norm(tiny: Tiny, x: str) -> str:
    """What Brevitas writes: a norm that nobody folded, with a negative factor."""
    product = tiny.op("Conv", x, tiny.words((4, 2, 3, 3), 0.01))
    parts = ([1.5, -0.5, 0.1, 1.0], [0.1, 0.2, 0.0, -0.3], [0.3, -0.2, 0.1, 0.0], [1, 2, 0.5, 1])
    norm = tiny.op("BatchNormalization", product, *(tiny.array(part) for part in parts))
    return str(tiny.op("Relu", norm))


def silu(tiny: Tiny, x: str) -> str:
    return str(tiny.op("Mul", x, tiny.op("Sigmoid", x)))


def hard_swish_written_out(tiny: Tiny, x: str) -> str:
    clipped = tiny.op("Clip", tiny.op("Add", x, tiny.array(3.0)), tiny.array(0.0), tiny.array(6.0))
    return str(tiny.op("Div", tiny.op("Mul", x, clipped), tiny.array(6.0)))


def gelu_written_out(tiny: Tiny, x: str) -> str:
    half = tiny.op("Add", tiny.op("Erf", tiny.op("Div", x, tiny.array(2**0.5))), tiny.array(1.0))
    return str(tiny.op("Mul", tiny.op("Mul", x, half), tiny.array(0.5)))


def swapped(tiny: Tiny, x: str) -> str:
    parts = tiny.op("Split", x, tiny.array([1, 1], np.int64), axis=1, outputs=2)
    parts = [tiny.qdq(part, S) for part in parts]
    return str(tiny.op("Concat", parts[1], parts[0], axis=1))


def resized(tiny: Tiny, x: str) -> str:
    scales = tiny.array([1, 1, 2, 2])
    return str(tiny.op("Resize", x, "", scales, mode="linear"))


def shape_arithmetic(tiny: Tiny, x: str) -> str:
    """A flatten as torch exports a `view(x.shape[0], -1)`."""
    sizes = tiny.op("Gather", tiny.op("Shape", x), tiny.array(0, np.int64))
    parts = tiny.op("Unsqueeze", sizes, tiny.array([0], np.int64)), tiny.array([-1], np.int64)
    return str(tiny.op("Reshape", x, tiny.op("Concat", *parts, axis=0)))


def constant_sum(tiny: Tiny, x: str) -> str:
    codes = tiny.array(np.arange(12).reshape(2, 1, 6), np.uint8)
    return str(tiny.op("Add", x, tiny.dq(codes, 0.02, 3)))


def attention(tiny: Tiny, x: str) -> str:
    rows = tiny.op("Squeeze", tiny.op("Slice", x, *(tiny.array([n], np.int64) for n in (0, 1, 1))),
                   tiny.array([1], np.int64))  # fmt: skip
    scores = tiny.qdq(tiny.op("MatMul", rows, tiny.op("Transpose", rows, perm=[0, 2, 1])), 0.02)
    return str(tiny.op("MatMul", tiny.qdq(tiny.op("Softmax", scores, axis=-1), 1 / 256), rows))


def normed(tiny: Tiny, x: str) -> str:
    gain, shift = tiny.array(np.linspace(0.5, 1.5, 6)), tiny.array(np.linspace(-1, 1, 6))
    return str(tiny.op("LayerNormalization", x, gain, shift, axis=-1, epsilon=1e-5))


def unary(kind: str, **attrs: Any) -> Build:
    return lambda tiny, x: str(tiny.op(kind, x, **attrs))


def pool(kind: str, **attrs: Any) -> Build:
    return unary(kind, kernel_shape=[3, 3], strides=[2, 2], **attrs)


def two(kind: str) -> Build:
    return lambda tiny, x: str(
        tiny.op(kind, x, tiny.qdq(tiny.op("Relu", conv_same(tiny, x)), 0.05))
    )


def conv_same(tiny: Tiny, x: str) -> str:
    return str(tiny.op("Conv", x, tiny.words((2, 2, 3, 3), 0.01), pads=[1, 1, 1, 1]))


CASES: dict[str, tuple[Build, float, int]] = {
    "conv": (conv, 0.1, 128),
    "conv_stride": (lambda t, x: conv(t, x, strides=[2, 2], pads=[0, 0, 1, 1]), 0.1, 128),
    "conv_same_upper": (lambda t, x: conv(t, x, strides=[2, 2], auto_pad="SAME_UPPER"), 0.1, 128),
    "conv_by_channel": (conv_by_channel, 0.1, 0),
    "conv_transposed": (
        lambda t, x: t.op("ConvTranspose", x, t.words((2, 3, 3, 3), 0.01), strides=[2, 2],
                          pads=[1, 1, 1, 1], output_padding=[1, 1]),
        0.1, 128,
    ),
    "conv_depthwise": (
        lambda t, x: t.op("Clip", t.op("Conv", x, t.words((2, 1, 3, 3), 0.01), group=2),
                          t.array(0.0), t.array(1.5)),
        0.01, 0,
    ),
    "linear": (linear, 0.1, 128),
    "torch_linear": (torch_linear, 0.1, 128),
    "conv_norm": (conv_norm, 0.05, 0),
    "add": (two("Add"), 0.1, 0),
    "sub": (two("Sub"), 0.1, 200),
    "mul": (two("Mul"), 0.05, 0),
    "max": (two("Max"), 0.05, 0),
    "constant_sum": (constant_sum, 0.02, 0),
    "add_number": (lambda t, x: t.op("Add", x, t.array(0.5)), 0.01, 0),
    "number_minus": (lambda t, x: t.op("Sub", t.array(1.0), x), 0.01, 0),
    "relu": (unary("Relu"), S, 0),
    "sigmoid": (unary("Sigmoid"), 1 / 256, 0),
    "hard_sigmoid": (unary("HardSigmoid", alpha=1 / 6, beta=0.5), 1 / 256, 0),
    "hard_swish": (unary("HardSwish"), 0.01, 0),
    "leaky_relu": (unary("LeakyRelu", alpha=0.1), 0.01, 20),
    "silu": (silu, 0.01, 0),
    "hard_swish_written_out": (hard_swish_written_out, 0.01, 0),
    "gelu_written_out": (gelu_written_out, 0.01, 0),
    "power": (lambda t, x: t.op("Pow", x, t.array(2.0)), 0.01, 0),
    "softmax": (unary("Softmax", axis=-1), 1 / 256, 0),
    "max_pool": (pool("MaxPool", pads=[1, 1, 1, 1]), S, 0),
    "max_pool_ceil": (pool("MaxPool", ceil_mode=1), S, 0),
    "max_pool_uneven": (pool("MaxPool", pads=[0, 0, 1, 1]), S, 0),
    "average_pool": (pool("AveragePool"), S, 0),
    "average_pool_edges": (pool("AveragePool", pads=[1, 1, 1, 1]), 0.0041, 0),
    "average_pool_zeros": (pool("AveragePool", pads=[1, 1, 1, 1], count_include_pad=1), S, 0),
    "global_average_pool": (unary("GlobalAveragePool"), S, 0),
    "reduce_mean": (unary("ReduceMean", axes=[2, 3], keepdims=0), S, 0),
    "reduce_max": (unary("ReduceMax", axes=[1], keepdims=0), S, 0),
    "flatten": (unary("Flatten"), S, 0),
    "transpose": (unary("Transpose", perm=[0, 2, 3, 1]), S, 0),
    "swapped": (swapped, S, 0),
    "shape_arithmetic": (shape_arithmetic, S, 0),
    "depth_to_space": (
        lambda t, x: t.op("SpaceToDepth", x, blocksize=2), S, 0
    ),
    "pad": (lambda t, x: t.op("Pad", x, t.array([0, 0, 1, 0, 0, 1, 0, 2], np.int64)), S, 0),
    "pad_reflect": (
        lambda t, x: t.op("Pad", x, t.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64), mode="reflect"),
        S, 0,
    ),
    "gather": (lambda t, x: t.op("Gather", x, t.array([1, 1, 0], np.int64), axis=1), S, 0),
    "nearest": (
        lambda t, x: t.op("Resize", x, "", t.array([1, 1, 2, 2]), mode="nearest",
                          coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        S, 0,
    ),
    "resized": (resized, 0.0041, 0),
    "attention": (attention, 0.02, 0),
    "normed": (normed, 0.02, 128),
    "other_grid": (lambda t, x: t.op("Identity", x), 0.007, 10),
}  # fmt: skip
"""Operators with scale and zero point of what they give."""


@pytest.mark.parametrize("name", CASES)
def test_words_of_operators_are_those_of_onnxruntime(name: str, tmp_path: Path) -> None:
    build, scale, zero = CASES[name]
    tiny = Tiny()
    result = build(tiny, tiny.qdq("x", S))
    path = tiny.save(tiny.qdq(result, scale, zero), tmp_path / "m.onnx")
    network = import_onnx(path)
    # Ties: two roundings of a factor there, one here; 16-bit parameters of norms.
    wanted, got = run_onnx(path, IMAGES), network(IMAGES)
    assert wanted.shape == got.shape
    steps = ((wanted - got) / scale).round().abs()
    assert steps.max() <= 1
    assert (steps != 0).float().mean() < (0.02 if name == "normed" else 0.005)
    assert len(set(wanted.flatten().tolist())) > 3  # words that tell something apart
    assert torch.equal(network.grids[network.nodes[-1].name].scale, torch.tensor(scale))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_signed_and_unsigned_words_with_any_zero_point(dtype: Any, tmp_path: Path) -> None:
    tiny, point = Tiny(), -128 if dtype is np.int8 else 0
    x = tiny.qdq("x", S, point, dtype)
    y = tiny.qdq(conv(tiny, x, pads=[1, 1, 1, 1]), 0.1, point + 100, dtype)
    y = tiny.qdq(tiny.op("GlobalAveragePool", y), 0.02, point + 90, dtype)
    path = tiny.save(y, tmp_path / "m.onnx")
    network = import_onnx(path)
    assert torch.equal(network(IMAGES), run_onnx(path, IMAGES))
    assert torch.equal(network.differentiable(IMAGES), network(IMAGES))
    assert {grid.signed for grid in network.grids.values()} == {dtype is np.int8}


def test_biases_are_words_of_32_bits_that_can_break(tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(tiny.qdq(conv(tiny, tiny.qdq("x", S)), 0.1, 128), tmp_path / "m.onnx")
    network = import_onnx(path)
    bias = network.tensors["n4.bias"]
    assert bias.grid.bits == 32
    assert bias.codes.tolist() == [5, -900, 300, 0]
    codes = bias.codes.clone()
    codes[2] ^= 1 << 13
    name = next(
        name for name, one in tiny.arrays.items() if one.data_type == onnx.TensorProto.INT32
    )
    tiny.arrays[name] = onnx.numpy_helper.from_array(codes.numpy(), name)  # the same bit there
    changed = tiny.save("v6_0", tmp_path / "changed.onnx")
    found = network.with_codes({"n4.bias": codes})(IMAGES)
    assert torch.equal(found, run_onnx(changed, IMAGES))
    assert not torch.equal(found, network(IMAGES))


def test_a_layer_at_the_end_without_words_has_real_outputs(tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(linear(tiny, tiny.qdq("x", S)), tmp_path / "m.onnx")
    network = import_onnx(path)
    assert network.nodes[-1].name not in network.grids
    # Real biases are rounded to steps of the accumulators, 0.02 / 255 at most.
    wanted = run_onnx(path, IMAGES, optimize=False)
    torch.testing.assert_close(network(IMAGES), wanted, rtol=1e-5, atol=0.01 / 255)


def test_words_of_an_imported_network_come_back_from_disk(tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(tiny.qdq(conv_by_channel(tiny, tiny.qdq("x", S)), 0.1), tmp_path / "m.onnx")
    network = open_network(path)
    save_network(network, tmp_path / "m")
    again = load_network(tmp_path / "m")
    assert again.digest() == network.digest()
    assert torch.equal(again(IMAGES), network(IMAGES))


def test_images_that_a_model_takes_otherwise(tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(
        tiny.qdq(conv(tiny, tiny.qdq("x", 4 / 255, 128)), 0.5, 128), tmp_path / "m.onnx"
    )
    with pytest.raises(ExchangeError, match=r"reaches from -2\.01 to 1\.99.*mean and std"):
        import_onnx(path)
    mean, std = np.array([0.4, 0.5], np.float32), np.array([0.2, 0.3], np.float32)
    outside = (IMAGES - torch.from_numpy(mean)[:, None, None]) / torch.from_numpy(std)[
        :, None, None
    ]
    network = import_onnx(path, mean=mean.tolist(), std=std.tolist())
    assert torch.equal(network(IMAGES), run_onnx(path, outside))
    network = import_onnx(path, input_range=(-1.0, 1.0))
    assert torch.equal(network(IMAGES), run_onnx(path, IMAGES * 2 - 1))


def test_normalisation_inside_the_model(tmp_path: Path) -> None:
    tiny = Tiny()
    mean, std = tiny.array([[[0.4]], [[0.5]]]), tiny.array([[[0.2]], [[0.3]]])
    x = tiny.op("Div", tiny.op("Sub", "x", mean), std)
    path = tiny.save(tiny.qdq(conv(tiny, tiny.qdq(x, 4 / 255, 120)), 0.5, 128), tmp_path / "m.onnx")
    assert torch.equal(import_onnx(path)(IMAGES), run_onnx(path, IMAGES))


def test_a_model_that_takes_bytes(tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(
        tiny.qdq(conv(tiny, tiny.dq("x", S)), 0.1, 128), tmp_path / "m.onnx", input_type=2
    )
    whole = (IMAGES * 255).round()
    assert torch.equal(import_onnx(path)(whole / 255), run_onnx(path, whole.to(torch.uint8)))


def test_a_file_for_one_image_takes_many(tmp_path: Path) -> None:
    tiny = Tiny()
    flat = tiny.op("Reshape", tiny.qdq("x", S), tiny.array([1, 72], np.int64))
    result = tiny.op("Gemm", flat, tiny.words((72, 5), 0.01))
    path = tiny.save(tiny.qdq(result, 0.1, 128), tmp_path / "m.onnx", (1, 2, 6, 6))
    wanted = torch.cat([run_onnx(path, IMAGES[at : at + 1]) for at in range(16)])
    assert torch.equal(import_onnx(path)(IMAGES), wanted)


@pytest.mark.parametrize(("low", "high", "bits"), [(-7, 7, 4), (-8, 7, 4), (-2, 1, 2)])
def test_words_of_fewer_bits_as_brevitas_writes_them(
    low: int, high: int, bits: int, tmp_path: Path
) -> None:
    tiny = Tiny()
    codes = tiny.array(np.random.default_rng(0).integers(low, high + 1, (4, 2, 3, 3)), np.int8)
    ends = tiny.array(low, np.int8), tiny.array(high, np.int8)
    weight = tiny.dq(tiny.op("Clip", codes, *ends), 0.1, 0, np.int8)
    words = tiny.q(tiny.op("Conv", tiny.qdq("x", S), weight), 0.23, 0, np.int8)
    path = tiny.save(tiny.dq(tiny.op("Clip", words, *ends), 0.23, 0, np.int8), tmp_path / "m.onnx")
    network = import_onnx(path)
    (stored,) = network.tensors.values()
    assert stored.grid.bits == bits
    assert network.grids[network.nodes[-1].name].bits == bits
    assert torch.equal(network(IMAGES), run_onnx(path, IMAGES))


def test_weights_of_four_bits_are_unpacked(tmp_path: Path) -> None:
    tiny = Tiny(opset=21)
    codes = np.random.default_rng(0).integers(-8, 8, (5, 72))
    for name, values in (("w", codes), ("z", np.zeros((), int))):
        tiny.arrays[name] = onnx.helper.make_tensor(
            name, onnx.TensorProto.INT4, values.shape, values.reshape(-1).tolist()
        )
    weight = tiny.op("DequantizeLinear", "w", tiny.array(0.1), "z")
    flat = tiny.op("Flatten", tiny.qdq("x", S))
    path = tiny.save(tiny.qdq(tiny.op("Gemm", flat, weight, transB=1), 0.1), tmp_path / "m.onnx")
    network = import_onnx(path)
    (stored,) = network.tensors.values()
    assert (stored.grid.bits, stored.codes.tolist()) == (4, codes.tolist())


def test_what_bitproof_exports_comes_back(tmp_path: Path) -> None:
    layers = torch.nn.Conv2d(2, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 5)
    network = quantize(torch.nn.Sequential(*layers), IMAGES, Scheme("accurate"))
    path = tmp_path / "m.onnx"
    export_onnx(network, path, form="portable")
    again = import_onnx(path)
    assert torch.equal(again(IMAGES), network(IMAGES))
    pairs = zip(again.tensors.values(), network.tensors.values(), strict=True)
    assert all(torch.equal(one.centered(), other.centered()) for one, other in pairs)
    export_onnx(network, path)
    with pytest.raises(ExchangeError, match="--format portable"):
        import_onnx(path)


def test_a_weight_that_is_used_twice_has_one_memory(tmp_path: Path) -> None:
    tiny = Tiny()
    weight = tiny.words((2, 2, 3, 3), 0.01)
    x = tiny.qdq(tiny.op("Conv", tiny.qdq("x", S), weight, pads=[1, 1, 1, 1]), 0.1, 128)
    x = tiny.qdq(tiny.op("Conv", x, weight, pads=[1, 1, 1, 1]), 0.5, 128)
    path = tiny.save(x, tmp_path / "m.onnx")
    network = import_onnx(path)
    assert len(network.tensors) == 1
    assert [bool(node.memory) for node in network.nodes if node.op == "conv"] == [False, True]
    assert torch.equal(network(IMAGES), run_onnx(path, IMAGES))


def test_sixteen_bit_words_are_the_same_numbers(tmp_path: Path) -> None:
    tiny = Tiny(opset=21)
    x = tiny.qdq("x", S)
    y = tiny.qdq(tiny.op("Add", x, x), 2 / 65535, 100, np.uint16)
    path = tiny.save(
        tiny.qdq(tiny.op("ReduceMean", y, tiny.array([3], np.int64)), 0.01), tmp_path / "m.onnx"
    )
    network = import_onnx(path)
    assert sorted({grid.bits for grid in network.grids.values()}) == [8, 16]
    steps = ((network(IMAGES) - run_onnx(path, IMAGES)) / 0.01).round().abs()
    assert steps.max() <= 1
    assert (steps != 0).float().mean() < 0.01
