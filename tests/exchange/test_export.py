"""Exported networks give ONNX Runtime's logits bit for bit."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitproof.approx import Truncated, with_multipliers
from bitproof.core.errors import ExchangeError
from bitproof.core.rng import make_generator
from bitproof.exchange import check_onnx, export_onnx, import_onnx
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, quantize
from bitproof.quant.operations import OPERATIONS

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FORMS: Any = ("qdq", "integer")
PER_CHANNEL = Scheme(
    weight=AffineQuantizer(symmetric=True, signed=True, per_channel=True), bias=None
)
SCHEMES = {
    "accurate": Scheme("accurate"),
    "8 bits throughout": PER_CHANNEL,
    "rquant": Scheme(),
    "4 bits, signed": Scheme(
        weight=AffineQuantizer(bits=4), bias=None, activation_bits=4, activation_signed=True
    ),
    "truncated": Scheme("normal", activation_rounding="truncate", activation_signed=True),
}


class Maps(nn.Module):
    """Most of what works on maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8, bias=False)
        self.wide = nn.Conv2d(8, 12, 1)
        self.norm = nn.BatchNorm2d(12)
        self.group = nn.GroupNorm(3, 12)
        self.gate = nn.Linear(12, 12)
        self.head = nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        y = functional.relu6(self.wide(functional.hardswish(self.deep(x)) + x))
        y = functional.max_pool2d(y, 3, 2, 1, ceil_mode=True)
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        y = torch.cat([self.group(y), functional.avg_pool2d(y, 2, 1, 1)[:, :, 1:, 1:]], 2)
        y = functional.pad(self.norm(functional.relu(y)), (1, 0, 0, -1))
        y = y - y.amax((2, 3), keepdim=True)
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(y, (4, 1)).flatten(1))
        return logits


attend = partial(functional.scaled_dot_product_attention, is_causal=True)


class Blocks(nn.Module):
    """A residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(self.deep(x) + x)
        logits: Tensor = self.head(functional.max_pool2d(x, 2).mean((2, 3)))
        return logits


class Tokens(nn.Module):
    """Most of what works on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.start = nn.Parameter(torch.randn(1, 1, 12))
        self.norm, self.qkv = nn.LayerNorm(12), nn.Linear(12, 36)
        self.rms, self.out = nn.RMSNorm(12), nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(x.shape[0], -1, -1), x], 1)
        qkv = self.qkv(self.norm(x)).reshape(x.shape[0], -1, 3, 2, 6).permute(2, 0, 3, 1, 4)
        seen = attend(qkv[0], qkv[1], qkv[2])
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        x = x + functional.gelu(self.rms(x))
        logits: Tensor = self.head(x[:, 0] / x.abs().amax(1).clamp(min=0.1)).softmax(-1)
        return logits


class Words(nn.Module):
    """A network on tokens of a vocabulary, with one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.layer(self.table(x)))
        y = torch.tanh(self.layer(y))
        logits: Tensor = functional.log_softmax(self.head(y.mean(1)), -1)
        return logits


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = make().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_()
    return model


@cache
def network_of(make: Callable[[], nn.Module], scheme: str = "8 bits throughout") -> IntegerNetwork:
    """Return a network that nobody changes."""
    return quantize(drawn(make), images(), SCHEMES[scheme])


def images(n: int = 9, *shape: int) -> Tensor:
    return torch.rand(n, *(shape or (3, 12, 12)), generator=make_generator(0, "images"))


def kernels(path: Path, tmp_path: Path) -> Counter[str]:
    """Return what ONNX Runtime runs, after it made one kernel of several nodes."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


def same(network: IntegerNetwork, inputs: Tensor, path: Path, **how: Any) -> None:
    """Check that a file gives the network's logits for any number of images."""
    export_onnx(network, path, **how)
    for n in (1, len(inputs)):
        found = check_onnx(network, path, inputs[:n], threads=1)
        assert found.exact, found
        assert found.identical == found.same_top1 == n


