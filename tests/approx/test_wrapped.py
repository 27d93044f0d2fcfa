from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from bitproof.approx import (
    MULTIPLIERS,
    Cost,
    Drum,
    Exact,
    Loba,
    Mitchell,
    Multiplier,
    Perforated,
    Roba,
    Stored,
    Swapped,
    Truncated,
)
from bitproof.approx.evoapprox import EvoApprox
from bitproof.approx.wrapped import SignMagnitude
from bitproof.core.errors import SpecError


@pytest.mark.parametrize("multiplier", [Exact(), Drum(width=4), Loba(width=3), Mitchell(), Roba()])
def test_kinds_that_take_signs_apart_themselves_agree(multiplier: Multiplier) -> None:
    own = multiplier.model_copy(update={"signed": True}).table()
    ours = SignMagnitude(of=multiplier).table()
    assert torch.equal(ours.products, own.products)
    assert ours.signed


def test_products_are_those_of_a_loop() -> None:
    inner = Truncated(columns=6).table().products.tolist()
    products = SignMagnitude(of=Truncated(columns=6)).table().products.tolist()
    for first in range(-128, 128):
        for second in range(-128, 128):
            product = inner[abs(first)][abs(second)]
            wanted = -product if (first < 0) != (second < 0) else product
            assert products[first % 256][second % 256] == wanted


def test_the_magnitude_of_the_smallest_word_is_128() -> None:
    table = SignMagnitude(of=Perforated(rows=1)).table()
    assert int(table.products[128, 128]) == 128 * 128
    assert int(table.products[128, 127]) == -128 * 126


def test_order_of_operands_is_kept() -> None:
    ours = SignMagnitude(of=Swapped(of=Perforated(rows=2))).table()
    other = SignMagnitude(of=Perforated(rows=2)).table()
    assert torch.equal(ours.products, other.swapped().products)
    assert not ours.commutes


@pytest.mark.parametrize(
    "signed",
    [
        Exact(signed=True),
        Swapped(of=Exact(signed=True)),
        SignMagnitude(of=Exact()),
        Stored(path="mine.npz", signed=True),
    ],
)
def test_a_signed_multiplier_is_refused(signed: Multiplier) -> None:
    with pytest.raises(ValidationError, match="wanted an unsigned multiplier"):
        SignMagnitude(of=signed)
    with pytest.raises(SpecError, match="wanted an unsigned multiplier"):
        MULTIPLIERS.build({"kind": "sign_magnitude", "of": signed.model_dump()})


def test_a_signed_circuit_is_refused_once_it_is_read(data_dir: Path) -> None:
    with pytest.raises(SpecError, match="wanted an unsigned multiplier"):
        SignMagnitude(of=EvoApprox(name="mul8s_1KR6")).table(data_dir)


def test_cost_is_that_of_the_circuit(write_library: Callable[..., Path]) -> None:
    circuit, folder = EvoApprox(name="mul8u_X"), write_library()
    cost = SignMagnitude(of=circuit).cost(folder)
    assert isinstance(cost, Cost)
    assert cost == circuit.cost(folder)
    assert SignMagnitude(of=Exact()).cost() is None


def test_recipe_tables_build_it() -> None:
    table = {"kind": "sign_magnitude", "of": {"kind": "drum", "width": 5}}
    assert MULTIPLIERS.build(table) == SignMagnitude(of=Drum(width=5))
