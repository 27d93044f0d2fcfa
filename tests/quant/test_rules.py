"""Every rule: the graph computes what torch does, in floats, in integers, and behind a file."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import einops
import pytest
import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from bitproof.quant import (
    AffineQuantizer,
    IntegerNetwork,
    Scheme,
    load_network,
    quantize,
    run_floats,
    save_network,
    trace,
)

ACCURATE = Scheme(weight=AffineQuantizer(symmetric=True, signed=True, per_channel=True), bias=None)
IMAGES = (3, 8, 8)
VOCABULARY, LENGTH = 30, 7


class Lambda(nn.Module):
    """A forward given as a function of the module and its input."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **children: nn.Module) -> None:
        super().__init__()
        self.call = forward
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.kernel = nn.Parameter(torch.randn(5, 3, 3, 3) / 5)
        self.register_buffer("order", torch.tensor([2, 0, 3, 1]))
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def sequence(length: int) -> Callable[[Tensor], Tensor]:
    return lambda x: x.flatten(2).transpose(1, 2)[:, :length]


def tokens_of(s: Any, x: Tensor) -> Tensor:
    result: Tensor = s.conv(x).flatten(2).transpose(1, 2)
    return result


def over_cells(s: Any, x: Tensor) -> Tensor:
    h = c = torch.zeros(x.shape[0], 6)
    for at in range(5):
        h, c = s.layer(x[:, :, 0, at], (h, c))
    return h


def over_gru_cells(s: Any, x: Tensor) -> Any:
    h = None
    for at in range(5):
        h = s.layer(x[:, :, 0, at], h)
    return h


def layer_norm_by_hand(s: Any, x: Tensor) -> Any:
    y: Tensor = s.conv(x)
    y = y - y.mean(1, keepdim=True)
    return y / torch.sqrt(y.pow(2).mean(1, keepdim=True) + 1e-6)


def global_response_norm(s: Any, x: Tensor) -> Any:
    y: Tensor = s.conv(x)
    size: Tensor = torch.norm(y, p=2, dim=(2, 3), keepdim=True)
    return y * (size / (size.mean(1, keepdim=True) + 1e-6)) + y


def assigned(s: Any, x: Tensor) -> Tensor:
    y: Tensor = s.conv(x).clone()
    y[:, 0] = 0.5
    y[:, 1:3] = y[:, 1:3] * 2
    return y


def branching(s: Any, x: Tensor) -> Any:
    if x.shape[1] == 3 and x.shape[-1] > 4:
        assert x.ndim == 4
        return s.conv(x)
    return x


def starred(s: Any, *inputs: Tensor) -> Any:
    return s.conv(inputs[0])


def causal_scores(s: Any, x: Tensor) -> Tensor:
    y = s.conv(x).flatten(2)
    scores = (y @ y.transpose(1, 2)).masked_fill(torch.ones(4, 4).triu(1).bool(), -1e9)
    result: Tensor = scores.softmax(-1) @ y
    return result


def shifted_windows(s: Any, x: Tensor) -> Tensor:
    """A bias and a mask, added to scores in another shape than the softmax sees."""
    y = tokens_of(s, x).reshape(x.shape[0] * 4, 16, 4)
    scores = y @ y.transpose(1, 2) + torch.linspace(-1, 1, 16)
    mask = torch.zeros(4, 16, 16)
    mask[1:, :8, 8:] = -100.0
    scores = (scores.view(-1, 4, 16, 16) + mask).view(-1, 16, 16)
    return (scores.softmax(-1) @ y).reshape(x.shape[0], -1)


def grouped_queries(s: Any, x: Tensor) -> Tensor:
    y = tokens_of(s, x)[:, :6, :, None].transpose(1, 2)
    return functional.scaled_dot_product_attention(y, y[:, :2], y[:, :2], enable_gqa=True)


def pruned() -> nn.Module:
    module: nn.Module = prune.l1_unstructured(  # type: ignore[no-untyped-call]
        nn.Conv2d(3, 4, 3), "weight", 0.5
    )
    return module


