"""Swin-Tiny: sizes, names, windows and shifts, and its integers."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import ModelError, SpecError
from bitproof.core.rng import global_draws, make_generator
from bitproof.models import MODELS, SwinTiny
from bitproof.models.window_attention import (
    WindowAttention,
    cut_strips,
    mask_rolled,
    relative_positions,
)
from bitproof.quant import Grid, IntegerNetwork, Node, quantize, run_differentiable, run_integers

GOLDEN = Path(__file__).parents[1] / "golden" / "torchvision_state_dicts.json"


def sketch(spec: SwinTiny, *, image_size: int, n_classes: int = 1000) -> nn.Module:
    """Return the network without memory for its weights."""
    with torch.device("meta"):
        return spec.assemble(in_channels=3, image_size=image_size, n_classes=n_classes)


def attentions(model: nn.Module) -> list[WindowAttention]:
    return [layer for layer in model.modules() if isinstance(layer, WindowAttention)]


def test_size_is_the_published_one() -> None:
    model = sketch(SwinTiny(), image_size=224)
    assert sum(weight.numel() for weight in model.parameters()) == 28_288_354


def test_names_and_shapes_are_torchvisions() -> None:
    wanted = json.loads(GOLDEN.read_text())["swin_t"]
    model = sketch(SwinTiny(), image_size=224)
    ours = {
        name: list(value.shape)
        for name, value in model.state_dict().items()
        if not name.startswith("normalize.")
    }
    assert ours == wanted


@pytest.mark.parametrize(
    ("image_size", "sides", "windows", "shifts"),
    [
        (224, [56, 28, 14, 7], [7, 7, 7, 7], [3, 3, 3, 0]),
        (32, [16, 8, 4, 2], [4, 4, 4, 2], [2, 2, 0, 0]),
        (28, [14, 7, 4, 2], [4, 4, 4, 2], [2, 2, 0, 0]),
        (8, [4, 2, 1, 1], [4, 2, 1, 1], [0, 0, 0, 0]),
    ],
)
def test_windows_fit_their_maps(
    image_size: int, sides: list[int], windows: list[int], shifts: list[int]
) -> None:
    layers = attentions(sketch(SwinTiny(), image_size=image_size, n_classes=3))
    first, second = ([layers[place + odd] for place in (0, 2, 4, 10)] for odd in (0, 1))
    assert [layer.side for layer in first] == sides
    assert [layer.window for layer in first] == windows
    assert [layer.shift for layer in first] == [0, 0, 0, 0]
    assert [layer.shift for layer in second] == shifts


@pytest.mark.parametrize("image_size", [8, 28, 32])
def test_small_images_of_any_size_run(image_size: int) -> None:
    model = SwinTiny(width=6).build(
        in_channels=1, image_size=image_size, n_classes=3, generator=make_generator(0)
    )
    assert model(torch.rand(2, 1, image_size, image_size)).shape == (2, 3)


def test_patches_have_to_tile_the_image() -> None:
    with pytest.raises(ModelError, match=r"a multiple of the patch \(2 pixels\), got 31"):
        sketch(SwinTiny(), image_size=31)
    with pytest.raises(SpecError, match="width"):
        MODELS.build({"kind": "swin_tiny", "width": 32})


def test_a_window_knows_the_relative_position_of_each_pair() -> None:
    index = relative_positions(3).reshape(3, 3, 3, 3)
    for row, column, other_row, other_column in ((0, 0, 0, 0), (2, 1, 0, 2), (0, 2, 2, 0)):
        wanted = (row - other_row + 2) * 5 + column - other_column + 2
        assert int(index[row, column, other_row, other_column]) == wanted


def test_strips_tile_the_map_and_windows_tile_the_strips() -> None:
    for side, window, shift in ((8, 4, 2), (21, 7, 3), (6, 3, 1), (4, 2, 1)):
        strips = cut_strips(side, window, shift)
        rows = [row for start, stop, _ in strips for row in range(start, stop)]
        assert rows == list(range(side))
        assert all((stop - start) % size == 0 for start, stop, size in strips)


def test_only_whole_windows_in_the_middle_have_no_mask() -> None:
    mask = mask_rolled(12, 4, 2)
    assert mask.shape == (9, 1, 16, 16)
    masked = (mask != 0).flatten(1).sum(1).reshape(3, 3)
    assert masked.tolist() == [[0, 0, 128], [0, 0, 128], [128, 128, 192]]


@pytest.mark.parametrize(("side", "window", "shift"), [(8, 4, 2), (9, 3, 1), (7, 4, 2), (10, 7, 3)])
def test_strips_and_the_rolled_map_with_its_mask_agree(side: int, window: int, shift: int) -> None:
    with global_draws(0):
        layer = WindowAttention(8, 2, side=side, window=window, shift=shift)
        nn.init.normal_(layer.relative_position_bias_table)
        maps = torch.randn(2, side, side, 8)
    with torch.no_grad():
        # Sums in another order; exp(-100) is zero beside them.
        torch.testing.assert_close(layer.train()(maps), layer.eval()(maps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0, 2])
def test_tokens_see_their_window_and_nothing_else(shift: int) -> None:
    with global_draws(0):
        layer = WindowAttention(4, 1, side=8, window=4, shift=shift).eval()
    maps = torch.rand(1, 8, 8, 4, generator=make_generator(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(maps)[0, 3, 3].sum(), maps)
    seen = gradient[0].abs().sum(-1) > 0
    start = 2 if shift else 0
    assert seen[start : start + 4, start : start + 4].all()
    assert int(seen.sum()) == 16


@pytest.mark.slow
def test_integers_and_their_differentiable_form_agree_in_every_word() -> None:
    network, _, images = quantized()
    seen: dict[str, Tensor] = {}

    def keep(node: Node, words: Tensor, grid: Grid) -> Tensor:
        seen[node.name] = words.float() - grid.zero_point
        return words

    def compare(node: Node, centered: Tensor) -> None:
        assert node.name not in seen or torch.equal(centered, seen[node.name]), node.name

    logits = run_integers(network, images[:1], corrupt=keep)
    assert torch.equal(run_differentiable(network, images[:1], observe=compare), logits)
    assert len(seen) > 200
    leaf = images[:1].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network.differentiable(leaf).square().sum(), leaf)
    assert gradient.isfinite().all()
    assert bool(gradient.count_nonzero() > gradient.numel() / 2)


@pytest.mark.slow
def test_integers_are_near_the_floats_where_attention_is_sharp() -> None:
    network, model, images = quantized()
    with torch.no_grad():
        wanted = model(images)
    got = network(images)
    pair = torch.stack([(logits - wanted.mean(0)).flatten() for logits in (wanted, got)])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.95


@cache
def quantized() -> tuple[IntegerNetwork, nn.Module, Tensor]:
    """Return a narrow network with uneven attention, on integers and as floats, and images."""
    model = SwinTiny(width=12).build(
        in_channels=3, image_size=32, n_classes=4, generator=make_generator(0)
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("relative_position_bias_table"):
                weight.mul_(50)
            elif weight.ndim == 2:
                weight.mul_(8)
    images = torch.rand(16, 3, 32, 32, generator=make_generator(1))
    return quantize(model.eval(), images), model, images
