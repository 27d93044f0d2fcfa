import time

import pytest
import torch
from jaxtyping import Int32
from torch import Tensor

from bitproof.approx import exact_rank
from bitproof.core.rng import make_generator
from bitproof.kernels.factors import Factors, factorise

Matrix = Int32[Tensor, "m n"]


def random_matrix(rank: int, *, scale: int = 1, trial: int = 0) -> Matrix:
    """Return a matrix whose factors fit 8 bits, though nobody sees which they are."""
    generator = make_generator(0, "factors", rank, trial)
    first = torch.randint(-40, 216, (rank, 256), generator=generator)
    second = torch.randint(-128, 128, (rank, 256), generator=generator)
    return (scale * (first.T @ second)).int()


def check(factors: Factors | None, matrix: Matrix) -> Factors:
    """Return the factors, which fit 8 bits and give the matrix."""
    assert factors is not None
    assert torch.equal(factors.product(), matrix)
    assert factors.scale > 0
    if len(factors.first):
        assert int((factors.first.amax(1) - factors.first.amin(1)).max()) <= 255
        assert int(factors.second.min()) >= -128
        assert int(factors.second.max()) <= 127
    return factors


@pytest.mark.parametrize("rank", range(9))
def test_factors_of_random_matrices_give_them_again(rank: int) -> None:
    matrix = random_matrix(rank, scale=12)
    factors = check(factorise(matrix, most=8), matrix)
    assert len(factors.first) == rank == exact_rank(matrix)
    assert factors.scale % 12 == 0 or not rank


def test_a_matrix_of_higher_rank_has_no_factors() -> None:
    assert factorise(random_matrix(4), most=3) is None
    assert factorise(torch.eye(256, dtype=torch.int32), most=8) is None


def test_zeros_have_no_terms() -> None:
    zeros = torch.zeros(256, 256, dtype=torch.int32)
    assert check(factorise(zeros, most=0), zeros).first.shape == (0, 256)


@pytest.mark.parametrize("place", [(0, 0), (17, 200), (255, 255)])
def test_one_changed_entry_is_seen(place: tuple[int, int]) -> None:
    matrix = random_matrix(2)
    before = check(factorise(matrix, most=3), matrix)
    matrix[place] += 1
    after = check(factorise(matrix, most=3), matrix)
    assert (len(before.first), len(after.first)) == (2, 3)
    assert factorise(matrix, most=2) is None


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("low", "high"), [(-128, 127), (-127, 128), (0, 127), (-16, 15)])
def test_a_rank_of_one_takes_one_term_either_way_round(low: int, high: int, turned: bool) -> None:
    full = torch.arange(-128, 128, dtype=torch.int32)
    matrix = 6 * full.outer(full.clamp(low, high - 1) + (full == 127).int())
    matrix = matrix.T.contiguous() if turned else matrix
    factors = check(factorise(matrix, most=1), matrix)
    assert factors.scale == 6


def test_divisors_move_to_the_side_that_has_room() -> None:
    one, other = torch.eye(2, 256, dtype=torch.int32)
    full = torch.arange(-128, 128, dtype=torch.int32)
    # The second term has a divisor of 100 more, which only its first factor can take.
    matrix = 3 * full.outer(one) + 300 * one.outer(full * (1 - one) - other)
    factors = check(factorise(matrix, most=2), matrix)
    assert factors.scale == 3


def test_a_factor_that_is_too_wide_costs_another_term() -> None:
    operand = torch.arange(256, dtype=torch.int32)
    assert factorise(operand.outer(operand), most=1) is None
    factors = check(factorise(operand.outer(operand), most=2), operand.outer(operand))
    assert len(factors.first) == 2
    narrow, wide = operand % 3, 50 * operand + 1
    for matrix in (narrow.outer(wide), wide.outer(narrow), (-narrow).outer(wide)):
        assert len(check(factorise(matrix, most=3), matrix).first) == 2


def test_factors_of_ten_thousands_are_not_found_rather_than_wrong() -> None:
    generator = make_generator(0, "wide factors")
    left = torch.randint(-(2**14), 2**14, (4, 256), generator=generator)
    right = torch.randint(-(2**14), 2**14, (4, 256), generator=generator)
    assert factorise((left.T @ right).int(), most=8) is None


def test_a_matrix_need_not_be_square() -> None:
    matrix = random_matrix(3)[:5, :40].contiguous()
    assert check(factorise(matrix, most=3), matrix).second.shape == (3, 40)


def test_eight_terms_take_less_than_a_second() -> None:
    matrix = random_matrix(8, trial=1)
    started = time.process_time()
    assert factorise(matrix, most=8) is not None
    assert time.process_time() - started < 1
