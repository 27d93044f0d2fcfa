"""Networks that the C library computes in one call give the words of every other way."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitproof.approx import Multiplier, Perforated, Truncated, with_multipliers
from bitproof.core.rng import make_generator
from bitproof.kernels import plan
from bitproof.kernels.library import find_library, levels, library, why_absent
from bitproof.models import MODELS, ImageModelSpec
from bitproof.quant import (
    AffineQuantizer,
    IntegerNetwork,
    Scheme,
    lowering,
    product_layer,
    product_parts,
    quantize,
    run_integers,
)
from bitproof.quant.graph import Node
from bitproof.quant.image_axis import MixedImagesError, follow_images
from bitproof.quant.operations import MAC_OPS
from bitproof.quant.products import Products

pytestmark = pytest.mark.skipif(
    library() is None or levels() == ("portable",), reason=why_absent() or "no vector instructions"
)


def random_images(n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=make_generator(0, "images", n))


class Blocks(nn.Module):
    """Most of what has jobs, on maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.deep = nn.Conv2d(24, 24, 5, padding=2, groups=24)
        self.wide = nn.Conv2d(24, 40, 1)
        self.groups = nn.Conv2d(40, 40, 3, padding=1, groups=4)
        self.squeeze = nn.Linear(40, 8)
        self.excite = nn.Linear(8, 40)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.deep(functional.relu(self.stem(x))))
        x = functional.max_pool2d(x, 3, 2, 1)
        y = functional.relu6(self.wide(functional.pad(x, (1, 0, 0, 1))))
        y = functional.avg_pool2d(y, 2, 2, 1)
        gate = torch.sigmoid(self.excite(functional.silu(self.squeeze(y.mean((2, 3))))))
        y = self.groups(y * gate[:, :, None, None]) - y
        x = functional.pad(x[:, :, ::2, ::2], (0, 1, 0, 1))
        both = torch.cat([functional.max_pool2d(y, 2, ceil_mode=True), x[:, :, ::2, ::2]], 1)
        logits: Tensor = self.head(both.flatten(2).mean(-1))
        return logits


