"""The page of supported layers says what is true, of every layer of this torch."""

import re
from pathlib import Path

import pytest

from tests.quant.layer_samples import SAMPLES, layers_of_torch, try_layer

PAGE = (Path(__file__).parents[2] / "docs" / "supported-layers.md").read_text("utf-8")
ROWS = {
    name: (operations, float(decibels))
    for name, operations, decibels in re.findall(r"^\| `(\w+)` \| (.+) \| (\d+) \|$", PAGE, re.M)
}
REFUSED = dict(re.findall(r"^- `(\w+)`: (.+)$", PAGE, re.M))
QUICK = ("Conv2d", "BatchNorm1d", "GELU", "Softmax", "Hardtanh")


def test_the_page_has_every_layer_once() -> None:
    assert {*ROWS} | {*REFUSED} >= {*layers_of_torch()}
    assert not {*ROWS} & {*REFUSED}


@pytest.mark.parametrize("name", QUICK)
def test_some_rows_are_true(name: str) -> None:
    compare(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*SAMPLES} - {*QUICK}))
def test_all_rows_are_true(name: str) -> None:
    if name not in {*ROWS} | {*REFUSED}:
        pytest.skip("not in the torch that the page was made with")
    compare(name)


def compare(name: str) -> None:
    found = try_layer(name)
    if name in REFUSED:
        assert (found.operations, found.sqnr_db) == (REFUSED[name], None)
        return
    assert found.operations == ROWS[name][0]
    assert found.sqnr_db == pytest.approx(ROWS[name][1], abs=3)  # float layers differ in last bits
