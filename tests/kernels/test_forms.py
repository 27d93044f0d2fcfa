from functools import cache
from pathlib import Path

import pytest
import torch

from bitproof.approx import (
    Exact,
    Kulkarni,
    LowerOr,
    Mitchell,
    Perforated,
    ProductTable,
    Roba,
    Truncated,
    TruncatedOperands,
    catalogue,
    library_path,
    read_circuits,
    read_tables,
)
from bitproof.approx.base import sign_magnitude
from bitproof.core.rng import make_generator
from bitproof.kernels.forms import DOT, PLANES, Planes, Terms, choose_route, planes_of, terms_of
from bitproof.kernels.library import LEVELS

EXACT = Exact().table().products
LIBRARY = {0: 1, 1: 8, 2: 2, 3: 4, 4: 8, 5: 5, 6: 0}
"""How many of the 64 tables of EvoApproxLib take so many multiplications; E9R is all zeros."""


@cache
def library(data_dir: Path) -> dict[str, ProductTable]:
    """Return the 64 tables of EvoApproxLib, by the name of the array."""
    path = library_path(data_dir)
    circuits = list({circuit.key: circuit for circuit in read_circuits(path)}.values())
    keys = [circuit.key for circuit in circuits]
    return dict(zip(keys, read_tables(path, circuits), strict=True))


def wrapped(table: ProductTable) -> ProductTable:
    """Return the signed table that an unsigned circuit makes of magnitudes."""
    operands = ProductTable(table.products, signed=True).operands.long()
    first, second = torch.meshgrid(operands, operands, indexing="ij")
    products = sign_magnitude(lambda left, right: table.products.long()[left, right], first, second)
    return ProductTable(products.int(), signed=True)


def check_terms(terms: Terms | None, table: ProductTable) -> None:
    """Assert that terms fit 8 bits and give the table."""
    if terms is None:
        return
    assert terms.multiplications <= 6
    operands = table.operands.long()
    sums = terms.scale * torch.einsum("ra,rw->aw", terms.first.long(), terms.second.long())
    exact = operands.outer(operands) if terms.plus_exact else torch.zeros_like(sums)
    assert torch.equal(sums + exact, table.products.long())
    assert torch.equal(terms.table(signed=table.signed), table.products)
    for first, second in zip(terms.first, terms.second, strict=True):
        assert int(first.max() - first.min()) <= 255
        assert int(second.min()) >= -128
        assert int(second.max()) <= 127


def check_planes(planes: Planes | None, table: ProductTable) -> None:
    """Assert that planes give the table, the weight being their row."""
    assert planes is not None
    weights = torch.tensor([1, 256])[: planes.stacked.shape[1], None]
    words = (planes.stacked.long() * weights).sum(1)
    operands = table.operands.long()
    exact = operands.outer(operands) if planes.plus_exact else torch.zeros_like(words)
    assert torch.equal(exact + planes.start + words.T, table.products.long())
    assert torch.equal(planes.table(signed=table.signed), table.products)
    assert planes.stacked.is_contiguous()


def check(table: ProductTable) -> Terms | None:
    """Return the terms of the table, after all its forms are compared with it."""
    terms = terms_of(table.products, signed=table.signed)
    check_terms(terms, table)
    check_planes(planes_of(table.products, signed=table.signed), table)
    return terms


@pytest.mark.slow
def test_all_circuits_of_the_library_have_their_forms(data_dir: Path) -> None:
    tables = library(data_dir)
    assert len(tables) == 64
    terms = [check(table) for table in tables.values()]
    counts = [each.multiplications for each in terms if each is not None]
    assert {number: counts.count(number) for number in LIBRARY} == LIBRARY
    planes = [planes_of(table.products, signed=table.signed) for table in tables.values()]
    assert sum(each is not None and each.stacked.shape[1] == 1 for each in planes) == 27


def test_every_signed_circuit_of_the_library_takes_at_most_five(data_dir: Path) -> None:
    # KERNELS.md, section 3.1: all 13 take at most 5 multiplications, 7 of them one.
    signed = [table for table in library(data_dir).values() if table.signed]
    terms = [terms_of(table.products, signed=True) for table in signed]
    counts = [each.multiplications for each in terms if each is not None]
    assert len(counts) == 13
    assert max(counts) == 5
    assert counts.count(1) == 7


