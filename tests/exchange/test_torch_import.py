"""Models that torch quantized, read with their scales: the words of torch's own kernels."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import DeQuantStub, QuantStub

from bitproof.core.errors import ExchangeError, TraceError
from bitproof.exchange.torch_import import from_torch_quantized
from bitproof.quant import IntegerNetwork, quantize
from bitproof.quant.trace import quantized_by_torch
from tests.exchange.tiny_onnx import images_of

ao: Any = torch.ao.quantization
IMAGES = images_of(64, 2, 8, 8)
pytestmark = pytest.mark.filterwarnings("ignore")  # torch.ao says that it is old


@pytest.fixture(params=["x86", "qnnpack"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this torch has no engine {request.param}")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = request.param
    yield request.param
    torch.backends.quantized.engine = before


class Residual(nn.Module):
    """What eager mode asks of a model: stubs, and modules for sums."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv1, self.norm, self.relu = (
            nn.Conv2d(2, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.sum = torch.ao.nn.quantized.FloatFunctional()
        self.pool, self.mean, self.head = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv1(self.quant(x))))
        x = self.pool(self.sum.add_relu(self.conv2(x), x))
        x = self.mean(x).view(x.size(0), -1)
        logits: Tensor = self.dequant(self.head(x))
        return logits


class Plain(nn.Module):
    """An ordinary model, for FX mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.norm = nn.Conv2d(2, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.conv2, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.hardswish(self.norm(self.conv1((x - 0.5) / 0.25)))
        x = torch.relu(self.conv2(x) + x)
        x = torch.cat([x[:, :4], torch.sigmoid(x[:, 4:]) * 2], 1)
        x = torch.nn.functional.adaptive_avg_pool2d(torch.nn.functional.pad(x, (0, 1, 1, 0)), 2)
        logits: Tensor = self.head(x.flatten(1))
        return logits


def eager(engine: str) -> nn.Module:
    model = Residual().eval()
    ao.fuse_modules(model, [["conv1", "norm", "relu"]], inplace=True)
    model.qconfig = ao.get_default_qconfig(engine)
    ao.prepare(model, inplace=True)
    model(IMAGES)
    converted: nn.Module = ao.convert(model)
    return converted


def by_fx(engine: str) -> nn.Module:
    from torch.ao.quantization import quantize_fx  # noqa: PLC0415 - it warns

    mapping = ao.get_default_qconfig_mapping(engine)
    prepared: Any = quantize_fx.prepare_fx(Plain().eval(), mapping, (IMAGES,))
    prepared(IMAGES)
    converted: nn.Module = quantize_fx.convert_fx(prepared)
    return converted


def share_of_other_words(network: IntegerNetwork, model: nn.Module) -> float:
    """Return the share of output words that differ, none of them by more than two."""
    with torch.no_grad():
        wanted, got = model(IMAGES), network(IMAGES)
    scale = float(network.grids[network.nodes[-1].name].scale)
    steps = ((wanted - got) / scale).round().abs()
    assert float(steps.max()) <= 2
    assert len(set(wanted.flatten().tolist())) > 5
    return float((steps != 0).float().mean())


def test_eager_mode(engine: str) -> None:
    model = eager(engine)
    network = from_torch_quantized(model, IMAGES)
    # Biases are real there: words at ties.
    assert share_of_other_words(network, model) < 0.02
    layer: Any = model.conv1
    stored = network.tensors["conv1.weight"]
    assert torch.equal(stored.codes, layer.weight().int_repr())
    assert float(network.grids["conv1"].scale) == pytest.approx(layer.scale, rel=1e-7)
    assert (stored.grid.axis == 0) == (engine == "x86")


def test_fx_mode_with_normalisation_and_floats_between(engine: str) -> None:
    model = by_fx(engine)
    assert share_of_other_words(from_torch_quantized(model, IMAGES), model) < 0.05


def test_quantize_says_who_reads_such_a_model() -> None:
    model = eager(torch.backends.quantized.engine)
    with pytest.raises(TraceError, match="from_torch_quantized"):
        quantize(model, IMAGES)
    with pytest.raises(ExchangeError, match="Residual: wanted a quantized model, got a float one"):
        from_torch_quantized(Residual(), IMAGES)


def quantized_by_me(x: Tensor) -> Tensor:
    return x + 1


torch.fx.wrap("quantized_by_me")  # a call of its own in a graph


def test_a_file_of_ones_own_called_quantized_is_no_quantized_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a layer of it nor a function in it."""

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return quantized_by_me(x)

    monkeypatch.setattr(Own, "__module__", "mine.quantized")
    with pytest.raises(ExchangeError, match="Own: wanted a quantized model, got a float one"):
        from_torch_quantized(Own(), IMAGES)
    for model in (eager(torch.backends.quantized.engine), by_fx(torch.backends.quantized.engine)):
        assert quantized_by_torch(model)
    assert not quantized_by_torch(Residual())  # has sums of torch.ao.nn.quantized, on floats


