import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.models.blocks import (
    BasicBlock,
    PadShortcut,
    initialise_he_,
    make_stage,
    project_shortcut,
)


@settings(max_examples=20, deadline=None)
@given(quarter=st.integers(1, 4), side=st.integers(1, 9))
def test_the_free_shortcut_keeps_every_second_pixel_in_the_middle_channels(
    quarter: int, side: int
) -> None:
    width = 2 * quarter
    maps = torch.rand(2, width, side, side, generator=make_generator(0))
    out = PadShortcut(width, 2 * width)(maps)
    expected = torch.zeros(2, 2 * width, (side + 1) // 2, (side + 1) // 2)
    for i in range(0, side, 2):
        for j in range(0, side, 2):
            expected[:, quarter : quarter + width, i // 2, j // 2] = maps[:, :, i, j]
    assert torch.equal(out, expected)


def test_a_block_whose_branch_is_silent_returns_the_positive_part_of_its_input() -> None:
    block = BasicBlock(4, 4).eval()
    nn.init.zeros_(block.conv2.weight)
    maps = torch.randn(2, 4, 5, 5, generator=make_generator(0))
    assert torch.equal(block(maps), maps.clamp(min=0))


def test_a_stage_halves_the_maps_once_and_only_where_the_width_grows() -> None:
    maps = torch.zeros(1, 4, 7, 7)
    assert make_stage(4, 4, 3, shortcut=PadShortcut)(maps).shape == (1, 4, 7, 7)
    assert make_stage(4, 8, 3, shortcut=PadShortcut)(maps).shape == (1, 8, 4, 4)
    assert make_stage(4, 8, 3, shortcut=project_shortcut)(maps).shape == (1, 8, 4, 4)


def test_initial_convolutions_have_the_variance_of_he() -> None:
    layer = nn.Conv2d(64, 128, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        initialise_he_(layer)
    wanted = 2 / (64 * 9)
    # Five sigma of the variance of 73,728 normal draws.
    assert abs(layer.weight.var().item() / wanted - 1) < 5 * (2 / layer.weight.numel()) ** 0.5
