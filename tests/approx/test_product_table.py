import torch

from bitproof.approx import Exact, Perforated, ProductTable
from bitproof.approx.product_table import operand_values


def test_signed_rows_count_patterns_of_twos_complement() -> None:
    table = Exact(signed=True).table()
    codes = torch.arange(-128, 128).to(torch.int8)
    first, second = torch.meshgrid(codes, codes, indexing="ij")
    assert torch.equal(table.look_up(first, second), first.int() * second.int())
    assert int(table.products[255, 128]) == 128


def test_unsigned_words_are_looked_up() -> None:
    codes = torch.arange(256).to(torch.uint8)
    first, second = torch.meshgrid(codes, codes, indexing="ij")
    products = Exact().table().look_up(first, second)
    assert torch.equal(products, first.int() * second.int())


def test_rows_are_the_first_operand() -> None:
    table = Perforated(rows=1).table()
    three, two = torch.tensor(3, dtype=torch.uint8), torch.tensor(2, dtype=torch.uint8)
    assert int(table.look_up(three, two)) == 6
    assert int(table.look_up(two, three)) == 4
    assert int(table.swapped().look_up(three, two)) == 4


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
