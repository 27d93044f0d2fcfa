"""A graph computes what the module computes, and the module is left as it was."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.errors import TraceError
from bitproof.core.rng import make_generator
from bitproof.models import MODELS, Normalize, ScaledBatchNorm2d, ScaledGroupNorm
from bitproof.quant import Graph, quantize, run_floats, trace
from bitproof.quant.trace import trace_as_is

SHAPES = {"lenet5": (1, 28), "digits_cnn": (1, 8)}
SHAPES |= dict.fromkeys(["alexnet", "simplenet", "vgg11", "vgg16"], (3, 32))
ARCHITECTURES = [
    kind for kind in MODELS.kinds() if kind not in {"factory", "in_memory", "onnx", "timm"}
]


def check(model: nn.Module, *shape: int) -> Graph:
    """Trace on two images, compare on four others and on one; return the graph."""
    graph, plain = (tracer(model, torch.rand(2, *shape)) for tracer in (trace, trace_as_is))
    model.eval()
    for n in (4, 1):
        images = torch.rand(n, *shape)
        with torch.no_grad():
            wanted = model(images)
            for traced in (graph, plain):
                got = run_floats(traced, images)
                assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    return graph


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def shake_norms_(model: nn.Module) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.normal_(layer.weight)
            nn.init.normal_(layer.bias)
    return model


LARGE = {"resnet44", "resnet56", "vgg16", "efficientnet_lite0", "resnet32", "swin_tiny"}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind in LARGE else [])
        for kind in ARCHITECTURES
    ],
)
def test_every_architecture_is_traced(kind: str) -> None:
    channels, size = SHAPES.get(kind, (3, 8))
    model = MODELS.build(kind).build(
        in_channels=channels, image_size=size, n_classes=4, generator=make_generator(0)
    )
    graph = check(shake_norms_(model), channels, size, size)
    assert "affine" not in ops(graph)
    assert "mean" in graph.nodes[0].attrs


# --- the user's own code --------------------------------------------------------------------------


class Lambda(nn.Module):
    """A forward given as a function of the module and its input."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **children: nn.Module) -> None:
        super().__init__()
        self.call = forward
        for name, child in children.items():
            self.add_module(name, child)
        self.bound = nn.Parameter(torch.randn(3, 1, 1))
        self.pos = nn.Parameter(torch.randn(1, 9, 4))
        self.register_buffer("mean", torch.rand(3))
        self.register_buffer("std", torch.rand(3) + 0.5)
        self.plain = torch.rand(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.call(self, x)
        return result


def in_place(s: Any, x: Tensor) -> Any:
    y = s.conv(x)
    y += x
    kept = y
    functional.relu_(y)
    return kept * 2 - y


def unpacked(s: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n * c, h * w).view(n, -1)


FORWARDS: dict[str, Callable[[Any, Tensor], Any]] = {
    "operators": lambda s, x: (x + s.conv(x)) * 2 - x / 3 + 1 - (0.5 - x),
    "negative factors": lambda s, x: -s.conv(x) * -0.5 * 0 + x * -2,
    "torch.cat": lambda s, x: torch.cat((x, s.conv(x)), dim=1),
    "torch.stack": lambda s, x: torch.stack([x, s.conv(x)], 1).flatten(1, 2),
    "functional relu": lambda s, x: functional.relu(s.conv(x)),
    "method relu": lambda s, x: s.conv(x).relu().sigmoid().tanh(),
    "view": lambda s, x: s.conv(x).view(x.size(0), -1),
    "flatten": lambda s, x: torch.flatten(s.conv(x), 1),
    "flatten batch": lambda s, x: s.conv(x).flatten(0, 1).mean(1).view(x.shape[0], -1),
    "reshape by shape": lambda _, x: x.reshape(x.shape[0], x.shape[1] * x.shape[2], -1),
    "unpacked shape": unpacked,
    "chunk": lambda _, x: x.chunk(3, dim=1)[1] + x.chunk(3, 1)[0],
    "split": lambda _, x: torch.split(x, [1, 2], dim=1)[1],
    "unbind": lambda _, x: x.unbind(1)[2],
    "mean": lambda _, x: x.mean((2, 3)),
    "mean of negative axis": lambda _, x: x.mean(-1, keepdim=True).mean(dim=2),
    "transpose": lambda _, x: x.transpose(1, -1).permute(0, 2, 3, 1),
    "permute by tuple": lambda _, x: torch.permute(x, (0, 3, 1, 2)).contiguous(),
    "roll": lambda s, x: torch.roll(s.conv(x), (1, -2), (2, -1)) + x.roll(6, 2) + x.roll(1, dims=1),
    "slices": lambda _, x: x[:, :, ::2, ::2] - x[..., 1:6:2, 1::2][:, :, :3, :3],
    "new axis": lambda _, x: x[:, None, 0].squeeze(1).unsqueeze(-1),
    "last token": lambda _, x: x[:, -1],
    "pools": lambda _, x: functional.max_pool2d(functional.avg_pool2d(x, 2), 3, 1, 1),
    "adaptive pools": lambda _, x: (
        functional.adaptive_avg_pool2d(x, (3, 2)) - functional.adaptive_max_pool2d(x, (3, 2))
    ),
    "pad": lambda _, x: functional.pad(x, (1, 0, 2, 1)),
    "bounds": lambda _, x: x.clamp(0.2, 0.6) + torch.clamp(x, min=0.3) + functional.relu6(9 * x),
    "hardtanh": lambda _, x: functional.hardtanh(4 * x - 2) + functional.hardtanh(x, max_val=0.4),
    "powers": lambda _, x: x**2 + torch.sqrt(x + 1) + x.abs() + torch.exp(x) + torch.square(x),
    "softmax": lambda _, x: torch.softmax(x, dim=-1) + functional.softmax(x, 1),
    "parameter": lambda s, x: x * s.bound + s.bound,
    "buffer view": lambda s, x: (x - s.mean.view(1, -1, 1, 1)) / s.std[:, None, None],
    "plain tensor": lambda s, x: x - s.plain,
    "computed weight": lambda s, x: functional.conv2d(x, s.conv.weight / 2, s.conv.bias, padding=1),
    "linear function": lambda s, x: functional.linear(x, s.pos[0, :, :4].repeat(1, 2)[:, :6]),
    "shared module": lambda s, x: s.act(s.conv(s.act(s.conv(x)))),
    "in-place": in_place,
    "in-place module": lambda s, x: s.inplace(s.conv(x)) + s.conv(x),
    "dropout": lambda s, x: functional.dropout(s.drop(x), 0.5, training=s.training),
    "tokens": lambda s, x: s.tokens(x.flatten(2)) + x.shape[1],
    "batch size": lambda _, x: x.mean((1, 2, 3)).view(x.shape[0], 1),
    "ends in relu": lambda s, x: functional.relu(s.head(x.flatten(1))),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_users_code_is_traced(name: str) -> None:
    model = Lambda(
        FORWARDS[name],
        conv=nn.Conv2d(3, 3, 3, padding=1),
        act=nn.LeakyReLU(0.2),
        inplace=nn.ReLU(inplace=True),
        drop=nn.Dropout(0.5),
        tokens=nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.AvgPool1d(2)),
        head=nn.Linear(108, 4),
    )
    check(shake_norms_(model), 3, 6, 6)


@pytest.mark.parametrize("name", FORWARDS)
def test_users_code_runs_on_integers_near_the_floats(name: str) -> None:
    model = Lambda(
        FORWARDS[name],
        conv=nn.Conv2d(3, 3, 3, padding=1),
        act=nn.LeakyReLU(0.2),
        inplace=nn.ReLU(inplace=True),
        drop=nn.Dropout(0.5),
        tokens=nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.AvgPool1d(2)),
        head=nn.Linear(108, 4),
    ).eval()
    images = torch.rand(16, 3, 6, 6)
    network = quantize(model, images)
    with torch.no_grad():
        wanted = model(images)
    got = network(images)
    assert torch.equal(got, network.differentiable(images))
    assert float((got - wanted).abs().max()) < 0.05 * float(wanted.max() - wanted.min())


