"""A small network for each layer of `torch.nn`, and the table of what becomes of it.

`python -m tests.quant.layer_samples > docs/supported-layers.md` writes the page, from the root of
the checkout; `test_supported_layers.py` compares it with what is true.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bitproof.core.errors import BitproofError
from bitproof.quant import Scheme, quantize

Sample = tuple[Callable[[], nn.Module], tuple[int, ...]]
IMAGES = 16
LINE, MAP, VOLUME, FEATURES, PLACES = (4, 12), (4, 8, 8), (4, 4, 4, 4), (8,), (6, 8)
AXES = {1: LINE, 2: MAP, 3: VOLUME}


class Twice(nn.Module):
    """A layer of two inputs, which gets the input and a linear map of it."""

    def __init__(self, layer: nn.Module, features: int) -> None:
        super().__init__()
        self.layer, self.other = layer, nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, self.other(x))  # type: ignore[no-any-return]


class Unpooled(nn.Module):
    """A max pooling and its inverse."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.pool = getattr(nn, f"MaxPool{axes}d")(2, return_indices=True)
        self.back = getattr(nn, f"MaxUnpool{axes}d")(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(*self.pool(x))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Attention of a sequence to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x, x)[0]  # type: ignore[no-any-return]


def _behind_convolution(axes: int) -> nn.Module:
    """Return a batch norm where it mostly stands."""
    return nn.Sequential(getattr(nn, f"Conv{axes}d")(4, 4, 3), getattr(nn, f"BatchNorm{axes}d")(4))


def _layer(name: str, *arguments: float, **named: object) -> nn.Module:
    layer: nn.Module = getattr(nn, name)(*arguments, **named)
    return layer


def _behind_linear(name: str) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), _layer(name))


POINTWISE = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity"),
    *("LeakyReLU", "LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU"),
    *("Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
    *("Dropout", "AlphaDropout", "FeatureAlphaDropout"),
)
PADDINGS = ("ReflectionPad", "ReplicationPad", "CircularPad", "ZeroPad")
POOLINGS = ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool")


def _samples_by_axes(axes: int) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Yield name and network of layers that there are in 1 to 3 dimensions."""

    def sample(kind: str, *arguments: float, **named: object) -> tuple[str, Any]:
        return f"{kind}{axes}d", partial(_layer, f"{kind}{axes}d", *arguments, **named)

    yield sample("Conv", 4, 4, 3)
    yield sample("ConvTranspose", 4, 4, 2, 2)
    yield sample("InstanceNorm", 4, affine=True)
    yield sample("LPPool", 2, 2)
    yield sample("ConstantPad", 1, 0.5)
    yield sample("Dropout")
    yield f"BatchNorm{axes}d", partial(_behind_convolution, axes)
    yield f"MaxUnpool{axes}d", partial(Unpooled, axes)
    yield from (sample(kind, 2) for kind in POOLINGS)
    yield from (sample(kind, 1) for kind in PADDINGS)
    if axes > 1:
        yield sample("FractionalMaxPool", 2, output_size=2)


def _samples() -> Iterator[tuple[str, Sample]]:
    """Yield name, network and shape of one input."""
    for axes, shape in AXES.items():
        for name, build in _samples_by_axes(axes):
            yield name, (build, shape)
    for name in POINTWISE:
        yield name, (partial(_behind_linear, name), FEATURES)
    others: dict[str, Sample] = {
        "Threshold": (lambda: nn.Threshold(0.5, 0.1), FEATURES),
        "GLU": (nn.GLU, FEATURES),
        "Linear": (lambda: nn.Linear(8, 4), FEATURES),
        "Bilinear": (lambda: Twice(nn.Bilinear(8, 8, 4), 8), FEATURES),
        "LayerNorm": (lambda: nn.LayerNorm(8), PLACES),
        "RMSNorm": (lambda: nn.RMSNorm(8), PLACES),
        "GroupNorm": (lambda: nn.GroupNorm(2, 4), MAP),
        "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), MAP),
        "CrossMapLRN2d": (lambda: nn.CrossMapLRN2d(3), MAP),
        "SyncBatchNorm": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.SyncBatchNorm(4)), MAP),
        "Softmax": (lambda: nn.Softmax(-1), FEATURES),
        "LogSoftmax": (lambda: nn.LogSoftmax(-1), FEATURES),
        "Softmin": (lambda: nn.Softmin(-1), FEATURES),
        "Softmax2d": (nn.Softmax2d, MAP),
        "Flatten": (nn.Flatten, MAP),
        "Unflatten": (lambda: nn.Unflatten(1, (2, 4)), FEATURES),
        "PixelShuffle": (lambda: nn.PixelShuffle(2), MAP),
        "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), MAP),
        "ChannelShuffle": (lambda: nn.ChannelShuffle(2), MAP),
        "Unfold": (lambda: nn.Unfold(3), MAP),
        "Fold": (lambda: nn.Sequential(nn.Unfold(3), nn.Fold((8, 8), 3)), MAP),
        "Upsample": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), MAP),
        "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), MAP),
        "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d(scale_factor=2), MAP),
        "Embedding": (lambda: nn.Embedding(16, 8), (6,)),
        "EmbeddingBag": (lambda: nn.EmbeddingBag(16, 8), (6,)),
        "RNN": (lambda: nn.RNN(8, 6, batch_first=True), PLACES),
        "GRU": (lambda: nn.GRU(8, 6, batch_first=True), PLACES),
        "LSTM": (lambda: nn.LSTM(8, 6, batch_first=True), PLACES),
        "RNNCell": (lambda: nn.RNNCell(8, 6), FEATURES),
        "GRUCell": (lambda: nn.GRUCell(8, 6), FEATURES),
        "LSTMCell": (lambda: nn.LSTMCell(8, 6), FEATURES),
        "MultiheadAttention": (SelfAttention, PLACES),
        "TransformerEncoderLayer": (
            lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), PLACES
        ),
        "TransformerEncoder": (
            lambda: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2
            ),
            PLACES,
        ),
        "TransformerDecoderLayer": (
            lambda: Twice(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 8), PLACES
        ),
        "TransformerDecoder": (
            lambda: Twice(
                nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2), 8
            ),
            PLACES,
        ),
        "Transformer": (
            lambda: Twice(nn.Transformer(8, 2, 1, 1, 16, batch_first=True), 8), PLACES
        ),
        "CosineSimilarity": (lambda: Twice(nn.CosineSimilarity(), 8), FEATURES),
        "PairwiseDistance": (lambda: Twice(nn.PairwiseDistance(), 8), FEATURES),
    }  # fmt: skip
    yield from others.items()


SAMPLES = dict(_samples())
NO_LAYERS = {
    *("Module", "Container", "Sequential", "ModuleDict", "ModuleList"),
    *("ParameterDict", "ParameterList", "RNNBase", "RNNCellBase", "LinearCrossEntropyOptions"),
}
"""What `torch.nn` has beside layers; losses and lazy layers, which become others, are left out."""


def layers_of_torch() -> list[str]:
    """Return the layers of this torch."""
    return [
        name
        for name in nn.modules.__all__
        if not ("Loss" in name or name.startswith("Lazy") or name in NO_LAYERS)
    ]


@dataclass(frozen=True)
class Found:
    """What became of a layer."""

    operations: str
    """Operations of the integer network, or why there is none."""
    sqnr_db: float | None = None
    """How far its outputs are from the float layer's; None: it is refused."""