def cases(*default: tuple[str, str]) -> pytest.MarkDecorator:
    """Return schemes and forms; those that are not named wait for the slow run."""
    return pytest.mark.parametrize(
        ("scheme", "form"),
        [
            pytest.param(*one, marks=[] if one in default else [pytest.mark.slow])
            for one in product(SCHEMES, FORMS)
        ],
    )


@cases(("accurate", "qdq"))
def test_maps(scheme: str, form: str, tmp_path: Path) -> None:
    same(network_of(Maps, scheme), images(), tmp_path / "network.onnx", form=form)


@cases(("rquant", "integer"))
def test_tokens(scheme: str, form: str, tmp_path: Path) -> None:
    same(network_of(Tokens, scheme), images(), tmp_path / "network.onnx", form=form)


@pytest.mark.parametrize("form", ["qdq", pytest.param("integer", marks=pytest.mark.slow)])
def test_numbers_of_words(form: str, tmp_path: Path) -> None:
    inputs = torch.randint(20, (9, 6), generator=make_generator(0))
    network = quantize(drawn(Words), inputs, PER_CHANNEL)
    assert any(node.memory for node in network.nodes)
    same(network, inputs, tmp_path / "network.onnx", form=form)


@pytest.mark.slow
def test_volumes_and_signals(tmp_path: Path) -> None:
    for layer, shape in (
        (nn.Conv1d(2, 3, 3, padding=1, stride=2), (2, 9)),
        (nn.Conv3d(2, 3, 2), (2, 4, 5, 6)),
    ):
        model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
        model(images(1, *shape))
        network = quantize(model, images(9, *shape), PER_CHANNEL)
        for form in FORMS:
            same(network, images(9, *shape), tmp_path / "network.onnx", form=form)


@pytest.mark.slow
def test_layers_become_int8_kernels(tmp_path: Path) -> None:
    network = network_of(Maps)
    for weights in ("uint8", "int8"):
        path = tmp_path / f"{weights}.onnx"
        same(network, images(), path, weights=weights)
        found = kernels(path, tmp_path)
        convolutions = sum(node.op in {"conv", "avg_pool"} for node in network.nodes)
        assert found["QLinearConv"] == convolutions >= 4
        assert found["QGemm"] == sum(node.op == "linear" for node in network.nodes) == 2
        assert not found.keys() & {"Conv", "Gemm", "MatMul", "ConvInteger", "QLinearAdd"}
    network = network_of(Tokens)
    export_onnx(network, tmp_path / "tokens.onnx")
    found = kernels(tmp_path / "tokens.onnx", tmp_path)
    assert found["QLinearMatMul"] == 2
    assert found["QGemm"] == 3
    assert not found.keys() & {"Gemm", "MatMul", "MatMulInteger"}


@pytest.mark.slow
@pytest.mark.parametrize("make", [Maps, Tokens])
@pytest.mark.parametrize("scheme", ["accurate", "rquant", "4 bits, signed"])
def test_portable_files_differ_by_roundings_alone(
    make: Callable[[], nn.Module], scheme: str, tmp_path: Path
) -> None:
    network, path = network_of(make, scheme), tmp_path / "network.onnx"
    export_onnx(network, path, form="portable")
    found = check_onnx(network, path, images(60))
    scale = float(network(images(60)).abs().max())
    assert found.largest < 0.1 * scale
    assert found.same_top1 > 0.9 * found.images


def test_portable_files_hold_the_real_scales(tmp_path: Path) -> None:
    network, path = network_of(Maps), tmp_path / "network.onnx"
    export_onnx(network, path, form="portable")
    graph = onnx.load(path).graph
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    layers = {node.name for node in network.nodes if node.op in {"conv", "linear", "add", "mul"}}
    written = {n.output[0]: n for n in graph.node if n.op_type == "QuantizeLinear"}
    assert len(layers & written.keys()) > 5
    for name in layers & written.keys():
        node = written[name]
        assert float(stored[node.input[1]]) == float(network.grids[name].scale)
        readers = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] == name]
        assert all(reader.input[1:] == node.input[1:] for reader in readers)