class Attention(nn.Module):
    """Self-attention as everybody writes it."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.scale, self.fused = heads, (width // heads) ** -0.5, fused
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape  # noqa: N806
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            mixed = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        result: Tensor = self.proj(mixed.transpose(1, 2).reshape(B, N, C))
        return result


class Block(nn.Module):
    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, fused)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class Wrapped(nn.Module):
    """One of torch's attention layers inside a user's module."""

    def __init__(self, layer: nn.Module, how: str) -> None:
        super().__init__()
        self.layer, self.how = layer, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "attention":
            result: Tensor = self.layer(x, x, value=x, need_weights=False)[0]
        elif self.how == "cross":
            result = self.layer(x[:, :2], x, x)[0]
        else:
            result = self.layer(x)
        return result


class VisionTransformer(nn.Module):
    """Patches, class token, positions, blocks, head."""

    def __init__(self, blocks: list[nn.Module], width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.pos = nn.Parameter(torch.randn(1, 17, width))
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), dim=1)
        x = x + self.pos[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


def encoder_layer(**changes: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **changes)


BLOCKS: dict[str, Callable[[], list[nn.Module]]] = {
    "by hand": lambda: [Block(8, 2, fused=False), Block(8, 4, fused=False)],
    "fused attention": lambda: [Block(8, 2, fused=True)],
    "MultiheadAttention": lambda: [
        Wrapped(nn.MultiheadAttention(8, 2, batch_first=True), "attention")
    ],
    "cross attention": lambda: [
        Wrapped(nn.MultiheadAttention(8, 2, kdim=8, vdim=8, bias=False, batch_first=True), "cross")
    ],
    "TransformerEncoderLayer": lambda: [encoder_layer(), encoder_layer(norm_first=True)],
    "encoder with GELU": lambda: [encoder_layer(activation="gelu")],
    "encoder with tanh GELU": lambda: [encoder_layer(activation=nn.GELU("tanh"))],
    "TransformerEncoder": lambda: [
        nn.TransformerEncoder(
            encoder_layer(norm_first=True), 2, nn.LayerNorm(8), enable_nested_tensor=False
        )
    ],
}


@pytest.mark.parametrize("name", BLOCKS)
def test_transformers_are_traced_and_quantized(name: str) -> None:
    model = VisionTransformer(BLOCKS[name]())
    check(model, 3, 16, 16)
    images = torch.rand(32, 3, 16, 16)
    network = quantize(model, images)
    with torch.no_grad():
        wanted = model(images)
    got = network(images)
    assert torch.equal(got, network.differentiable(images))
    assert float((got - wanted).norm() / wanted.norm()) < 0.05


# --- folding --------------------------------------------------------------------------------------


def test_norms_after_convolutions_and_linear_layers_are_folded() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
        nn.BatchNorm1d(5),
    )
    graph = check(shake_norms_(model), 3, 6, 6)
    assert ops(graph) == ["input", "conv", "reshape", "linear"]
    assert graph.nodes[1].attrs["clamp"] == [0.0, None]


def test_norms_with_a_scale_around_one_are_traced_and_folded_like_others() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        ScaledBatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        ScaledGroupNorm(3, 6),
    )
    for name, weight in shake_norms_(model).named_parameters():
        if name.endswith("excess"):
            nn.init.normal_(weight)
    assert ops(check(model, 3, 6, 6)) == ["input", "conv", "conv", "group_norm"]


def test_norm_before_a_convolution_stays() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )
    assert ops(check(shake_norms_(model), 3, 6, 6)) == ["input", "conv", "affine", "conv"]


def test_layer_with_several_users_keeps_its_norm_apart() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = s.conv(x)
        return s.norm(y) + y

    model = Lambda(
        forward,
        conv=nn.Conv2d(3, 3, 1),
        norm=nn.BatchNorm2d(3),
    )
    assert ops(check(shake_norms_(model), 3, 6, 6)) == ["input", "conv", "affine", "add"]


def test_norm_with_several_users_is_folded() -> None:
    def forward(s: Any, x: Tensor) -> Any:
        y = s.norm(s.conv(x))
        return y.relu() + y

    model = Lambda(
        forward,
        conv=nn.Conv2d(3, 3, 1),
        norm=nn.BatchNorm2d(3),
    )
    assert ops(check(shake_norms_(model), 3, 6, 6)) == ["input", "conv", "table", "add"]


def test_norm_over_tokens_is_not_folded_into_features() -> None:
    model = nn.Sequential(nn.Flatten(2), nn.Linear(16, 4), nn.BatchNorm1d(4))
    assert ops(check(shake_norms_(model), 4, 4, 4)) == ["input", "reshape", "linear", "affine"]


def test_module_used_twice_gives_two_layers() -> None:
    conv = nn.Conv2d(3, 3, 1)
    graph = check(nn.Sequential(conv, nn.ReLU(), conv), 3, 4, 4)
    assert [node.name for node in graph.nodes] == ["input", "0", "0_1"]


NORMALIZATIONS: dict[str, Callable[[Any, Tensor], Any]] = {
    "mean and std": lambda s, x: (x - s.mean.view(1, -1, 1, 1)) / s.std.view(-1, 1, 1),
    "to minus one": lambda _, x: x * 2 - 1,
    "half": lambda _, x: (x - 0.5) / 0.5,
    "upside down": lambda _, x: 1 - x,
    "one colour": lambda s, x: (s.plain - x) * 255,
    "batch norm": lambda s, x: s.norm(x),
    "module": lambda s, x: s.normalize(x),
    "both": lambda s, x: s.norm(s.normalize(x)),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalisation_becomes_part_of_the_input(name: str) -> None:
    model = Lambda(
        lambda s, x: s.conv(NORMALIZATIONS[name](s, x)),
        conv=nn.Conv2d(3, 2, 3, padding=1),
        norm=nn.BatchNorm2d(3),
        normalize=Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
    )
    graph = check(shake_norms_(model), 3, 6, 6)
    assert ops(graph) == ["input", "conv"]
    assert set(graph.tensors) == {"conv.weight", "conv.bias"}
    images = torch.rand(8, 3, 6, 6)
    with torch.no_grad():
        wanted = model.eval()(images)
    got = quantize(model, images)(images)
    assert float((got - wanted).abs().max()) < 0.03 * float(wanted.max() - wanted.min())


def test_norm_with_a_dead_channel_is_not_absorbed() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    shake_norms_(model)
    with torch.no_grad():
        model[0].weight[1] = 0.0  # type: ignore[operator]
    assert ops(check(model, 3, 4, 4)) == ["input", "affine", "conv"]


# --- the user's module stays as it was ------------------------------------------------------------


class Careless(nn.Module):
    """Leaves things behind: a cached activation, a tensor made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.register_buffer("shift", torch.rand(4))
        self.shift: Tensor
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.norm(self.conv(x))
        self.again = self.last
        result: Tensor = self.drop(self.last) + self.shift.view(-1, 1, 1) + torch.full((1,), 0.5)
        return result


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        name: (
            module.training,
            sorted(vars(module)),
            sorted(module._parameters),
            sorted(module._buffers),
            {key: value for key, value in vars(module).items() if not key.startswith("_")},
        )
        for name, module in model.named_modules()
    }


