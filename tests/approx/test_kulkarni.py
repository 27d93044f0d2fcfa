import numpy as np
import torch

from bitproof.approx import Kulkarni, error_figures
from bitproof.approx.figures import relative_errors


def recursive(first: np.ndarray, second: np.ndarray, bits: int) -> np.ndarray:
    """Return products of four multipliers of half the width, down to the block's truth table."""
    if bits == 2:
        block: np.ndarray = np.array([[0, 0, 0, 0], [0, 1, 2, 3], [0, 2, 4, 6], [0, 3, 6, 7]])
        product: np.ndarray = block[first, second]
        return product
    half = bits // 2
    mask = (1 << half) - 1
    low = recursive(first & mask, second & mask, half)
    high = recursive(first >> half, second >> half, half)
    cross = recursive(first >> half, second & mask, half)
    cross = cross + recursive(first & mask, second >> half, half)
    whole: np.ndarray = (high << bits) + (cross << half) + low
    return whole


def test_blocks_in_blocks_say_the_same() -> None:
    first, second = np.indices((256, 256))
    products = Kulkarni().table().products.numpy()
    assert np.array_equal(products, recursive(first, second, 8))


def test_each_pair_of_threes_is_two_too_small() -> None:
    codes = torch.arange(256)
    threes = torch.stack([(codes >> 2 * place & 3 == 3).long() << 2 * place for place in range(4)])
    weight = threes.sum(0)
    assert torch.equal(Kulkarni().table().errors.long(), -2 * weight.outer(weight))


def test_the_block_has_the_published_error() -> None:
    # VLSI Design 2011: 22.22 % at worst, 1.39 % on average over the 16 pairs of the block.
    table = Kulkarni().table()
    errors = table.errors[:4, :4].abs().double() / table.exact[:4, :4].clamp(min=1).double()
    assert float(errors.max()) == 2 / 9
    assert float(errors.mean()) == 2 / 9 / 16


def test_wider_multipliers_stay_in_the_published_range() -> None:
    # Abstract: average errors from 1.39 % to 3.32 %, here over all pairs; the worst stays 2 / 9.
    table = Kulkarni().table()
    mean = 100 * error_figures(table).mred * 65025 / 65536
    assert 1.39 < mean < 3.32
    assert float(relative_errors(table).max()) == 2 / 9