class Attention(nn.Module):
    """The same on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.place = nn.Parameter(torch.zeros(9, 24))
        self.norm, self.qkv, self.out = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        qkv = self.qkv(self.norm(x)).reshape(x.shape[0], 9, 3, 2, 12)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape[0], 9, 24))
        logits: Tensor = self.head(functional.gelu(x[:, 0]))
        return logits


def network_of(
    model: nn.Module, shape: tuple[int, ...], scheme: Scheme | None = None
) -> IntegerNetwork:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return quantize(model.eval(), random_images(8, *shape), scheme or Scheme())


NETWORKS = {
    "blocks": (Blocks, (3, 12, 12)),
    "attention": (Attention, (3, 12, 12)),
    "rows": (lambda: nn.Sequential(nn.Linear(30, 50), nn.Tanh(), nn.Linear(50, 3)), (30,)),
    "scaled": (
        lambda: nn.Sequential(
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Conv2d(3, 20, 3),
            nn.ReLU(),
            nn.BatchNorm2d(20),
            nn.Flatten(),
            nn.BatchNorm1d(2000),
            nn.Linear(2000, 4),
        ),
        (3, 12, 12),
    ),
    "signals": (
        lambda: nn.Sequential(nn.Conv1d(2, 8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)),
        (2, 20),
    ),
}


LEVELS = [
    pytest.param(one, marks=pytest.mark.slow if number else ())
    for number, one in enumerate(one for one in reversed(levels()) if one != "portable")
]
"""The fastest always, others in the slow run."""


@pytest.mark.parametrize("scheme", ["plain", "accurate"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_floats(
    name: str, level: str, scheme: str, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    """On all images at once, whatever the number of them and of threads."""
    make, shape = NETWORKS[name]
    network = network_of(make(), shape, Scheme(scheme) if scheme == "accurate" else None)
    monkeypatch.setattr(lowering, "library", lambda: find_library(level)[0])
    images = random_images(37, *shape)
    expected = run_integers(network, images, native=False)
    found = lowering.lowered(network, images)
    assert found is not None
    assert found.stop == len(network.nodes)
    monkeypatch.setattr(plan, "MOST_INPUTS", 8)
    monkeypatch.setattr(plan, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(plan, "WORTH_SHARING", 1)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        for n in (1, 2, 3, 20, 37):
            assert torch.equal(network(images[:n]), expected[:n])
    assert torch.equal(network(images.flip(0)), expected.flip(0))


@pytest.mark.parametrize(
    "kind", ["alexnet", "efficientnet_lite0", "lenet5", "mobilenet_v2", "resnet20", "vgg11"]
)
def test_built_in_networks_are_lowered_whole(kind: str) -> None:
    spec = MODELS.build(kind)
    assert isinstance(spec, ImageModelSpec)
    model = spec.build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))
    images = random_images(3, 3, 32, 32)
    network = quantize(model.eval(), images, Scheme("accurate"))
    found = lowering.lowered(network, images)
    assert found is not None
    assert found.stop == len(network.nodes)
    assert torch.equal(network(images), run_integers(network, images, native=False))


def test_images_that_depend_on_each_other_stay_together() -> None:
    """No model can be quantized that mixes them, but a file can hold such a network."""
    images = random_images(40, 6)
    network = quantize(nn.Sequential(nn.Linear(6, 6), nn.ReLU()), images)
    ends = network.grids["0"]
    nodes = (
        *network.nodes,
        Node("mean", "mean", ("0",), {"dims": [0], "keepdim": True}),
        Node("away", "sub", ("0", "mean")),
    )
    mixed = replace(network, nodes=nodes, grids={**network.grids, "mean": ends, "away": ends})
    found = lowering.lowered(mixed, images)
    assert found is not None
    assert mixed.nodes[found.stop - 1].name == "0"
    answers = mixed(images)
    assert torch.equal(answers, run_integers(mixed, images, native=False))
    assert not torch.equal(answers[:8], mixed(images[:8]))


def test_where_images_are_is_followed() -> None:
    """Through a shape that has them first again, but in another order."""
    two, three = torch.Size([3, 2, 4]), torch.Size([3, 3, 4])
    ends = torch.Size([2, 3, 4]), torch.Size([3, 3, 4])
    turned = Node("y", "permute", ("x",), {"dims": [1, 0, 2]})
    assert follow_images(turned, [((two, three), 1)], ends) == 0
    cut = Node("y", "reshape", ("x",), {"shape": [["batch", 1], 3, 4]})
    with pytest.raises(MixedImagesError):
        follow_images(cut, [((two, three), 1)], ends)
    some = Node("y", "slice", ("x",), {"index": [[-3, None, None]]})
    sizes = torch.Size([2, 5]), torch.Size([3, 5])
    with pytest.raises(MixedImagesError):
        follow_images(some, [(sizes, 0)], sizes)
    assert follow_images(Node("c", "constant"), [], (two, two)) is None


def test_the_rest_is_executed_node_by_node() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(800, 4)
    )
    images = random_images(9, 3, 12, 12)
    network = quantize(model, images)
    found = lowering.lowered(network, images)
    assert found is not None
    assert network.nodes[found.stop].op == "group_norm"
    assert torch.equal(network(images), run_integers(network, images, native=False))


@pytest.mark.parametrize(
    "multiplier", [Perforated(rows=2, signed=True), Truncated(columns=4, signed=True)]
)
@pytest.mark.parametrize("level", [one for one in levels() if one != "portable"])
def test_multipliers_with_a_short_form_have_jobs(
    level: str, multiplier: Multiplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images(9, 3, 12, 12)
    exact = network_of(Blocks(), (3, 12, 12), Scheme("accurate"))
    names = [node.name for node in exact.nodes if node.op in MAC_OPS]
    network = with_multipliers(exact, dict.fromkeys(names, multiplier))
    with monkeypatch.context() as patch:
        for module in (product_layer, product_parts, lowering):
            patch.setattr(module, "library", lambda: None)
        expected = replace(network)(images)
    assert not torch.equal(expected, exact(images))
    monkeypatch.setattr(lowering, "library", lambda: find_library(level)[0])
    assert torch.equal(network(images), expected)
    by_node = run_integers(network, images, corrupt=lambda _, codes, __: codes)
    assert torch.equal(by_node, expected)


@pytest.mark.parametrize("rank", [1, 2])
def test_layers_with_a_short_form_are_lowered(rank: int) -> None:
    images = random_images(9, 32, 12, 12)
    layers = nn.Conv2d(32, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 8, 3, stride=2)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(200, 4))
    symmetric = AffineQuantizer(symmetric=True, signed=True)
    exact = quantize(model, images, Scheme(weight=symmetric))
    words = torch.arange(256, dtype=torch.uint8).view(torch.int8).int().view(-1, 1)
    table = (words // 2) * (words.T // 4) * 8 + (rank - 1) * (words % 8) * (words.T % 4)
    products = {
        node.name: Products.of(
            table.int(), signed=True, filters=len(exact.tensors[f"{node.name}.weight"].codes)
        )
        for node in exact.nodes
        if node.op in MAC_OPS
    }
    network = exact.with_products(products)
    found = lowering.lowered(network, images)
    assert found is not None
    assert found.stop == len(network.nodes)
    by_node = run_integers(network, images, corrupt=lambda _, codes, __: codes)
    assert torch.equal(network(images), by_node)
    assert not torch.equal(by_node, exact(images))


def test_networks_are_let_go() -> None:
    network = network_of(Blocks(), (3, 12, 12))
    network(random_images(2, 3, 12, 12))
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None


def test_copies_and_changed_networks_have_plans_of_their_own() -> None:
    images, network = random_images(5, 3, 12, 12), network_of(Blocks(), (3, 12, 12))
    expected = network(images)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(twin(images), expected)
    codes = network.tensors["head.weight"].codes
    changed = network.with_codes({"head.weight": codes ^ 64})
    assert not torch.equal(changed(images), expected)
    assert torch.equal(changed(images), run_integers(changed, images, native=False))
    assert torch.equal(network(images), expected)


def test_callers_may_be_threads_themselves() -> None:
    images, network = random_images(12, 3, 12, 12), network_of(Blocks(), (3, 12, 12))
    expected = run_integers(network, images, native=False)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: network(images), range(24)))
    assert all(torch.equal(one, expected) for one in answers)


def test_inputs_may_lie_in_any_order() -> None:
    images, network = random_images(6, 3, 12, 12), network_of(Blocks(), (3, 12, 12))
    expected = network(images)
    assert torch.equal(network(images.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(network(images.flip(3).flip(3)), expected)
    every_second = random_images(12, 3, 12, 12)
    every_second[::2] = images
    assert torch.equal(network(every_second[::2]), expected)
    assert torch.equal(network(images.double()), expected)


class Heads(nn.Module):
    """Tokens of which some are cut off, so that outputs of several images have gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).transpose(1, 2)[:, :6, :, None].transpose(1, 2)
        return functional.scaled_dot_product_attention(
            tokens, tokens[:, :2], tokens[:, :2], enable_gqa=True
        )


def test_words_with_gaps_between_images_come_out_the_same_for_any_number() -> None:
    network = network_of(Heads(), (3, 8, 8))
    images = random_images(7, 3, 8, 8)
    found = lowering.lowered(network, images)
    assert found is None or found.stop < len(network.nodes)
    expected = run_integers(network, images, native=False)
    for n in range(1, 8):
        assert torch.equal(network(images[:n]), expected[:n])