Case = tuple[Callable[[Any, Tensor], Any], dict[str, nn.Module]]


def case(forward: Callable[[Any, Tensor], Any], **children: nn.Module) -> Case:
    return forward, children


def patches(s: Any, x: Tensor) -> Any:
    """Patches, tokens and a mean as vit-pytorch writes them."""
    tokens = s.patches(s.conv(x))
    return einops.reduce(
        einops.rearrange(tokens, "b t (k d) -> b k t d", k=2), "b k t d -> b k d", "mean"
    )


def with_einops() -> Case:
    return case(patches, patches=Rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=4, q=4))


def layer(module: nn.Module, prepare: Callable[[Tensor], Tensor] = lambda x: x) -> Case:
    return case(lambda s, x: s.layer(prepare(x)), layer=module)


def after_conv(function: Callable[[Tensor], Any]) -> Case:
    return case(lambda s, x: function(s.conv(x)))


LAST: Callable[[Any], Any] = operator.itemgetter((slice(None), -1))
RULES: dict[str, Callable[[], Case]] = {
    "transposed convolution": lambda: layer(
        nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)
    ),
    "transposed in groups": lambda: layer(
        nn.ConvTranspose2d(3, 6, (3, 2), stride=(3, 2), groups=3, dilation=(2, 1))
    ),
    "transposed in 1-D": lambda: layer(
        nn.ConvTranspose1d(3, 5, 4, stride=2, padding=1), lambda x: x.flatten(2)
    ),
    "transposed in 3-D": lambda: layer(
        nn.ConvTranspose3d(3, 5, 2, stride=2), lambda x: x[:, :, None].expand(-1, -1, 4, -1, -1)
    ),
    "tied with a convolution": lambda: case(
        lambda s, x: functional.conv_transpose2d(functional.conv2d(x, s.kernel), s.kernel)
    ),
    "transposed, cut off": lambda: layer(nn.ConvTranspose2d(3, 4, 2, padding=2, stride=3)),
    "reflecting convolution": lambda: layer(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")),
    "circular convolution": lambda: layer(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")),
    "same with an even kernel": lambda: layer(nn.Conv2d(3, 4, 4, padding="same")),
    "LSTM both ways": lambda: case(
        lambda s, x: s.layer(sequence(5)(x))[0][:, -1],
        layer=nn.LSTM(3, 6, batch_first=True, num_layers=2, bidirectional=True),
    ),
    "LSTM, time first": lambda: case(
        lambda s, x: s.layer(x.flatten(2).permute(2, 0, 1)[:5])[1][0].transpose(0, 1).flatten(1),
        layer=nn.LSTM(3, 6),
    ),
    "GRU": lambda: case(
        lambda s, x: s.layer(sequence(6)(x))[0], layer=nn.GRU(3, 6, batch_first=True)
    ),
    "GRU both ways": lambda: case(
        lambda s, x: s.layer(sequence(4)(x))[1].transpose(0, 1).flatten(1),
        layer=nn.GRU(3, 6, batch_first=True, bidirectional=True, num_layers=2, bias=False),
    ),
    "RNN": lambda: case(
        lambda s, x: s.layer(sequence(6)(x))[0],
        layer=nn.RNN(3, 6, batch_first=True, nonlinearity="relu"),
    ),
    "GRU cells": lambda: case(over_gru_cells, layer=nn.GRUCell(3, 6)),
    "mean, last window cut": lambda: after_conv(
        lambda y: functional.avg_pool2d(y, 3, 2, 1, ceil_mode=True)
    ),
    "mean without padding": lambda: after_conv(
        lambda y: functional.avg_pool2d(y, 3, 2, 1, ceil_mode=True, count_include_pad=False)
    ),
    "mean over a given number": lambda: after_conv(
        lambda y: functional.avg_pool2d(y, 3, 2, divisor_override=5)
    ),
    "pools in 3-D": lambda: after_conv(
        lambda y: functional.avg_pool3d(y[:, None], 2) + functional.max_pool3d(y[:, None], 2)
    ),
    "uneven means": lambda: after_conv(lambda y: functional.adaptive_avg_pool2d(y, (3, 5))),
    "uneven maxima": lambda: after_conv(lambda y: functional.adaptive_max_pool2d(y, (3, 5))),
    "functional batch norm": lambda: case(
        lambda s, x: functional.batch_norm(
            s.conv(x), s.norm.running_mean, s.norm.running_var, s.norm.weight, s.norm.bias
        ),
        norm=nn.BatchNorm2d(4),
    ),
    "instance norm": lambda: case(
        lambda s, x: s.norm(s.conv(x)), norm=nn.InstanceNorm2d(4, affine=True)
    ),
    "group norm": lambda: after_conv(lambda y: functional.group_norm(y, 2)),
    "RMS norm": lambda: case(lambda s, x: s.norm(s.conv(x)), norm=nn.RMSNorm(8)),
    "unit length": lambda: after_conv(lambda y: functional.normalize(y, dim=1) * 2),
    "unit length by hand": lambda: after_conv(
        lambda y: y / y.norm(dim=1, keepdim=True).clamp(min=1e-6)
    ),
    "at most unit length": lambda: after_conv(
        lambda y: (
            y / y.norm(dim=1, keepdim=True).clamp(min=1.0) + functional.normalize(y, dim=2, eps=0.5)
        )
    ),
    "layer norm by hand": lambda: case(layer_norm_by_hand),
    "global response norm": lambda: case(global_response_norm),
    "products of matrices": lambda: case(
        lambda s, x: torch.bmm(s.conv(x).flatten(2), x.flatten(2).mT) @ s.layer.weight,
        layer=nn.Linear(5, 3),
    ),
    "sums": lambda: after_conv(lambda y: y.sum((2, 3))),
    "extremes": lambda: after_conv(lambda y: y.amax((2, 3)) - y.amin((2, 3))),
    "variances": lambda: after_conv(lambda y: y.var((2, 3)) + y.std(dim=(2, 3))),
    "addcmul": lambda: case(lambda s, x: torch.addcmul(x, s.conv(x)[:, :3], x, value=0.5)),
    "division": lambda: after_conv(lambda y: y / (y.abs().mean((1, 2, 3), keepdim=True) + 1)),
    "alpha": lambda: after_conv(lambda y: torch.add(y, y.relu(), alpha=2) - torch.rsub(y, 1)),
    "list of channels": lambda: after_conv(lambda y: y[:, [2, 0, 1, 1]]),
    "computed list": lambda: case(
        lambda s, x: s.conv(x)[:, s.order.argsort()].index_select(2, s.order)
    ),
    "flips": lambda: after_conv(lambda y: y.flip(2, -1)),
    "repeats": lambda: after_conv(lambda y: y.repeat_interleave(2, dim=2).repeat(1, 2, 1, 1)),
    "shapes of others": lambda: case(
        lambda s, x: s.conv(x)[:, :3].reshape_as(x).type_as(x).to(x.dtype)
    ),
    "NumPy's names": lambda: case(
        lambda s, x: torch.concatenate(  # type: ignore[call-arg, call-overload]
            [s.conv(x), x], axis=1
        ).mean(axis=1, keepdims=True)
    ),
    "PReLU": lambda: case(lambda s, x: s.b(s.a(s.conv(x))), a=nn.PReLU(), b=nn.PReLU(4)),
    "gate": lambda: case(lambda s, x: s.gate(s.conv(x)), gate=nn.GLU(1)),
    "pointwise": lambda: after_conv(
        lambda y: (
            functional.celu(y) + functional.softsign(y) + functional.hardshrink(y) + torch.sin(y)
            + functional.threshold(y, 0.1, 0.2) + functional.logsigmoid(y)
        )
    ),
    "padding with a number": lambda: after_conv(
        lambda y: functional.pad(y, (1, 2, 0, 1), value=0.5)
    ),
    "maxima behind padding": lambda: after_conv(
        lambda y: functional.max_pool2d(
            functional.pad(y.relu(), (1, 2, 0, 1), value=-float("inf")), 2
        )
    ),
    "reflection": lambda: after_conv(lambda y: functional.pad(y, (1, 2, 2, 1), mode="reflect")),
    "shuffles": lambda: case(
        lambda s, x: s.shuffle(
            functional.pixel_unshuffle(functional.pixel_shuffle(s.conv(x), 2), 4)
        ),
        shuffle=nn.ChannelShuffle(4),
    ),
    "columns": lambda: layer(nn.Unfold(3, padding=1, stride=2)),
    "log softmax": lambda: case(
        lambda s, x: functional.log_softmax(s.layer(s.conv(x).mean((2, 3))), 1),
        layer=nn.Linear(4, 10),
    ),
    "causal attention": lambda: case(
        lambda s, x: functional.scaled_dot_product_attention(
            tokens_of(s, x), tokens_of(s, x), tokens_of(s, x), is_causal=True
        )
    ),
    "masked scores": lambda: case(causal_scores),
    "bias and mask": lambda: case(shifted_windows),
    "grouped queries": lambda: case(grouped_queries),
    "running sums": lambda: after_conv(lambda y: y.cumsum(2)),
    "choice by a fixed mask": lambda: after_conv(
        lambda y: torch.where(torch.eye(8).bool(), y, torch.zeros(()))
    ),
    "old weight norm": lambda: layer(nn.utils.weight_norm(nn.Conv2d(3, 4, 3))),
    "old spectral norm": lambda: layer(nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))),
    "pruned": lambda: layer(pruned()),
}  # fmt: skip
"""What torch.fx captures."""

