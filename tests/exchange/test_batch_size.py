"""What depends on the number of images is refused: a network and a module are for any."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitproof.core.errors import ExchangeError
from bitproof.exchange import import_onnx, model_from_onnx
from tests.exchange.test_onnx_import import S
from tests.exchange.tiny_onnx import Tiny, images_of, run_onnx

IMAGES = images_of(7, 2, 6, 6)


def whole(t: Tiny, value: Any) -> str:
    return t.array(value, np.int64)


def count(t: Tiny) -> str:
    """Add the number of images."""
    return str(t.op("Shape", "x", start=0, end=1))


def count_as_real(t: Tiny) -> str:
    return str(t.op("Cast", count(t), to=1))


def as_slice(t: Tiny) -> str:
    return str(t.op("Slice", "x", whole(t, [0]), count(t), whole(t, [2])))


def as_index(t: Tiny) -> str:
    return str(t.op("Gather", "x", t.op("Concat", count(t), whole(t, [0]), axis=0), axis=2))


def as_buffer(t: Tiny) -> str:
    return str(t.op("Mul", "x", t.op("Mul", count_as_real(t), t.array(np.ones(6)))))


def as_weight(t: Tiny) -> str:
    weight = t.op("Mul", count_as_real(t), t.array(np.ones((3, 2, 3, 3))))
    return str(t.op("Conv", "x", weight))


def as_size_of_a_constant(t: Tiny) -> str:
    """What a class token of a transformer is."""
    sizes = t.op("Concat", count(t), whole(t, [2, 1, 6]), axis=0)
    return str(t.op("Concat", "x", t.op("Expand", t.array(np.ones((1, 2, 1, 6))), sizes), axis=2))


@pytest.mark.parametrize("build", [as_slice, as_index, as_buffer, as_weight, as_size_of_a_constant])
def test_float_models_for_one_number_of_images(
    build: Callable[[Tiny], str], tmp_path: Path
) -> None:
    tiny = Tiny()
    path = tiny.save(build(tiny), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match="depends on the batch size") as caught:
        model_from_onnx(path)
    assert "\n" not in str(caught.value)


def bias(t: Tiny) -> str:
    found = t.op("Mul", count_as_real(t), t.array([1.0, 2.0]))
    rows = t.op("Flatten", t.qdq("x", S))
    return t.qdq(t.op("Gemm", rows, t.words((72, 2), 0.01), found), 0.1, 128)


def scale(t: Tiny) -> str:
    step = t.op("Mul", count_as_real(t), t.array([0.01]))
    zero = t.array(0, np.uint8)
    words = t.op("QuantizeLinear", t.qdq("x", S), step, zero)
    return str(t.op("DequantizeLinear", words, step, zero))


def constant(t: Tiny) -> str:
    words = t.op("Cast", t.op("Add", count(t), whole(t, np.arange(6))), to=2)
    return t.qdq(t.op("Add", t.qdq("x", S), t.dq(words, 0.1)), 0.1)


def place(t: Tiny) -> str:
    return t.qdq(t.op("Slice", t.qdq("x", S), whole(t, [0]), count(t), whole(t, [2])), S)


@pytest.mark.parametrize("build", [bias, scale, constant, place])
def test_networks_for_one_number_of_images(build: Callable[[Tiny], str], tmp_path: Path) -> None:
    tiny = Tiny()
    path = tiny.save(build(tiny), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match="depends on the batch size") as caught:
        import_onnx(path)
    assert "\n" not in str(caught.value)


def test_what_is_written_with_the_number_of_images_and_does_not_depend_on_it(
    tmp_path: Path,
) -> None:
    tiny = Tiny()
    of_all = tiny.op("Slice", "x", whole(tiny, [0]), count(tiny), whole(tiny, [0]))
    one = tiny.op("Div", count_as_real(tiny), count_as_real(tiny))
    path = tiny.save(tiny.op("Add", of_all, one), tmp_path / "m.onnx")
    assert torch.equal(model_from_onnx(path)(IMAGES), run_onnx(path, IMAGES))
