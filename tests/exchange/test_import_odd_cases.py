"""Odd forms of operators: the words of onnxruntime, or a refusal, never other numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import ExchangeError
from bitproof.exchange import import_onnx, model_from_onnx
from bitproof.exchange.onnx_import import InputScaling
from bitproof.exchange.runtime_agreement import runtime_agreement
from bitproof.exchange.torch_import import from_torch_quantized
from tests.exchange.test_onnx_import import S, conv
from tests.exchange.test_torch_import import decomposed
from tests.exchange.tiny_onnx import Tiny, images_of, run_onnx

IMAGES = images_of(16, 2, 6, 6)
Build = Callable[[Tiny, str], Any]
MICROSOFT = "com.microsoft"


def whole(t: Tiny, *values: Any) -> list[str]:
    return [t.array(value, np.int64) for value in values]


def grid(t: Tiny, scale: float, zero: int, dtype: Any = np.uint8) -> tuple[str, str]:
    return t.array(scale), t.array(zero, dtype)


def quantized_bounds(t: Tiny, x: str) -> Any:
    low, high = t.dq(t.array(0, np.uint8), 0.1, 3), t.dq(t.array(9, np.uint8), 0.1)
    return t.op("Clip", conv(t, x), low, high)


def two_clips(t: Tiny, x: str) -> Any:
    inner = t.op("Clip", conv(t, x), t.array(-3.0), t.array(0.5))
    return t.op("Clip", inner, t.array(-1.0), t.array(2.0))


def gemm_on_words(t: Tiny, x: str) -> Any:
    """An alpha that scales the bias, too."""
    codes = np.random.default_rng(0).integers(-127, 128, (72, 3))
    product = t.op(
        "QGemm", t.op("Flatten", t.q(x, S)), *grid(t, S, 0), t.array(codes, np.int8),
        *grid(t, 0.01, 0, np.int8), t.array([90000, -200000, 3], np.int32), *grid(t, 0.1, 128),
        domain=MICROSOFT, alpha=0.5,
    )  # fmt: skip
    return t.dq(product, 0.1, 128)


def resized(*scales: float, **attrs: Any) -> Build:
    return lambda t, x: t.op("Resize", x, "", t.array([1, 1, *scales]), **attrs)


def resized_before_11(*scales: float) -> Build:
    return lambda t, x: t.op("Resize", x, t.array([1, 1, *scales]), mode="nearest")


CASES: dict[str, tuple[Build, float, int, int]] = {
    "quantized_bounds": (quantized_bounds, 0.01, 10, 17),
    "two_clips": (two_clips, 0.01, 100, 17),
    "ceil_uneven": (
        lambda t, x: t.op("MaxPool", x, kernel_shape=[3, 3], strides=[3, 2], pads=[0, 1, 1, 0],
                          ceil_mode=1),
        S, 0, 17,
    ),
    "gemm_on_words": (gemm_on_words, 0.1, 128, 17),
    "nearest_tie": (resized(1.3, 3.0, coordinate_transformation_mode="half_pixel"), S, 0, 17),
    "nearest_before_11": (resized_before_11(1.5, 0.7), S, 0, 10),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_odd_operators_give_the_words_of_onnxruntime(name: str, tmp_path: Path) -> None:
    build, scale, zero, opset = CASES[name]
    tiny = Tiny(opset)
    path = tiny.save(tiny.qdq(build(tiny, tiny.qdq("x", S)), scale, zero), tmp_path / "m.onnx")
    wanted, got = run_onnx(path, IMAGES, optimize=False), import_onnx(path)(IMAGES)
    assert wanted.shape == got.shape
    assert ((wanted - got) / scale).round().count_nonzero() <= 2  # ties
    assert len(set(wanted.flatten().tolist())) > 3


def test_the_type_of_words_that_only_an_attribute_says(tmp_path: Path) -> None:
    tiny = Tiny(opset=21)
    words = tiny.op("QuantizeLinear", conv(tiny, tiny.qdq("x", S)), tiny.array(0.1), output_dtype=3)
    path = tiny.save(tiny.op("DequantizeLinear", words, tiny.array(0.1)), tmp_path / "m.onnx")
    wanted = run_onnx(path, IMAGES, optimize=False)
    assert wanted.min() < 0
    assert torch.equal(import_onnx(path)(IMAGES), wanted)


def small_linear(t: Tiny) -> str:
    return str(t.op("Gemm", t.op("Flatten", t.qdq("x", S)), t.words((72, 5), 0.01)))


def both_signs(t: Tiny) -> str:
    """One layer, on words with and without a sign: grids of the same scale and zero point."""
    sums = small_linear(t)
    ends = [t.qdq(sums, 0.05, 0, dtype) for dtype in (np.uint8, np.int8)]
    return t.qdq(t.op("Add", *ends), 0.1, 0, np.int8)


def clips_of_words(t: Tiny) -> str:
    words = t.q(small_linear(t), 0.05, 0, np.int8)
    for low, high in ((-5, 9), (-50, 7)):
        words = t.op("Clip", words, t.array(low, np.int8), t.array(high, np.int8))
    return t.dq(words, 0.05, 0, np.int8)


def clips_of_constants(t: Tiny) -> str:
    words = t.array(np.random.default_rng(0).integers(-127, 128, (72, 5)), np.int8)
    for low, high in ((-7, 7), (-100, 120)):
        words = t.op("Clip", words, t.array(low, np.int8), t.array(high, np.int8))
    flat = t.op("Flatten", t.qdq("x", S))
    return t.qdq(t.op("Gemm", flat, t.dq(words, 0.05, 0, np.int8)), 0.05, 128)


def signed_constants(t: Tiny) -> str:
    """Weights that the file rounds: an attribute alone says that their words have a sign."""
    values, scale = t.array(np.random.default_rng(0).normal(size=(72, 5))), t.array(0.02)
    weight = t.op("QuantizeLinear", values, scale, output_dtype=3)
    flat = t.op("Flatten", t.qdq("x", S))
    return t.qdq(t.op("Gemm", flat, t.op("DequantizeLinear", weight, scale)), 0.1, 128)


@pytest.mark.parametrize(
    "build", [both_signs, clips_of_words, clips_of_constants, signed_constants]
)
def test_types_and_bounds_of_words(build: Callable[[Tiny], str], tmp_path: Path) -> None:
    tiny = Tiny(opset=21)
    path = tiny.save(build(tiny), tmp_path / "m.onnx")
    wanted, got = run_onnx(path, IMAGES, optimize=False), import_onnx(path)(IMAGES)
    assert (wanted - got).abs().gt(1e-6).count_nonzero() <= 1  # a tie
    assert len(set(wanted.flatten().tolist())) > 3


def test_words_of_a_constant_are_as_long_as_all_its_clips_leave_them(tmp_path: Path) -> None:
    tiny = Tiny()
    network = import_onnx(tiny.save(clips_of_constants(tiny), tmp_path / "m.onnx"))
    assert [one.grid.bits for key, one in network.tensors.items() if "weight" in key] == [4]


@pytest.mark.parametrize("kind", ["Round", "Ceil", "Floor", "Sign"])
def test_functions_that_jump_see_floats_of_32_bits(kind: str, tmp_path: Path) -> None:
    """Words of a tenth: 5 of them are 0.5 in 32 bits, and more than that in 64."""
    tiny = Tiny()
    path = tiny.save(tiny.qdq(tiny.op(kind, tiny.qdq("x", 0.1)), 0.1, 1), tmp_path / "m.onnx")
    images = torch.arange(256.0).reshape(2, 2, 8, 8)[:, :, :6, :6].contiguous() / 255
    found = import_onnx(path, input_range=(0.0, 25.5))(images)
    assert torch.equal(found, run_onnx(path, images * 25.5, optimize=False))


def test_clips_that_leave_one_word_are_refused(tmp_path: Path) -> None:
    tiny = Tiny()
    words = tiny.q(small_linear(tiny), 0.05, 0, np.int8)
    for low, high in ((-5, 5), (20, 30)):
        words = tiny.op("Clip", words, tiny.array(low, np.int8), tiny.array(high, np.int8))
    path = tiny.save(tiny.dq(words, 0.05, 0, np.int8), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match="wanted bounds that leave several words, got 20"):
        import_onnx(path)


def blocks_of_constants(t: Tiny, scales: Any, **attrs: Any) -> str:
    values = t.array(np.random.default_rng(0).normal(size=(72, 5)))
    zeros = t.array(np.zeros(np.shape(scales)), np.int8)
    weight = t.op("QuantizeLinear", values, t.array(scales), zeros, **attrs)
    flat = t.op("Flatten", t.qdq("x", S))
    return t.qdq(t.op("Gemm", flat, t.dq(weight, 0.02, 0, np.int8)), 0.1, 128)


BY_TYPE: dict[str, tuple[Callable[[Tiny], str], str]] = {
    "blocks": (
        lambda t: blocks_of_constants(t, np.full((36, 5), 0.02), axis=0, block_size=2),
        "no form for scales of blocks",
    ),
    "scales_of_rank_2": (
        lambda t: blocks_of_constants(t, np.full((1, 5), 0.02)),
        r"wanted one for each entry of axis 1 of \(72, 5\), got \(1, 5\)",
    ),
    "output_dtype": (
        lambda t: t.dq(t.op("QuantizeLinear", t.array([1.0]), t.array(0.1), output_dtype=17), 0.1),
        "no integer form for words of type 17",
    ),
    "swish": (
        lambda t: t.qdq(t.op("Swish", t.qdq("x", S), alpha=2.0), 0.1),
        r"Swish 'n\d': no form for an alpha of 2",
    ),
}


@pytest.mark.parametrize("name", BY_TYPE)
def test_newer_attributes_are_read_or_refused(name: str, tmp_path: Path) -> None:
    build, reason = BY_TYPE[name]
    tiny = Tiny(opset=24)
    path = tiny.save(build(tiny), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match=reason):
        import_onnx(path)


def test_a_swish_is_a_silu(tmp_path: Path) -> None:
    tiny = Tiny(opset=24)
    path = tiny.save(tiny.qdq(tiny.op("Swish", tiny.qdq("x", S)), 0.004), tmp_path / "m.onnx")
    words = tiny_words(IMAGES)
    found = (import_onnx(path)(IMAGES) / 0.004).round()
    assert torch.equal(found, (words * words.sigmoid() / 0.004).round().clamp(max=255))


def tiny_words(images: Tensor) -> Tensor:
    """Return the values of words of images, in steps of 1/255."""
    return (images * 255).round() / 255


def clip_behind_padding(t: Tiny, x: str) -> Any:
    padded = t.op("Pad", conv(t, x), *whole(t, [0, 0, 1, 1, 0, 0, 1, 1]))
    return t.op("Clip", padded, t.array(0.5), t.array(3.0))


def norm_in_training(t: Tiny, x: str) -> Any:
    parts = [t.array([1.0, 2.0, 3.0, 4.0])] * 4
    return t.op("BatchNormalization", conv(t, x), *parts, training_mode=1, outputs=3)[0]


def column_bias(t: Tiny, x: str) -> Any:
    bias = t.array(np.arange(5.0).reshape(5, 1))
    return t.op("Gemm", t.op("Flatten", x), t.words((72, 5), 0.01), bias)


def channels_last(t: Tiny, x: str) -> Any:
    found = t.op("QLinearGlobalAveragePool", t.q(x, S), *grid(t, S, 0), *grid(t, S, 0),
                 domain=MICROSOFT, channels_last=1)  # fmt: skip
    return t.dq(found, S)


REFUSED: dict[str, tuple[Build, str]] = {
    "clip_behind_padding": (clip_behind_padding, r"Clip 'n\d': no form for bounds that move"),
    "norm_in_training": (norm_in_training, "no form for training_mode"),
    "column_bias": (column_bias, r"Gemm 'n\d': wanted a bias for 5 filters, got \(5, 1\)"),
    "channels_last": (channels_last, "no form for channels_last"),
    "division": (lambda t, x: t.op("Div", x, t.array(0.0)), "no form for a division by 0"),
    "no_axes": (
        lambda t, x: t.op("ReduceMean", x, *whole(t, np.zeros(0)), noop_with_empty_axes=1),
        "no form for a reduction over no axes",
    ),
    "aspect": (
        lambda t, x: t.op("Resize", x, "", "", *whole(t, [16, 2, 12, 9]),
                          keep_aspect_ratio_policy="not_larger"),
        "no form for axes or keep_aspect_ratio_policy",
    ),
    "moving_bound": (
        lambda t, x: t.op("Clip", x, t.op("ReduceMin", x, keepdims=0)), "within one image|wanted"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_other_numbers_is_refused(name: str, tmp_path: Path) -> None:
    build, reason = REFUSED[name]
    tiny = Tiny(opset=18)
    path = tiny.save(tiny.qdq(build(tiny, tiny.qdq("x", S)), 0.1), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match=reason):
        import_onnx(path)


def test_what_follows_a_softmax_is_not_folded_into_the_layer_before_it(tmp_path: Path) -> None:
    tiny = Tiny()
    rows = tiny.op("Gemm", tiny.op("Flatten", tiny.qdq("x", S)), tiny.words((72, 5), 0.01))
    doubled = tiny.op("Mul", tiny.op("Softmax", rows, axis=-1), tiny.array(2.0))
    with pytest.raises(ExchangeError, match=r"Mul 'n\d'"):
        import_onnx(tiny.save(doubled, tmp_path / "m.onnx"))


@pytest.mark.parametrize("zero", [-128, -20])
def test_signed_bytes_are_taken_as_said(zero: int, tmp_path: Path) -> None:
    tiny = Tiny()
    result = tiny.qdq(conv(tiny, tiny.dq("x", S, zero, np.int8)), 0.1, 128)
    path = tiny.save(result, tmp_path / "m.onnx", input_type=3)
    with pytest.raises(ExchangeError, match="takes signed bytes; say what 0 and 1 are"):
        import_onnx(path)
    words = (IMAGES * 255).round() - 128
    network = import_onnx(path, input_range=(-128.0, 127.0))
    images, wanted = (words + 128) / 255, run_onnx(path, words.to(torch.int8))
    assert torch.equal(network(images), wanted)
    scaling = InputScaling.of(None, None, (-128.0, 127.0))
    found, outputs = runtime_agreement(network, path, images, scaling=scaling)
    assert (found.exact, found.images, found.largest_steps) == (True, len(images), 0.0)
    assert torch.equal(outputs, wanted)


def float_resize(scale: float, **attrs: Any) -> Callable[[Tiny], Any]:
    return lambda t: t.op("Resize", "x", "", t.array([1, 1, scale, scale]), **attrs)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (float_resize(3.0, coordinate_transformation_mode="asymmetric"), "no form for nearest"),
        (float_resize(1.3, mode="linear"), "wanted factors that give whole sizes"),
        (float_resize(0.5, mode="linear", antialias=1), "no form for antialias"),
        (lambda t: t.op("Slice", "x", *whole(t, [-1], [-99], [0], [-1])), "a part of the batch"),
    ],
)
def test_float_models_need_no_onnxruntime_to_be_refused(
    build: Callable[[Tiny], Any], reason: str, tmp_path: Path
) -> None:
    tiny = Tiny(opset=18)
    path = tiny.save(build(tiny), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match=reason):
        model_from_onnx(path)


def test_a_flatten_counted_from_the_last_axis(tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(tiny.op("Flatten", "x", axis=-1), tmp_path / "m.onnx")
    assert torch.equal(model_from_onnx(path)(IMAGES), run_onnx(path, IMAGES))


class Between(nn.Module):
    """A function between words, as pt2e has it."""

    def __init__(self, function: Callable[[Tensor], Tensor], scale: float = 0.004) -> None:
        super().__init__()
        self.function, self.scale = function, scale

    def forward(self, x: Tensor) -> Tensor:
        return decomposed(self.function(decomposed(x, 1 / 255, 0)), self.scale, 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.clamp(decomposed(x + x, 2 / 255, 0), min=0.5),
        lambda x: torch.clamp(x, max=0.4),
        lambda x: torch.clamp(x, min=0.2, max=0.7),
        lambda x: torch.nn.functional.hardtanh(x, 0.1, 0.6),
        torch.nn.functional.relu6,
    ],
)
def test_ends_of_a_clamp_in_torch(function: Callable[[Tensor], Tensor]) -> None:
    pytest.importorskip("torch.ao.quantization.fx._decomposed")
    model = Between(function, 0.03).eval()
    got, wanted = from_torch_quantized(model, IMAGES)(IMAGES), model(IMAGES)
    assert ((got - wanted) / 0.03).round().count_nonzero() <= 2  # ties
    assert len(wanted.unique()) > 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: torch.div(x, 0.3, rounding_mode="floor"), "no form for rounding_mode"),
        (
            lambda x: torch.nn.functional.avg_pool2d(x, 2, divisor_override=3),
            "no form for divisor_override",
        ),
    ],
)
def test_arguments_in_torch_that_have_no_form(
    function: Callable[[Tensor], Tensor], reason: str
) -> None:
    pytest.importorskip("torch.ao.quantization.fx._decomposed")
    with pytest.raises(ExchangeError, match=reason):
        from_torch_quantized(Between(function).eval(), IMAGES)