EXPORTED: dict[str, Callable[[], Case]] = {
    "LSTM cells": lambda: case(over_cells, layer=nn.LSTMCell(3, 6)),
    "interpolation": lambda: after_conv(
        lambda y: functional.interpolate(
            functional.interpolate(y, size=(13, 5), mode="bilinear", align_corners=True),
            scale_factor=1.5, mode="bicubic",
        )
    ),
    "interpolation with antialiasing": lambda: after_conv(
        lambda y: functional.interpolate(y, size=(5, 6), mode="bicubic", antialias=True)
    ),
    "nearest": lambda: case(
        lambda s, x: functional.interpolate(s.up(s.conv(x)), size=(11, 3), mode="nearest-exact"),
        up=nn.Upsample(scale_factor=2),
    ),
    "interpolation in 1-D and 3-D": lambda: after_conv(
        lambda y: functional.interpolate(
            functional.interpolate(y.flatten(2), scale_factor=0.5, mode="linear")
            .reshape(-1, 1, 4, 4, 8),
            scale_factor=2, mode="trilinear",
        )
    ),
    "einsum": lambda: case(
        lambda s, x: torch.einsum(
            "bchw,cd->bdhw", torch.einsum("bchw,bdhw->bcd", s.conv(x), x)[..., None], s.layer.weight
        ),
        layer=nn.Linear(4, 4),
    ),
    "largest": lambda: after_conv(lambda y: y.max(dim=1)[0] + y.max(1).values),
    "nothing beside": lambda: after_conv(lambda y: torch.cat([torch.empty(0), y.flatten(1)], -1)),
    "zeros beside": lambda: case(
        lambda s, x: torch.cat([s.conv(x), torch.zeros(x.shape[0], 1, 8, 8)], 1)
    ),
    "columns back to maps": lambda: case(
        lambda s, x: functional.fold(
            functional.unfold(s.conv(x), 3, padding=1, stride=2), (8, 8), 3, padding=1, stride=2
        )
    ),
    "windows": lambda: after_conv(lambda y: y.unfold(2, 3, 2)),
    "assignments": lambda: case(assigned),
    "attention with a mask": lambda: case(
        lambda s, x: s.attention(
            *[tokens_of(s, x)] * 3, attn_mask=torch.ones(64, 64).triu(1).bool()
        )[0],
        attention=nn.MultiheadAttention(4, 2, batch_first=True),
    ),
    "tokens first": lambda: case(
        lambda s, x: s.layer(s.conv(x).flatten(2).permute(2, 0, 1)).transpose(0, 1),
        layer=nn.TransformerEncoderLayer(4, 2, 8),
    ),
    "cross attention": lambda: case(
        lambda s, x: s.layer(tokens_of(s, x)[:, :6], tokens_of(s, x)),
        layer=nn.TransformerDecoderLayer(4, 2, 8, batch_first=True),
    ),
    "weight norm": lambda: layer(parametrizations.weight_norm(nn.Conv2d(3, 4, 3))),
    "spectral norm": lambda: layer(parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))),
    "branch on a shape": lambda: case(branching),
    "any number of inputs": lambda: case(starred),
    "einops": with_einops,
}  # fmt: skip
"""What needs torch.export."""

