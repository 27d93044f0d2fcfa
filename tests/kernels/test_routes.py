"""Which way is taken for which table: rules that any rates must keep."""

import pytest
import torch

from bitproof.approx import Exact, LowerOr, Mitchell, Truncated, TruncatedOperands
from bitproof.kernels.forms import Planes, Terms, planes_of, terms_of
from bitproof.kernels.library import LEVELS
from bitproof.kernels.routes import DOT, PLANES, choose_route

EXACT = Exact().table().products


def terms(number: int, *, plus_exact: bool = False) -> Terms:
    factors = torch.ones(number, 256, dtype=torch.int32)
    return Terms(factors, factors, 1, plus_exact)


def planes(*, two: bool, plus_exact: bool = False) -> Planes:
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
    assert choose_route(None, planes(two=True), depth=16, level=None, dots=True) == "gather"
    assert choose_route(None, planes(two=True), depth=16, level="vbmi", dots=True) == "planes"


@pytest.mark.parametrize("dots", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_more_terms_are_never_preferred_where_fewer_are_not(level: str, dots: bool) -> None:
    chosen = [
        choose_route(terms(n), planes(two=True), depth=16, level=level, dots=dots)
        for n in range(1, 200)
    ]
    assert chosen == sorted(chosen, key=lambda route: route != "terms")
    assert chosen[0] == "terms"
    assert chosen[-1] != "terms"


def test_an_exact_product_beside_terms_counts_as_a_term() -> None:
    for number in range(1, 12):
        pair = [
            choose_route(one, planes(two=True), depth=16, level="vbmi", dots=True)
            for one in (terms(number, plus_exact=True), terms(number + 1))
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