@pytest.mark.parametrize("scheme", [pytest.param("accurate", marks=pytest.mark.slow), "rquant"])
def test_the_standards_own_evaluator_gives_the_same_bits(scheme: str, tmp_path: Path) -> None:
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    network, path = network_of(Blocks, scheme), tmp_path / "network.onnx"
    export_onnx(network, path, form="integer")
    (found,) = ReferenceEvaluator(str(path)).run(None, {"input": images(3).numpy()})
    assert torch.equal(torch.from_numpy(found), network(images(3)))


def test_portable_files_come_back_as_the_same_network(tmp_path: Path) -> None:
    network, path = network_of(Blocks), tmp_path / "network.onnx"
    export_onnx(network, path, form="portable")
    back = import_onnx(path)
    assert torch.equal(back(images()), network(images()))
    stem = network.tensors["stem.weight"].codes
    assert any(torch.equal(one.codes, stem) for one in back.tensors.values())


def test_changed_words_change_the_file_in_the_same_way(tmp_path: Path) -> None:
    network = network_of(Maps)
    codes = network.tensors["head.weight"].codes
    broken = network.with_codes({"head.weight": codes ^ 64})
    path = tmp_path / "network.onnx"
    same(broken, images(), path)
    found = check_onnx(network, path, images())
    assert not found.exact
    assert found.identical < found.images
    assert found.different > 0
    assert found.largest_steps is not None
    assert found.largest_steps > 1


def test_files_tell_what_they_are_and_repeat_to_the_byte(tmp_path: Path) -> None:
    network = network_of(Maps)
    files = [tmp_path / "first.onnx", tmp_path / "second.onnx"]
    found = [export_onnx(network, path) for path in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert found[0].size == files[0].stat().st_size
    model = onnx.load(files[0])
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert model.producer_name == "bitproof"
    assert about["bitproof.digest"] == network.digest() == found[0].digest
    assert about["bitproof.form"] == "qdq"
    assert all(f"bitproof.rewritten {text}" in about for text in found[0].rewritten)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["n", 3, 12, 12]


@pytest.mark.slow
def test_what_was_rewritten_is_said(tmp_path: Path) -> None:
    def said(scheme: str) -> str:
        network = network_of(Maps, scheme)
        return " ".join(export_onnx(network, tmp_path / "network.onnx").rewritten)

    assert "truncation" not in said("8 bits throughout")
    assert "biases of fewer bits" in said("rquant")
    assert "truncation" in said("truncated")
    assert "words below 8 bits" in said("4 bits, signed")
    assert "no int8 kernel" in said("accurate")
    with pytest.raises(ExchangeError, match="wanted sums rounded to nearest"):
        export_onnx(network_of(Maps, "truncated"), tmp_path / "network.onnx", form="portable")


def test_refusals_are_one_line(tmp_path: Path) -> None:
    network = quantize(drawn(Words), torch.randint(20, (9, 6)), PER_CHANNEL)
    path = tmp_path / "network.onnx"
    approximate = with_multipliers(network, Truncated(columns=4))
    with pytest.raises(ExchangeError, match=r"layer \(linear at layer\): wanted exact products"):
        export_onnx(approximate, path)
    with pytest.raises(ExchangeError, match="no form 'qbq'"):
        export_onnx(network, path, form="qbq")
    with pytest.raises(ExchangeError, match="shape of its images"):
        export_onnx(replace(network, input_shape=None), path)
    assert not path.exists()
    path.write_bytes(b"no model")
    with pytest.raises(ExchangeError, match="ONNX Runtime does not take it"):
        check_onnx(network, path, torch.randint(20, (9, 6)))


def test_every_operation_has_a_form() -> None:
    from bitproof.exchange.export_movements import ON_NUMBERS, PLAIN  # noqa: PLC0415
    from bitproof.exchange.export_sums import SUMS  # noqa: PLC0415

    layers = {"conv", "linear", "affine", "matmul", "avg_pool"}
    known = SUMS.keys() | PLAIN.keys() | ON_NUMBERS.keys() | layers | {"rescale"}
    assert known == OPERATIONS.keys()