TOKENS: dict[str, Callable[[], Case]] = {
    "embedding": lambda: case(
        lambda s, x: s.head(s.table(x.view(-1, LENGTH)[:, 1:]).mean(1)),
        table=nn.Embedding(VOCABULARY, 8), head=nn.Linear(8, 4),
    ),
    "tied embedding": lambda: case(
        lambda s, x: functional.linear(s.table(x) + s.place(torch.arange(LENGTH)), s.table.weight),
        table=nn.Embedding(VOCABULARY, 8), place=nn.Embedding(LENGTH, 8),
    ),
    "transformer": lambda: case(
        lambda s, x: s.encoder(s.table(x)).mean(1),
        table=nn.Embedding(VOCABULARY, 8),
        encoder=nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
    ),
}  # fmt: skip


SLOW = {
    *("attention with a mask", "LSTM cells", "einsum", "cross attention", "assignments"),
    *("tokens first", "interpolation in 1-D and 3-D", "GRU both ways"),
}


def marked(cases: dict[str, Callable[[], Case]]) -> list[Any]:
    """Return the names; those that take seconds wait for the slow run."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in cases]


def build(make: Callable[[], Case]) -> nn.Module:
    torch.manual_seed(0)
    forward, children = make()
    return Lambda(forward, **children).eval()


def compare(make: Callable[[], Case], inputs: Tensor, tmp_path: Path) -> IntegerNetwork:
    """Compare graph, integers, and the network behind a file with the model."""
    model = build(make)
    with torch.no_grad():
        wanted = model(inputs)
    floats = run_floats(trace(model, inputs[:3]), inputs)
    assert torch.allclose(floats, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    network = quantize(model, inputs, ACCURATE)
    got = network(inputs)
    ratio = wanted.square().mean() / (wanted - got).square().mean()
    assert float(10 * ratio.log10()) > 30
    save_network(network, tmp_path / "network")
    assert torch.equal(load_network(tmp_path / "network")(inputs), got)
    return network


def compare_on_images(make: Callable[[], Case], tmp_path: Path) -> None:
    images = torch.rand(12, *IMAGES, generator=torch.Generator().manual_seed(1))
    network = compare(make, images, tmp_path)
    assert torch.equal(network.differentiable(images), network(images))
    steps = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network.differentiable(steps).sum(), steps)
    assert bool(gradient.isfinite().all())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", marked(RULES))
def test_rule(name: str, tmp_path: Path) -> None:
    compare_on_images(RULES[name], tmp_path)
    assert trace(build(RULES[name]), torch.rand(2, *IMAGES)).captured_by == "fx"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", marked(EXPORTED))
def test_rule_of_what_is_exported(name: str, tmp_path: Path) -> None:
    compare_on_images(EXPORTED[name], tmp_path)


@pytest.mark.parametrize("name", TOKENS)
def test_rule_of_tokens(name: str, tmp_path: Path) -> None:
    drawn = torch.Generator().manual_seed(1)
    compare(TOKENS[name], torch.randint(VOCABULARY, (12, LENGTH), generator=drawn), tmp_path)