def try_layer(name: str) -> Found:
    """Quantize the network of a layer, with preset `accurate`, and compare."""
    build, shape = SAMPLES[name]
    torch.manual_seed(0)
    inputs = torch.rand(IMAGES, *shape)
    if name.startswith("Embedding"):
        inputs = torch.randint(0, 16, (IMAGES, *shape))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = _with_statistics(build()).eval()
            network = quantize(model, inputs, Scheme("accurate"))
    except BitproofError as error:
        return Found(
            str(error).partition(" (layer_samples.py")[0].partition("(Attempted")[0].strip()
        )
    if network.tokens is None:
        assert torch.equal(network(inputs), network.differentiable(inputs))
    counts = Counter(node.op for node in network.nodes if node.op not in {"input", "quantize"})
    told = ", ".join(op if count == 1 else f"{count} {op}" for op, count in counts.items())
    assert network.fidelity is not None
    return Found(told or "none: it is the identity", network.fidelity.sqnr_db)


def _with_statistics(model: nn.Module) -> nn.Module:
    """Return the model with norms as they are after training."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean, module.running_var = torch.rand(4), torch.rand(4) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias)
    return model


HEAD = """# Supported layers

What becomes of each layer of `torch.nn` in an integer network of 8-bit weights (preset `accurate`),
alone or behind a small layer with weights, and how far its outputs then are from the float layer's,
in dB (40 dB is an error of 1 %). Both ways of running the integers agree bit for bit in each row.
Made by `tests/quant/layer_samples.py`, with torch {version}; a test compares. Functions:
[networks.md](networks.md).

| Layer | Operations of the integer network | dB |
|---|---|---|
"""


def page() -> str:
    """Return the page."""
    rows, refused = [], []
    for name in sorted(layers_of_torch(), key=str.lower):
        found = try_layer(name)
        if found.sqnr_db is None:
            refused.append(f"- `{name}`: {found.operations}")
        else:
            rows.append(f"| `{name}` | {found.operations} | {found.sqnr_db:.0f} |")
    head = HEAD.format(version=torch.__version__.partition("+")[0])
    tail = "\n## Refused\n\n" + "\n".join(refused)
    return head + "\n".join(rows) + f"\n{tail}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
