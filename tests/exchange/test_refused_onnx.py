"""ONNX files that have no form as an integer network: one line that names what is wrong."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bitproof.cli.app import app
from bitproof.core.errors import ExchangeError
from bitproof.exchange import import_onnx
from tests.exchange.test_onnx_import import CASES, S, conv
from tests.exchange.tiny_onnx import Tiny, images_of, onnx


def no_pair(t: Tiny) -> str:
    relu = t.op("Sigmoid", conv(t, t.qdq("x", S)))
    return t.qdq(relu, 0.1)


def no_pair_of_input(t: Tiny) -> str:
    return t.qdq(t.op("Conv", "x", t.words((4, 2, 3, 3), 0.01)), 0.1)


def real_weights(t: Tiny) -> str:
    return t.qdq(t.op("Conv", t.qdq("x", S), t.array(np.ones((4, 2, 3, 3)))), 0.1)


def real_end(t: Tiny) -> str:
    return str(t.op("Add", *[t.qdq("x", S)] * 2))


def words_as_reals(t: Tiny) -> str:
    return t.qdq(t.op("Relu", t.q("x", S)), 0.1)


def unknown_operator(t: Tiny) -> str:
    return t.qdq(t.op("Det", t.qdq("x", S)), 0.1)


def other_zero_point(t: Tiny) -> str:
    return t.dq(t.q("x", S, 0), S, 3)


def eight_bit_floats(t: Tiny) -> str:
    zero = onnx.helper.make_tensor("f8", onnx.TensorProto.FLOAT8E4M3FN, [], [0.0])
    t.arrays["f8"] = zero
    return str(t.op("DequantizeLinear", t.op("QuantizeLinear", "x", t.array(S), "f8"),
                    t.array(S), "f8"))  # fmt: skip


def scale_by_channel(t: Tiny) -> str:
    return t.qdq(t.dq(t.q("x", [S, S], [0, 0], axis=1), [S, S], [0, 0], axis=1), S)


def no_scale(t: Tiny) -> str:
    return t.qdq("x", 0.0)


def blocks(t: Tiny) -> str:
    weight = t.dq(t.array(np.ones((4, 8)), np.int8), np.ones((4, 2)), np.zeros((4, 2)), np.int8,
                  axis=1, block_size=4)  # fmt: skip
    return t.qdq(t.op("MatMul", t.op("Flatten", t.qdq("x", S)), weight), 0.1)


def before_it(t: Tiny) -> str:
    return t.qdq(t.op("Relu", "later"), 0.1)


def misfit(t: Tiny) -> str:
    return t.qdq(t.op("Conv", t.qdq("x", S), t.words((4, 3, 3, 3), 0.01)), 0.1)


def long_sums(t: Tiny) -> str:
    bias = t.dq(t.array([2**31 - 1] * 4, np.int32), 0.01 * S, 0, np.int32)
    return t.qdq(t.op("Conv", t.qdq("x", S), t.words((4, 2, 3, 3), 0.01), bias), 0.1)


def over_images(t: Tiny) -> str:
    return t.qdq(t.op("ReduceMean", t.qdq("x", S), axes=[0]), 0.1)


def huge_constant(t: Tiny) -> str:
    ones = t.op("ConstantOfShape", t.array([1 << 40], np.int64))
    return t.qdq(t.op("Add", t.qdq("x", S), ones), 0.1)


def growing(t: Tiny) -> str:
    x = t.array(np.zeros(1 << 20), np.uint8)
    for _ in range(20):
        x = t.op("Concat", x, x, axis=0)
    return t.qdq(t.op("Add", t.qdq("x", S), x), 0.1)


def twice_real(t: Tiny) -> str:
    return t.qdq(t.op("Clip", t.op("Sigmoid", conv(t, t.qdq("x", S)))), 0.1)


REFUSED: dict[str, tuple[Callable[[Tiny], str], str]] = {
    "no_pair": (no_pair, r"Sigmoid 'n\d+'.*|Conv 'n\d+': wanted a QuantizeLinear"),
    "twice_real": (twice_real, r"Conv 'n\d+'.* not quantized"),
    "no_pair_of_input": (no_pair_of_input, r"Conv 'n1': reads the input, which is not quantized"),
    "real_weights": (real_weights, r"Conv 'n2': its weights are real: wanted a DequantizeLinear"),
    "real_end": (real_end, r"Add 'n2': the output of the graph is not quantized"),
    "words_as_reals": (words_as_reals, r"Relu 'n1': reads words: wanted a DequantizeLinear"),
    "unknown_operator": (unknown_operator, r"Det 'n2': no form as integers"),
    "other_zero_point": (other_zero_point, r"DequantizeLinear 'n1': wanted the zero point"),
    "eight_bit_floats": (eight_bit_floats, r"'f8': no form for numbers of type FLOAT8E4M3FN"),
    "scale_by_channel": (scale_by_channel, r"QuantizeLinear 'n0': wanted one scale for all"),
    "no_scale": (no_scale, r"QuantizeLinear 'n0': wanted a positive, finite scale"),
    "blocks": (blocks, r"DequantizeLinear 'n\d': no form for scales of blocks"),
    "before_it": (before_it, r"Relu 'n0': reads 'later', which nothing before it gives"),
    "misfit": (misfit, r"Conv 'n3': wanted 3 channels, got the shape"),
    "long_sums": (long_sums, r"Conv 'n4': sums of up to 2\.1e\+09 would wrap"),
    "over_images": (over_images, r"ReduceMean 'n2': wanted a mean within one image"),
    "huge_constant": (huge_constant, r"ConstantOfShape 'n0': wanted constants that fit in memory"),
    "growing": (growing, r"Concat 'n\d+': wanted constants that fit in memory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    build, reason = REFUSED[name]
    tiny = Tiny()
    path = tiny.save(build(tiny), tmp_path / "m.onnx")
    with pytest.raises(ExchangeError, match=reason) as caught:
        import_onnx(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def good(path: Path) -> Path:
    tiny = Tiny()
    return tiny.save(tiny.qdq(conv(tiny, tiny.qdq("x", S)), 0.1, 128), path)


def _edit(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        model = onnx.ModelProto.FromString(path.read_bytes())
        change(model)
        path.write_bytes(model.SerializeToString())

    return edit


def _external(location: str, **entries: str) -> Callable[[Path], None]:
    def change(model: Any) -> None:
        tensor = next(one for one in model.graph.initializer if len(one.dims) == 4)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=value)

    return _edit(change)


def _dims(model: Any) -> None:
    next(one for one in model.graph.initializer if len(one.dims) == 4).dims[0] = 1 << 40


def _subgraph(model: Any) -> None:
    inner = onnx.helper.make_graph([], "inner", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner))


def _two_inputs(model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("z", 1, [1]))


def _free_sizes(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_value")


def _text_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-300]), "not an ONNX file|reads|bytes"),
    "text": (lambda p: p.write_text("hello world\n"), "not an ONNX file"),
    "empty": (lambda p: p.write_bytes(b""), "wanted a graph with nodes"),
    "missing": (lambda p: p.unlink(), "no such file"),
    "claims_more": (_edit(_dims), r"wanted \d+ bytes for|fit in memory"),
    "elsewhere": (_external("../secret"), "wanted external data beside the model, got '../secret'"),
    "absolute": (_external("/etc/passwd"), "wanted external data beside the model"),
    "no_data": (_external("w.bin"), "no file 'w.bin'"),
    "past_the_end": (_external("m.onnx", offset="5", length="99999999"), "wanted 99999999 bytes"),
    "odd_offset": (_external("m.onnx", offset="-5"), "wanted an offset and a length"),
    "subgraph": (_edit(_subgraph), "If 'y': no form for graphs inside a node"),
    "two_inputs": (_edit(_two_inputs), "wanted a model with one input, got 'x', 'z'"),
    "free_sizes": (_edit(_free_sizes), r"input: its sizes 2 x \? x 6 are free"),
    "text_input": (_edit(_text_input), "wanted real numbers or bytes, got STRING"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_and_hostile_files_are_refused(name: str, tmp_path: Path) -> None:
    damage, reason = DAMAGES[name]
    path = good(tmp_path / "m.onnx")
    damage(path)
    with pytest.raises(ExchangeError, match=reason) as caught:
        import_onnx(path)
    assert "\n" not in str(caught.value)


def test_external_data_beside_the_model_are_read(tmp_path: Path) -> None:
    path = good(tmp_path / "m.onnx")
    model = onnx.load(path)
    wanted = import_onnx(path)
    tensor = next(one for one in model.graph.initializer if len(one.dims) == 4)
    (tmp_path / "w.bin").write_bytes(b"12345" + tensor.raw_data)
    _external("w.bin", offset="5", length=str(len(tensor.raw_data)))(path)
    assert import_onnx(path).digest() == wanted.digest()
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "w.bin")
    good(path)
    _external("link.bin", offset="5", length="72")(path)
    with pytest.raises(ExchangeError, match="no file 'link"):
        import_onnx(path)


def test_free_sizes_are_said(tmp_path: Path) -> None:
    path = good(tmp_path / "m.onnx")
    wanted = import_onnx(path).digest()
    _edit(_free_sizes)(path)
    assert import_onnx(path, input_shape=(2, 6, 6)).digest() == wanted
    with pytest.raises(ExchangeError, match="wanted images of"):
        import_onnx(path, input_shape=(3, 6, 6))


def test_the_command_imports_and_refuses_in_one_line(tmp_path: Path) -> None:
    path = good(tmp_path / "m.onnx")
    runner = CliRunner()
    result = runner.invoke(app, ["import", str(path), "--out", str(tmp_path / "nets" / "a")])
    assert result.exit_code == 0
    assert (tmp_path / "nets" / "a.json").is_file()
    path.write_text("no")
    result = runner.invoke(app, ["import", str(path)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_the_scale_of_a_bias_that_is_none_of_the_accumulators(tmp_path: Path) -> None:
    tiny = Tiny()
    bias = tiny.dq(tiny.array([100, -50, 3, 0], np.int8), 0.01, 0, np.int8)
    result = tiny.op("Conv", tiny.qdq("x", S), tiny.words((4, 2, 3, 3), 0.01), bias)
    network = import_onnx(tiny.save(tiny.qdq(result, 0.1, 128), tmp_path / "m.onnx"))
    (stored,) = (coded for name, coded in network.tensors.items() if name.endswith("bias"))
    assert stored.grid.bits == 8
    assert stored.codes.tolist() == [100, -50, 3, 0]


def _mutate(model: Any, rng: random.Random) -> None:
    """Change one node as an accident or an attacker may."""
    node, names = rng.choice(model.graph.node), [one.name for one in model.graph.initializer]
    names += ["", "x", *(name for other in model.graph.node for name in other.output)]
    kind = rng.choice(["input", "less", "attribute", "number", "operator"])
    if kind == "input" and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == "less" and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif kind == "attribute" and node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]
    elif kind == "number" and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice([0, -1, 1 << 40])
        if attribute.ints:
            attribute.ints[0] = attribute.i
    else:
        node.op_type = rng.choice([other.op_type for other in model.graph.node])


@pytest.mark.slow
def test_mutated_files_are_networks_that_run_or_refused_in_one_line(tmp_path: Path) -> None:
    rng, runs, path = random.Random(0), 0, tmp_path / "m.onnx"
    for _ in range(1000):
        tiny = Tiny()
        build, scale, zero = CASES[rng.choice(list(CASES))]
        model = tiny.model(tiny.qdq(build(tiny, tiny.qdq("x", S)), scale, zero))
        _mutate(model, rng)
        path.write_bytes(model.SerializeToString())
        try:
            network = import_onnx(path)
        except ExchangeError:
            continue
        assert network.input_shape is not None
        assert network(images_of(3, *network.input_shape)).isfinite().all()
        runs += 1
    assert 50 < runs < 950