def test_tracing_leaves_the_module_as_it_was() -> None:
    model = Careless().train()
    model.norm.eval()
    before, weights = state_of(model), deepcopy(model.state_dict())
    quantize(model, torch.rand(4, 3, 6, 6))
    assert state_of(model) == before
    assert all(torch.equal(model.state_dict()[key], value) for key, value in weights.items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert not any("_tensor_constant" in name for name in dir(model))


def test_failing_to_trace_leaves_the_module_as_it_was() -> None:
    model = nn.Sequential(Careless(), Lambda(lambda _, x: x if x.sum() > 0 else -x)).train()
    before = state_of(model)
    with pytest.raises(TraceError):
        trace(model, torch.rand(2, 3, 6, 6))
    assert state_of(model) == before


def test_optional_inputs_keep_their_defaults() -> None:
    class Optional(nn.Module):
        def forward(
            self, x: Tensor, mask: Tensor | None = None, *, double: bool = True, by: float = 3.0
        ) -> Tensor:
            x = x if mask is None else x * mask
            return x * by if double else x

    check(Optional(), 3, 2, 2)


def test_a_bare_layer_is_a_model() -> None:
    check(nn.Conv2d(3, 4, 3), 3, 5, 5)


# --- what cannot be quantized is named ------------------------------------------------------------


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Custom(nn.Module):
    """A module of the user's own around any forward, to have a path."""

    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.inner = Lambda(forward)

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


def unpooled(x: Tensor) -> Tensor:
    largest, places = functional.max_pool2d(x, 2, return_indices=True)
    return functional.max_unpool2d(largest, places, [2, 2])


UNSUPPORTED: dict[str, tuple[nn.Module, str]] = {
    "indices": (Custom(lambda _, x: unpooled(x)), "no rule .*'index_put'"),
    "no statistics": (nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)), "0: .*statist"),
    "exponent": (Custom(lambda _, x: x**x), "inner.pow_1: wanted a number"),
    "bound": (Custom(lambda _, x: torch.clamp(x, x - 1)), "inner.*clamp: wanted a number"),
    "unknown function": (Custom(lambda _, x: torch.cumprod(x, 1)), "inner.cumprod.*'cumprod'"),
    "unknown method": (Custom(lambda _, x: x.sort(1)[0]), "inner.sort.*'sort'"),
    "line": (Custom(lambda _, x: x.cummax(1)[0]), r"'cummax' \(test_trace.py:\d+: "),
    "comparison": (Custom(lambda _, x: torch.where(x > 0.5, x, -x)), "'gt'"),
    "roll of all": (Custom(lambda _, x: x.roll(1)), "inner.roll: .*an axis for each shift"),
    "roll of images": (Custom(lambda _, x: x.roll(1, 0)), "inner.roll: .*within one image"),
    "dropout at work": (Custom(lambda _, x: functional.dropout(x)), "inner.dropout.*active"),
    "noise": (Custom(lambda _, x: x + torch.rand_like(x)), "rand_like"),
    "noise beside": (Custom(lambda _, x: x + torch.rand(4, 4)), "off by|random"),
    "mean of everything": (Custom(lambda _, x: x.mean()), "inner.mean.*each image"),
    "mean of the batch": (Custom(lambda _, x: x - x.mean(0)), "inner.mean.*each image"),
    "softmax of the batch": (Custom(lambda _, x: torch.softmax(x, 0)), "inner.softmax.*one image"),
    "first image": (Custom(lambda _, x: x[0]), "inner.getitem.*each image"),
    "half of the batch": (Custom(lambda _, x: x.view(x.shape[0] // 2, -1)), "inner"),
    "number from pixels": (Custom(lambda _, x: x * x[:, 0].mean().item()), "inner"),
    "branch on values": (
        Custom(lambda _, x: x if x.sum() > 0 else -x),
        r"Custom: .* at test_trace.py:\d+: .* if x.sum\(\) > 0",
    ),
    "loop over images": (Custom(lambda _, x: sum(row for row in x)), "same operations for 2 and 5"),
    "nothing": (Custom(lambda *_: None), "output: wanted a tensor of numbers, got none"),
    "rows of nothing": (Custom(lambda _, x: x.flatten(0, 1)), "output: wanted one row"),
    "two inputs": (Two(), "Two: wanted a model with one input, got x, y"),
    "integers of numbers": (Custom(lambda _, x: (x * 9).to(torch.int64) * x), "into torch.int64"),
    "odd arguments": (Custom(lambda _, x: torch.cat([x[:, :0], x[:, :0]], 1) + x), "inner"),
    "mask without softmax": (
        Custom(lambda _, x: x.masked_fill(torch.eye(4).bool(), -1e9).relu()),
        "wanted a softmax behind the mask",
    ),
    "wrong shape": (nn.Sequential(nn.Linear(5, 2)), "example: .*does not run"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_quantized_is_named(name: str) -> None:
    model, message = UNSUPPORTED[name]
    with pytest.raises(TraceError, match=message):
        trace(model, torch.rand(2, 4, 4, 4))


def test_all_problems_are_named_at_once() -> None:
    model = nn.Sequential(
        nn.LocalResponseNorm(2),
        nn.Sequential(Lambda(lambda _, x: x.cummax(1)[0])),
    )
    with pytest.raises(TraceError) as caught:
        trace(model, torch.rand(2, 3, 4, 4))
    for part in ("0", "1.0.cummax", "'cummax'"):
        assert part in str(caught.value)


def test_changes_through_a_view_are_followed() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        y = s.conv(x)
        y.view(-1).relu_()
        result: Tensor = y * 2
        return result

    graph = check(Lambda(forward, conv=nn.Conv2d(3, 3, 1)), 3, 4, 4)
    assert graph.captured_by == "export"


def test_what_a_forward_returns_beside_tensors_is_left_out() -> None:
    class Cache:
        """Of no kind that torch.export knows."""

    def forward(s: Any, x: Tensor) -> Any:
        if x.shape[1] != 3:
            raise ValueError("wanted colours")
        return {"hidden": (x, x), "logits": s.conv(x), "cache": Cache()}

    graph = trace(Lambda(forward, conv=nn.Conv2d(3, 2, 1)), torch.rand(2, 3, 4, 4))
    assert graph.captured_by == "export"
    assert ops(graph) == ["input", "conv"]


TOKENS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "moved numbers": (lambda s, x: s.table(x + 1).mean(1), "compute with token numbers"),
    "one number of all": (lambda s, x: s.table(x).mean(1) * x.amax().item(), "token|values|number"),
    "of single sentences": (
        lambda s, x: s.table(x).mean(1) + x[0, 0].item(),
        "token|values|number",
    ),
    "no numbers": (
        lambda s, x: s.table(s.table(x).mean(1).to(torch.int64)).mean(1),
        "int64|look up",
    ),
}


@pytest.mark.parametrize("name", TOKENS)
def test_what_computes_with_tokens_is_refused(name: str) -> None:
    forward, message = TOKENS[name]
    model = Lambda(forward, table=nn.Embedding(20, 4))
    tokens = torch.randint(18, (4, 6), generator=torch.Generator().manual_seed(0))
    with pytest.raises(TraceError, match=message):
        trace(model, tokens)
