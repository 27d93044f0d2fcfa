import torch

from bitproof.approx import Exact, Perforated, ProductTable
from bitproof.kernels.forms import operand_values


def test_signed_rows_count_patterns_of_twos_complement() -> None:
    products = Exact(signed=True).table().products
    assert int(products[255, 128]) == 128
    assert int(products[254, 3]) == -6


def test_rows_are_the_first_operand() -> None:
    table = Perforated(rows=1).table()
    assert int(table.products[3, 2]) == 6
    assert int(table.products[2, 3]) == 4
    assert int(table.swapped().products[3, 2]) == 4


def test_errors_are_products_minus_exact_ones() -> None:
    products = Exact(signed=True).table().products.clone()
    products[255, 1] = 5
    table = ProductTable(products, signed=True)
    assert int(table.errors[255, 1]) == 6
    assert int(table.errors.count_nonzero()) == 1
    assert not table.commutes


def test_by_value_sorts_signed_operands() -> None:
    table = Exact(signed=True).table()
    values = operand_values(signed=True)
    order = values.argsort()
    assert torch.equal(table.by_value(table.products), table.products[order][:, order])
    unsigned = Exact().table()
    assert torch.equal(unsigned.by_value(unsigned.products), unsigned.products)
