"""AdAM's products, against single pairs worked out by hand-written steps, and METHODS' figures."""

import pytest
import torch

from bitproof.approx import MULTIPLIERS, Adam, TruncatedMitchell, error_figures
from bitproof.approx.base import operand_pairs
from bitproof.core.errors import SpecError


def slow(a: int, b: int, one: Adam) -> int:
    """Return one product, step by step as METHODS C.2 writes it."""
    if a == 0 or b == 0:
        return 0
    t, place = one.mantissa, max(a.bit_length(), b.bit_length()) - 1
    idle = t - min(t, place)
    checked = one.circuit.checks[place]
    dropped = max(0, checked - idle) if one.drop else 0
    total, lost = 0, idle + dropped if one.drop and checked > idle else 0
    for number in (a, b):
        k = number.bit_length() - 1
        mantissa = ((number << (one.width - 1 - k)) & ((1 << (one.width - 1)) - 1)) >> (
            one.width - 1 - t
        )
        total += (k << t) + (mantissa >> lost << lost)
    low = lost if one.drop and checked > idle else (checked if one.drop else 0)
    if one.compensate and place > t - (checked if one.drop else 0):
        total += 1 << low
    return (((1 << t) + (total & ((1 << t) - 1))) << (total >> t)) >> t


@pytest.mark.parametrize(
    "one",
    [
        Adam(),
        Adam(drop=False),
        Adam(compensate=True),
        Adam(mantissa=7, checked=(0, 1, 2, 3, 3, 3, 2, 1)),
        Adam(width=12, mantissa=6, compensate=True),
    ],
)
def test_products_are_those_of_the_steps(one: Adam) -> None:
    draw = torch.Generator().manual_seed(1)
    first = torch.randint(1 << one.width, (3000,), generator=draw) >> torch.randint(
        one.width, (3000,), generator=draw
    )
    second = torch.randint(1 << one.width, (3000,), generator=draw)
    expected = [slow(a, b, one) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert one.product(first, second).tolist() == expected


@pytest.mark.parametrize(
    ("mantissa", "mred", "nmed", "wcre"),
    [
        (7, "3.788", "0.933", "11.11"),
        (6, "4.049", "1.030", "12.03"),
        (5, "4.828", "1.274", "13.83"),
        (4, "6.619", "1.780", "17.2546"),
        (3, "10.35", "2.782", "23.53"),
    ],
)
def test_errors_of_truncated_logarithms_are_those_of_methods(
    mantissa: int, mred: str, nmed: str, wcre: str
) -> None:
    found = error_figures(TruncatedMitchell(mantissa=mantissa).table())
    for value, printed in ((found.mred, mred), (found.nmed, nmed), (found.wcre, wcre)):
        assert f"{100 * value:.{len(printed.split('.')[1])}f}" == printed


def test_the_default_loses_what_three_mantissa_bits_lose() -> None:
    pairs = operand_pairs(signed=False)
    assert torch.equal(Adam().product(*pairs), TruncatedMitchell(mantissa=3).product(*pairs))


def test_always_one_checked_bit_costs_what_methods_says() -> None:
    found = error_figures(Adam(checked=(1,) * 8).table())
    assert f"{100 * found.mred:.2f}" == "6.62"


def test_compensation_lowers_error_and_bias() -> None:
    plain, better = (error_figures(Adam(compensate=on).table()) for on in (False, True))
    assert better.mred < 0.5 * plain.mred
    assert abs(better.bias) < 0.5 * abs(plain.bias)


def test_impossible_tables_are_refused() -> None:
    with pytest.raises(SpecError, match="wanted 8 numbers"):
        MULTIPLIERS.build({"kind": "adam", "checked": [1, 2]})
