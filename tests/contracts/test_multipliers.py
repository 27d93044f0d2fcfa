"""What every multiplier promises, however it comes by its products."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.approx import (
    MULTIPLIERS,
    Adam,
    ArithsGen,
    BrokenArray,
    CircuitMultiplier,
    Drum,
    EvoApprox,
    Exact,
    Formula,
    Kulkarni,
    Loba,
    LowerOr,
    Mitchell,
    Multiplier,
    Perforated,
    Roba,
    SignMagnitude,
    Stored,
    Swapped,
    Truncated,
    TruncatedMitchell,
    TruncatedOperands,
    error_figures,
)
from bitproof.circuits import MitchellCircuit

FORMULAS: dict[str, Formula] = {
    "exact": Exact(),
    "truncated": Truncated(columns=5),
    "broken_array": BrokenArray(rows=2, columns=5),
    "perforated": Perforated(start=1, rows=2),
    "truncated_operands": TruncatedOperands(bits=2),
    "lower_or": LowerOr(columns=6),
    "mitchell": Mitchell(),
    "truncated_mitchell": TruncatedMitchell(mantissa=4),
    "drum": Drum(width=3),
    "loba": Loba(width=3, level=1),
    "adam": Adam(compensate=True),
    "kulkarni": Kulkarni(),
    "roba": Roba(),
}
"""One of each kind that is computed."""
SAMPLES: dict[str, Multiplier] = {
    **FORMULAS,
    "evoapprox": EvoApprox(name="mul8s_1KR6"),
    "circuit": CircuitMultiplier(design=MitchellCircuit(mantissa=5, signed=True)),
    "table": Stored(path="mine.npz", signed=True),
    "swapped": Swapped(of=Perforated(rows=3)),
    "sign_magnitude": SignMagnitude(of=Perforated(rows=3)),
    "ariths_gen": ArithsGen(
        circuit="UnsignedBrokenArrayMultiplier", horizontal_cut=1, vertical_cut=4
    ),
}
"""One of each kind."""

every_kind = pytest.mark.parametrize("kind", MULTIPLIERS.kinds())
every_formula = pytest.mark.parametrize("kind", FORMULAS)
both_signs = pytest.mark.parametrize("signed", [False, True])


@pytest.fixture
def folder(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a data folder with what the sample of the kind reads, or skip."""
    if kind == "evoapprox":
        found: Path = request.getfixturevalue("data_dir")
        return found
    if kind == "ariths_gen" and importlib.util.find_spec("ariths_gen") is None:
        pytest.skip("ariths-gen is not installed")
    np.savez(tmp_path / "mine.npz", products=Perforated(signed=True).table().products.numpy())
    return tmp_path


def formula_of(kind: str, *, signed: bool) -> Formula:
    table = {**FORMULAS[kind].model_dump(), "signed": signed}
    found = MULTIPLIERS.build(table)
    assert isinstance(found, Formula)
    return found


def test_every_kind_has_a_sample() -> None:
    assert sorted(SAMPLES) == MULTIPLIERS.kinds()
    assert {kind for kind in SAMPLES if issubclass(MULTIPLIERS.find(kind), Formula)} == set(
        FORMULAS
    )


@every_kind
def test_multiplier_survives_a_json_round_trip(kind: str) -> None:
    sample = SAMPLES[kind]
    assert MULTIPLIERS.find(kind).model_validate_json(sample.model_dump_json()) == sample
    assert MULTIPLIERS.build(sample.model_dump(mode="json")).digest() == sample.digest()


@every_kind
def test_table_holds_all_products_in_range(kind: str, folder: Path) -> None:
    table = SAMPLES[kind].table(folder)
    assert (table.products.shape, table.products.dtype) == ((256, 256), torch.int32)
    assert table.products.is_contiguous()
    low, high = (-(1 << 15), 1 << 15) if table.signed else (0, 1 << 16)
    assert low <= int(table.products.min())
    assert int(table.products.max()) < high


@every_kind
def test_table_is_the_same_every_time_and_nobody_elses(kind: str, folder: Path) -> None:
    first = SAMPLES[kind].table(folder)
    kept = first.products.clone()
    first.products.zero_()
    assert torch.equal(SAMPLES[kind].table(folder).products, kept)


@every_kind
def test_cost_is_published_with_its_source_or_unknown(kind: str, folder: Path) -> None:
    cost = SAMPLES[kind].cost(folder)
    assert cost is None or cost.source


@every_formula
@both_signs
def test_table_holds_what_the_formula_says(kind: str, signed: bool) -> None:
    multiplier = formula_of(kind, signed=signed)
    table = multiplier.table()
    codes = torch.arange(256)
    values = codes.to(torch.int8).long() if signed else codes
    first, second = torch.cartesian_prod(codes, codes).unbind(1)
    products = multiplier.product(values[first], values[second])
    assert torch.equal(table.products[first, second].long(), products)
    assert table.signed == signed


@every_formula
@both_signs
def test_formula_leaves_its_operands_alone(kind: str, signed: bool) -> None:
    first, second = torch.tensor([3, 100]), torch.tensor([[7, 90]])
    formula_of(kind, signed=signed).product(first.expand(1, 2), second)
    assert (first.tolist(), second.tolist()) == ([3, 100], [[7, 90]])


@every_formula
@both_signs
def test_zero_times_anything_is_zero(kind: str, signed: bool) -> None:
    table = formula_of(kind, signed=signed).table()
    assert not table.products[0].any()
    assert not table.products[:, 0].any()


@every_formula
@both_signs
def test_figures_hang_together(kind: str, signed: bool) -> None:
    figures = error_figures(formula_of(kind, signed=signed).table())
    assert abs(figures.bias) <= figures.med <= figures.wce
    assert figures.med**2 <= figures.mse <= figures.wce * figures.med
    assert figures.mred <= figures.wcre
    assert (figures.ep == 0) == (figures.wce == 0)
