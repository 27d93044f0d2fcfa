import pytest
import torch

from bitproof.approx import (
    Exact,
    Perforated,
    ProductTable,
    Truncated,
    TruncatedOperands,
    error_figures,
    exact_rank,
    zero_operand_errors,
)
from bitproof.core.rng import make_generator


def by_hand(table: ProductTable) -> dict[str, float]:
    """Return the figures by loops over all pairs, in exact integers where that is possible."""
    products = table.products.tolist()
    values = [n - 256 if table.signed and n > 127 else n for n in range(256)]
    distances, squares, errors, wrong, worst = 0, 0, 0, 0, 0
    relative = []
    for i, x in enumerate(values):
        for j, y in enumerate(values):
            error = products[i][j] - x * y
            distances, squares, errors = distances + abs(error), squares + error**2, errors + error
            wrong, worst = wrong + (error != 0), max(worst, abs(error))
            if x * y:
                relative.append(abs(error) / abs(x * y))
    largest = 128**2 if table.signed else 255**2
    return {
        "med": distances / 65536,
        "nmed": distances / 65536 / largest,
        "mred": sum(relative) / 65025,
        "wce": worst,
        "wcre": max(relative),
        "ep": wrong / 65536,
        "mse": squares / 65536,
        "bias": errors / 65536,
    }


@pytest.mark.parametrize(
    "table",
    [
        Truncated(columns=6).table(),
        Perforated(rows=3, signed=True).table(),
        ProductTable(torch.full((256, 256), 7, dtype=torch.int32), signed=True),
    ],
)
def test_loops_say_the_same(table: ProductTable) -> None:
    figures, expected = error_figures(table), by_hand(table)
    for name, value in expected.items():
        # The two sums of quotients differ in their last digits.
        assert getattr(figures, name) == pytest.approx(value, rel=1e-12 if name == "mred" else 0)


def test_an_exact_multiplier_has_no_errors() -> None:
    figures = error_figures(Exact(signed=True).table())
    assert set(vars(figures).values()) == {0}


def test_percentages_of_the_library_are_of_2_to_the_16() -> None:
    figures = error_figures(Truncated(columns=7).table())
    assert figures.wce_of_range == 769 / 65536
    assert figures.med_of_range == 192.25 / 65536


def test_products_with_zero_are_counted() -> None:
    products = Exact().table().products.clone()
    products[0, 3] = products[4, 0] = products[0, 0] = 1
    assert zero_operand_errors(ProductTable(products, signed=False)) == 3


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