@pytest.mark.slow
def test_unsigned_circuits_on_magnitudes_have_their_forms(data_dir: Path) -> None:
    unsigned = {key: table for key, table in library(data_dir).items() if not table.signed}
    terms = {key: check(wrapped(table)) for key, table in unsigned.items()}
    short = {key: each.multiplications for key, each in terms.items() if each is not None}
    assert len(short) == 18
    assert {short[key] for key in ("mul8u_1446", "mul8u_Y48")} == {2}
    assert short["mul8u_JQQ"] == short["mul8u_27Y"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("signed", [False, True])
def test_the_built_in_multipliers_have_their_forms(signed: bool) -> None:
    terms = [check(multiplier.table()) for multiplier in catalogue(signed=signed)]
    assert sum(each is not None for each in terms) == 34


@pytest.mark.parametrize("signed", [False, True])
def test_an_exact_table_has_no_terms_of_its_own(signed: bool) -> None:
    terms = terms_of(Exact(signed=signed).table().products, signed=signed)
    assert terms is not None
    assert terms.plus_exact
    assert terms.first.shape == terms.second.shape == (0, 256)
    assert terms.multiplications == 1


def test_known_multipliers_take_what_their_formula_says() -> None:
    operands = terms_of(TruncatedOperands(bits=2, signed=True).table().products, signed=True)
    assert operands is not None
    assert (operands.scale, operands.plus_exact, len(operands.first)) == (16, False, 1)
    kulkarni = terms_of(Kulkarni().table().products, signed=False)
    assert kulkarni is not None
    assert (kulkarni.scale, kulkarni.plus_exact, len(kulkarni.first)) == (2, True, 1)
    assert terms_of(Mitchell().table().products, signed=False) is None


def test_forms_without_an_exact_product_are_taken_on_a_tie() -> None:
    # Either an exact product and one term, or two terms.
    terms = terms_of(Roba(signed=True).table().products, signed=True)
    assert terms is not None
    assert (terms.multiplications, terms.plus_exact) == (2, False)


def test_too_many_multiplications_are_none() -> None:
    table = Kulkarni().table().products
    for most in (0, 1):
        assert terms_of(table, signed=False, most=most) is None
    assert terms_of(table, signed=False, most=2) is not None


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("signed", [False, True])
def test_random_tables_of_low_rank_have_terms(rank: int, signed: bool) -> None:
    generator = make_generator(0, "forms", rank)
    first = torch.randint(-100, 100, (rank, 256), generator=generator)
    second = torch.randint(-100, 100, (rank, 256), generator=generator)
    sums = (first.T @ second).int()
    check_terms(terms := terms_of(sums, signed=signed), ProductTable(sums, signed))
    assert terms is not None
    assert terms.multiplications == rank
    assert terms_of(sums, signed=signed, most=rank - 1) is None


def test_a_table_with_one_other_entry_has_other_forms() -> None:
    table = Perforated(rows=3, signed=True).table()
    check(table)
    table.products[200, 100] += 1
    terms = check(table)
    assert terms is not None
    assert terms.multiplications == 2


def test_forms_are_remembered_by_content_and_sign() -> None:
    table = Perforated(rows=2).table()
    forms = [terms_of(table.products.clone(), signed=False) for _ in range(2)]
    assert forms[0] is forms[1]
    assert planes_of(table.products, signed=False) is planes_of(table.products, signed=False)
    check_terms(terms_of(table.products, signed=True), ProductTable(table.products, signed=True))
    assert terms_of(table.products, signed=True) is not forms[0]


def test_a_plane_of_errors_is_preferred_to_two_of_products() -> None:
    table = Exact().table()
    table.products[:, 3] += torch.arange(256, dtype=torch.int32) - 400
    planes = planes_of(table.products, signed=False)
    check_planes(planes, table)
    assert planes is not None
    assert (planes.stacked.shape[1], planes.plus_exact, int(planes.start[3])) == (1, True, -400)
    assert planes.stacked[3, 0].tolist() == list(range(256))


def test_one_plane_of_products_is_enough_for_bytes() -> None:
    generator = make_generator(0, "bytes")
    table = ProductTable(torch.randint(-128, 128, (256, 256), generator=generator).int(), True)
    planes = planes_of(table.products, signed=True)
    check_planes(planes, table)
    assert planes is not None
    assert (planes.stacked.shape[1], planes.plus_exact) == (1, False)


def test_columns_that_span_more_than_two_bytes_have_no_planes() -> None:
    products = torch.zeros(256, 256, dtype=torch.int32)
    products[0, 0] = -(2**15)
    products[9, 0] = 2**15 - 1
    check_planes(planes_of(products, signed=True), ProductTable(products, signed=True))
    products[9, 0] += 1
    assert planes_of(products, signed=True) is None


def some_terms(number: int, *, plus_exact: bool = False) -> Terms:
    factors = torch.ones(number, 256, dtype=torch.int32)
    return Terms(factors, factors, 1, plus_exact)


def some_planes(*, two: bool, plus_exact: bool = False) -> Planes:
    side, start = torch.zeros(256, 256, dtype=torch.uint8), torch.zeros(256, dtype=torch.int32)
    return Planes(torch.stack([side] * (1 + two), 1), start, plus_exact)


def test_rates_are_known_at_every_level() -> None:
    assert set(PLANES) == set(LEVELS)
    assert all(one >= two > 0 for one, two in PLANES.values())
    assert DOT[True] > DOT[False]


@pytest.mark.parametrize("level", [None, *LEVELS])
@pytest.mark.parametrize("dots", [False, True])
def test_an_exact_table_is_multiplied(dots: bool, level: str | None) -> None:
    form = terms_of(EXACT, signed=False), planes_of(EXACT, signed=False)
    assert choose_route(*form, depth=16, level=level, dots=dots) == "terms"


def test_without_a_form_products_are_looked_up_by_torch() -> None:
    for level in (None, *LEVELS):
        assert choose_route(None, None, depth=16, level=level, dots=True) == "gather"


def test_planes_need_a_compiled_library() -> None:
    assert choose_route(None, some_planes(two=True), depth=16, level=None, dots=True) == "gather"
    assert choose_route(None, some_planes(two=True), depth=16, level="vbmi", dots=True) == "planes"


@pytest.mark.parametrize("dots", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_more_terms_are_never_preferred_where_fewer_are_not(level: str, dots: bool) -> None:
    chosen = [
        choose_route(some_terms(n), some_planes(two=True), depth=16, level=level, dots=dots)
        for n in range(1, 200)
    ]
    assert chosen == sorted(chosen, key=lambda route: route != "terms")
    assert chosen[0] == "terms"
    assert chosen[-1] != "terms"


def test_an_exact_product_beside_terms_counts_as_a_term() -> None:
    for number in range(1, 12):
        pair = [
            choose_route(one, some_planes(two=True), depth=16, level="vbmi", dots=True)
            for one in (some_terms(number, plus_exact=True), some_terms(number + 1))
        ]
        assert pair[0] == pair[1]


def test_no_terms_at_all_cost_no_less_than_one() -> None:
    nothing = terms_of(torch.zeros(256, 256, dtype=torch.int32), signed=False)
    assert nothing is not None
    assert nothing.multiplications == 0
    assert choose_route(nothing, None, depth=1, level=None, dots=False) == "terms"


def test_tables_of_the_catalogue_take_the_ways_they_were_made_for() -> None:
    ways = {}
    for multiplier in (TruncatedOperands(bits=2), Truncated(columns=3), Mitchell(), LowerOr()):
        table = multiplier.table().products
        form = terms_of(table, signed=False), planes_of(table, signed=False)
        ways[multiplier.kind] = choose_route(*form, depth=64, level="vbmi", dots=True)
    assert ways["truncated_operands"] == ways["truncated"] == "terms"
    assert ways["mitchell"] == "planes"
