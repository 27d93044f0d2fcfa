import pytest
import torch

from bitproof.approx import Exact, Perforated, Truncated, TruncatedOperands, exact_rank
from bitproof.core.rng import make_generator


@pytest.mark.parametrize("rank", [0, 1, 3, 17])
def test_a_sum_of_products_has_its_rank(rank: int) -> None:
    generator = make_generator(0, "rank", rank)
    left = torch.randint(-100, 100, (256, rank), generator=generator)
    right = torch.randint(-100, 100, (rank, 256), generator=generator)
    assert exact_rank(left @ right) == rank


def test_a_matrix_may_be_narrow() -> None:
    assert exact_rank(torch.tensor([[0, 2], [0, 4], [3, 0]])) == 2
    assert exact_rank(torch.tensor([[1, 2, 3], [2, 4, 6]])) == 1


def test_floats_say_the_same() -> None:
    errors = Truncated(columns=6).table().errors
    assert exact_rank(errors) == int(torch.linalg.matrix_rank(errors.double()))


def test_multipliers_that_change_operands_alone_have_rank_one() -> None:
    for multiplier in (Exact(), Perforated(rows=3), TruncatedOperands(bits=2, signed=True)):
        assert exact_rank(multiplier.table().products) == 1
