"""EfficientNet-B0 and -Lite0: sizes, names, stems, stochastic depth, and their integers."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import global_draws, make_generator
from bitproof.models import EfficientNetB0, EfficientNetLite0, ModelSpec
from bitproof.models.blocks import StochasticDepth
from bitproof.models.efficientnet import plan_stages
from bitproof.quant import Grid, IntegerNetwork, Node, quantize, run_differentiable, run_integers

GOLDEN = Path(__file__).parents[1] / "golden" / "torchvision_state_dicts.json"
BOTH = pytest.mark.parametrize(
    "spec", [EfficientNetB0(), EfficientNetLite0()], ids=lambda spec: spec.kind
)


def sketch(spec: ModelSpec, *, image_size: int = 224, n_classes: int = 1000) -> nn.Module:
    """Return the network without memory for its weights."""
    with torch.device("meta"):
        return spec.assemble(in_channels=3, image_size=image_size, n_classes=n_classes)


def shapes_of(model: nn.Module) -> dict[str, list[int]]:
    return {
        name: list(value.shape)
        for name, value in model.state_dict().items()
        if not name.startswith("normalize.")
    }


@pytest.mark.parametrize(
    ("spec", "published"), [(EfficientNetB0(), 5_288_548), (EfficientNetLite0(), 4_652_008)]
)
@pytest.mark.parametrize("image_size", [32, 224])
def test_sizes_are_the_published_ones(spec: ModelSpec, published: int, image_size: int) -> None:
    model = sketch(spec, image_size=image_size)
    assert sum(weight.numel() for weight in model.parameters()) == published


def test_names_and_shapes_of_b0_are_torchvisions() -> None:
    wanted = json.loads(GOLDEN.read_text())["efficientnet_b0"]
    ours = shapes_of(sketch(EfficientNetB0()))
    assert ours == wanted
    assert list(ours) == list(wanted)


def test_names_and_shapes_of_lite0_are_timms() -> None:
    ours = shapes_of(sketch(EfficientNetLite0()))
    assert len(ours) == 296
    assert ours["conv_stem.weight"] == [32, 3, 3, 3]
    assert ours["blocks.0.0.conv_dw.weight"] == [32, 1, 3, 3]
    assert ours["blocks.0.0.conv_pw.weight"] == [16, 32, 1, 1]
    assert ours["blocks.0.0.bn2.running_mean"] == [16]
    assert ours["blocks.2.1.conv_pw.weight"] == [240, 40, 1, 1]
    assert ours["blocks.2.1.conv_dw.weight"] == [240, 1, 5, 5]
    assert ours["blocks.2.1.conv_pwl.weight"] == [40, 240, 1, 1]
    assert ours["blocks.6.0.bn3.weight"] == [320]
    assert ours["conv_head.weight"] == [1280, 320, 1, 1]
    assert ours["bn2.bias"] == [1280]
    assert ours["classifier.weight"] == [1000, 1280]


@BOTH
@pytest.mark.parametrize(("image_size", "side"), [(28, 2), (32, 2), (64, 2), (224, 7)])
def test_small_images_keep_their_size_in_the_stem(
    spec: ModelSpec, image_size: int, side: int
) -> None:
    model = sketch(spec, image_size=image_size).eval()
    seen: list[torch.Size] = []
    for layer in model.modules():
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    model(torch.zeros(1, 3, image_size, image_size, device="meta"))
    assert seen[-1] == (1, 1280, side, side)


def test_blocks_become_likelier_to_drop_with_depth() -> None:
    drops = [block.drop for stage in plan_stages(0.32) for block in stage]
    assert drops == pytest.approx([0.02 * index for index in range(16)])


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean() -> None:
    layer = StochasticDepth(0.25)
    with global_draws(0):
        dropped = layer(torch.ones(4000, 2, 3, 1))
    assert sorted(set(dropped.flatten().tolist())) == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(dropped.amin((1, 2, 3)), dropped.amax((1, 2, 3)))
    # Five standard deviations of the mean of 4000 draws.
    assert float(dropped.mean()) == pytest.approx(1.0, abs=5 * (1 / 3 / 4000) ** 0.5)
    assert torch.equal(layer.eval()(dropped), dropped)


@BOTH
def test_stochastic_depth_and_dropout_draw_from_the_global_generator(spec: ModelSpec) -> None:
    model = spec.build(in_channels=3, image_size=32, n_classes=3, generator=make_generator(0))
    images = torch.rand(4, 3, 32, 32, generator=make_generator(1))
    outcomes = []
    with torch.no_grad():
        for seed in (0, 0, 1):
            with global_draws(seed):
                outcomes.append(model(images))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


@BOTH
def test_initial_weights_are_drawn_as_the_authors_do(spec: ModelSpec) -> None:
    model = spec.build(in_channels=3, image_size=32, n_classes=10, generator=make_generator(0))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 1000:
            fan_out = layer.kernel_size[0] ** 2 * layer.out_channels / layer.groups
            assert float(layer.weight.detach().std()) == pytest.approx(
                (2 / fan_out) ** 0.5, rel=0.1
            )
        if isinstance(layer, nn.Linear):
            assert 0.99 * 10**-0.5 < float(layer.weight.detach().abs().max()) <= 10**-0.5


@pytest.mark.slow
@BOTH
def test_integers_and_their_differentiable_form_agree_in_every_word(spec: ModelSpec) -> None:
    model = spec.build(in_channels=3, image_size=32, n_classes=4, generator=make_generator(0))
    images = torch.rand(4, 3, 32, 32, generator=make_generator(1))
    network = quantize(settled(model, images), images)
    assert_same_words(network, images[:1])
    leaf = images[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network.differentiable(leaf).square().sum(), leaf)
    assert gradient.isfinite().all()
    assert bool(gradient.count_nonzero() > gradient.numel() / 2)


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the model in evaluation mode, its norms fitted to `images`."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad(), global_draws(0):
        model.train()(images)
    return model.eval()


def assert_same_words(network: IntegerNetwork, images: Tensor) -> None:
    seen: dict[str, Tensor] = {}

    def keep(node: Node, words: Tensor, grid: Grid) -> Tensor:
        seen[node.name] = words.float() - grid.zero_point
        return words

    def compare(node: Node, centered: Tensor) -> None:
        assert node.name not in seen or torch.equal(centered, seen[node.name]), node.name

    logits = run_integers(network, images, corrupt=keep)
    assert torch.equal(run_differentiable(network, images, observe=compare), logits)
    assert len(seen) > 50
