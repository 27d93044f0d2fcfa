import pytest
import torch

from bitproof.approx import (
    MULTIPLIERS,
    BrokenArray,
    EvoApprox,
    Exact,
    Multiplier,
    Stored,
    Swapped,
    catalogue,
    same_products,
    short_name,
)


@pytest.mark.parametrize("signed", [False, True])
def test_no_two_entries_have_the_same_products(signed: bool) -> None:
    tables = [multiplier.table().products for multiplier in catalogue(signed=signed)]
    assert len({table.numpy().tobytes() for table in tables}) == len(tables)


def test_every_built_in_kind_is_listed() -> None:
    listed = {multiplier.kind for multiplier in catalogue(signed=False)}
    others = {"ariths_gen", "circuit", "evoapprox", "sign_magnitude", "swapped", "table"}
    assert set(MULTIPLIERS.kinds()) - listed == others


@pytest.mark.parametrize(
    ("multiplier", "name"),
    [
        (Exact(), "exact"),
        (Exact(signed=True), "exact:signed=true"),
        (BrokenArray(rows=0, columns=4), "broken_array:columns=4,rows=0"),
        (EvoApprox(name="mul8s_1L2H"), "mul8s_1L2H"),
        (Swapped(of=BrokenArray()), "swapped:broken_array:columns=4,rows=1"),
        (Stored(path="a.csv", signed=False), "table:path=a.csv,signed=false"),
    ],
)
def test_short_names_tell_what_is_set(multiplier: Multiplier, name: str) -> None:
    assert short_name(multiplier) == name


def test_the_same_products_are_found_either_way_round() -> None:
    broken = BrokenArray(rows=2, columns=5, signed=True)
    assert same_products(broken.table()) == [broken]
    assert same_products(broken.table().swapped()) == [Swapped(of=broken)]


def test_other_products_are_not_found() -> None:
    table = Exact().table()
    table.products[3, 3] = 10
    assert same_products(table) == []
    assert torch.equal(Exact().table().products[3, 3], torch.tensor(9, dtype=torch.int32))
