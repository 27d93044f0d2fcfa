"""Tables of products that are read in another convention than they were written in."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.approx import Drum, Mitchell, Perforated, Stored
from bitproof.approx.catalogue import catalogue
from bitproof.approx.convention import suspicion
from bitproof.core.errors import BitproofWarning

SIGNED = Mitchell(signed=True).table().products.numpy().astype(np.int64)
UNSIGNED = Drum(width=4).table().products.numpy().astype(np.int64)
BY_VALUE = np.roll(SIGNED, (128, 128), (0, 1))


@pytest.mark.parametrize("signed", [False, True])
def test_built_in_multipliers_are_as_they_say(signed: bool) -> None:
    coarse = Perforated(rows=6, signed=True)  # its mred is above 1, and rightly so
    for multiplier in catalogue(signed=signed):
        if multiplier != coarse:
            assert suspicion(multiplier.table().products.numpy(), signed=signed) == ""


@pytest.mark.parametrize(
    ("numbers", "signed", "order", "fits"),
    [
        (SIGNED, False, "codes", 'signed = true, order = "codes"'),
        (UNSIGNED, True, "codes", "signed = false"),
        (BY_VALUE, True, "codes", 'signed = true, order = "values"'),
        (SIGNED, True, "values", 'signed = true, order = "codes"'),
        (BY_VALUE, False, "codes", 'signed = true, order = "values"'),
        (
            SIGNED + 32768,
            True,
            "codes",
            'signed = true, order = "codes" and 32768 taken off each number',
        ),
        (
            BY_VALUE + 32768,
            True,
            "codes",
            'signed = true, order = "values" and 32768 taken off each number',
        ),
        (
            SIGNED % 65536,
            True,
            "codes",
            'signed = true, order = "codes" and 65536 taken off numbers from 32768 up',
        ),
        (
            UNSIGNED.astype(np.int16).astype(np.int64),
            False,
            "codes",
            "signed = false and 65536 added to numbers below 0",
        ),
    ],
)
def test_another_convention_is_named(
    numbers: np.ndarray, signed: bool, order: str, fits: str
) -> None:
    assert suspicion(numbers, signed=signed, order=order).endswith(f" % with {fits}")  # type: ignore[arg-type]


def test_numbers_that_are_no_products_fit_nothing() -> None:
    noise = np.random.default_rng(0).integers(-30000, 30000, (256, 256))
    assert suspicion(noise, signed=True).endswith(", and no other convention fits")


def test_the_figure_is_the_mean_relative_error_distance() -> None:
    exact = torch.arange(256).outer(torch.arange(256)).numpy()
    assert suspicion(3 * exact, signed=False).startswith("mean relative error is 200 % with signed")


def test_a_stored_table_warns_and_is_read_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, products=SIGNED)
    with pytest.warns(BitproofWarning, match=r"mine\.npz: mean relative error is .* signed = true"):
        table = Stored(path=str(file), signed=False).table()
    assert torch.equal(table.products, torch.from_numpy(SIGNED).int())
    Stored(path=str(file), signed=True).table()  # warnings are errors here