def test_what_has_no_form_is_named() -> None:
    class Odd(Residual):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = torch.cumsum(super().forward(x), 1)
            return logits

    model = Odd().eval()
    ao.fuse_modules(model, [["conv1", "norm", "relu"]], inplace=True)
    model.qconfig = ao.get_default_qconfig(torch.backends.quantized.engine)
    ao.prepare(model, inplace=True)
    model(IMAGES)
    with pytest.raises(ExchangeError, match=r"cumsum: no form as integers for .*'cumsum'"):
        from_torch_quantized(ao.convert(model), IMAGES)


def decomposed(x: Tensor, scale: float, zero: int) -> Tensor:
    """Return what pt2e writes: words of plain integers, and back."""
    ops = torch.ops.quantized_decomposed
    words = ops.quantize_per_tensor(x, scale, zero, 0, 255, torch.uint8)
    return ops.dequantize_per_tensor(words, scale, zero, 0, 255, torch.uint8)  # type: ignore[no-any-return]


class Decomposed(nn.Module):
    """A graph as pt2e with its recipe for x86 leaves it: a layer adds words before its rounding."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.register_buffer(
            "w1", torch.randint(-127, 128, (8, 2, 3, 3), generator=draw).to(torch.int8)
        )
        self.register_buffer(
            "w2", torch.randint(-127, 128, (8, 8, 3, 3), generator=draw).to(torch.int8)
        )
        self.register_buffer(
            "w3", torch.randint(-127, 128, (5, 512), generator=draw).to(torch.int8)
        )
        for name, size in (("1", 8), ("2", 8), ("3", 5)):
            self.register_buffer(f"s{name}", torch.linspace(0.001, 0.003, size))
            self.register_buffer(f"z{name}", torch.zeros(size, dtype=torch.int64))
            self.register_buffer(f"b{name}", torch.linspace(-0.2, 0.2, size))

    def weight(self, name: str) -> Tensor:
        found: Tensor = torch.ops.quantized_decomposed.dequantize_per_channel(
            getattr(self, f"w{name}"), getattr(self, f"s{name}"), getattr(self, f"z{name}"), 0,
            -127, 127, torch.int8,
        )  # fmt: skip
        return found

    def forward(self, x: Tensor) -> Tensor:
        ops = torch.ops.aten
        x = decomposed(x, 1 / 255, 0)
        x = decomposed(ops.relu(ops.conv2d(x, self.weight("1"), self.b1, [1, 1], [1, 1])), 0.01, 0)
        y = ops.conv2d(x, self.weight("2"), self.b2, [1, 1], [1, 1])
        x = decomposed(ops.relu(ops.add(y, x)), 0.02, 0)
        logits: Tensor = ops.linear(ops.flatten(x, 1), self.weight("3"), self.b3)
        return logits


def test_graphs_of_pt2e() -> None:
    pytest.importorskip("torch.ao.quantization.fx._decomposed")
    model = Decomposed().eval()
    network = from_torch_quantized(model, IMAGES)
    with torch.no_grad():
        wanted, got = model(IMAGES), network(IMAGES)
    # Layers in floats there; of residual sums, words of 16 bits here.
    assert (wanted.argmax(1) == got.argmax(1)).float().mean() > 0.95
    assert (wanted - got).norm() < 0.01 * wanted.norm()
    layer = next(node.name for node in network.nodes if node.op == "conv")
    stored: Any = model.w1
    assert torch.equal(network.tensors[f"{layer}.weight"].codes, stored)
