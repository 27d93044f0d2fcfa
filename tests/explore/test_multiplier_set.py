from pathlib import Path

import numpy as np
import pytest

from bitproof.approx import MULTIPLIERS as KINDS
from bitproof.approx import CircuitMultiplier, Exact, Truncated
from bitproof.circuits import AdamCircuit, ExactCircuit, sta_available
from bitproof.core.errors import DataError, SpecError
from bitproof.explore import MultiplierSet, read_multipliers
from tests.explore.conftest import COSTS, MULTIPLIERS


def test_costs_come_from_the_file(blocks: MultiplierSet) -> None:
    assert blocks.names == ["exact", "mild", "coarse"]
    assert blocks.costs("power_mw").tolist() == [0.4, 0.3, 0.1]
    assert blocks.exact == 0
    assert blocks.signed


def test_published_costs_come_from_the_library(data_dir: Path) -> None:
    names = ("mul8s_1KVB", "mul8s_1KVL")
    wanted = {
        "exact": {"kind": "evoapprox", "name": "mul8s_1KV8", "release": "v1.1"},
        **{name: {"kind": "evoapprox", "name": name} for name in names},
    }
    found = read_multipliers({k: KINDS.build(v) for k, v in wanted.items()}, data_dir=data_dir)
    assert found.costs("power_mw").tolist() == [0.425, 0.410, 0.289]
    assert found.costs("area_um2").tolist() == [729.8, 685.2, 543.0]


@pytest.mark.slow
def test_circuits_have_the_costs_of_a_library_of_cells(data_dir: Path) -> None:
    if not sta_available():
        pytest.skip("OpenSTA is not installed")
    found = read_multipliers(
        {
            "exact": CircuitMultiplier(design=ExactCircuit()),
            "adam": CircuitMultiplier(design=AdamCircuit()),
        },
        costs="sky130",
        data_dir=data_dir,
    )
    areas = found.costs("area_um2")
    assert 0.6 < areas[1] / areas[0] < 0.75  # docs/circuits.md: 0.670
    assert "sky130" in found.all[1].cost.source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            COSTS.replace("mild", "middling"),
            "wanted a row for 'mild'. Known: coarse, exact, middling.",
        ),
        (COSTS.replace("0.3", "x"), "line 3: power_mw: wanted a number, got 'x'"),
        (COSTS.replace("0.3", "-1"), "line 3: power_mw: should be greater than or equal to 0"),
        (COSTS.replace("0.3", "nan"), "line 3: power_mw"),
        (COSTS.replace(",delay_ns", ""), "wanted the columns name,area_um2,power_mw,delay_ns"),
        (COSTS.replace(",1.4", ""), "line 3: wanted 4 cells, got 3"),
        (COSTS + "mild,1,1,1\n", "line 5: wanted each name once, got 'mild' again"),
    ],
)
def test_bad_files_of_costs_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_multipliers(MULTIPLIERS, costs="bad.csv", folder=tmp_path)
    assert message in str(caught.value)


def test_files_of_costs_are_utf8_with_or_without_mark(tmp_path: Path) -> None:
    (tmp_path / "marked.csv").write_text(COSTS, encoding="utf-8-sig")
    assert len(read_multipliers(MULTIPLIERS, costs="marked.csv", folder=tmp_path)) == 3
    (tmp_path / "latin.csv").write_bytes(COSTS.encode() + b"\xe9,1,1,1\n")
    with pytest.raises(DataError, match=r"latin\.csv: wanted a table in UTF-8"):
        read_multipliers(MULTIPLIERS, costs="latin.csv", folder=tmp_path)


def test_what_cannot_be_chosen_from_is_refused(cost_file: Path) -> None:
    with pytest.raises(SpecError, match="two or more"):
        read_multipliers({"exact": Exact()})
    with pytest.raises(SpecError, match="exact: wanted a published cost, there is none"):
        read_multipliers(MULTIPLIERS)
    with pytest.raises(SpecError, match="wanted a multiplier of kind 'circuit'"):
        read_multipliers(MULTIPLIERS, costs="sky130", data_dir=Path("../shared/data"))
    with pytest.raises(DataError, match=r"wanted a file 'no\.csv'"):
        read_multipliers(MULTIPLIERS, costs="no.csv")
    mixed = {**MULTIPLIERS, "mild": Truncated(columns=5)}
    with pytest.raises(SpecError, match="all signed or all unsigned"):
        read_multipliers(mixed, costs=str(cost_file))
    rough = {name: Truncated(columns=4, signed=True) for name in ("mild", "coarse")}
    with pytest.raises(SpecError, match="wanted an exact one among mild, coarse"):
        read_multipliers(rough, costs=str(cost_file))


def test_exact_filters_need_no_table(blocks: MultiplierSet) -> None:
    assert blocks.products(np.zeros(4, np.int64), "cpu") is None
    mixed = blocks.products(np.array([0, 2, 2, 0]), "cpu")
    assert mixed is not None
    assert mixed.choice.tolist() == [0, 1, 1, 0]
    assert mixed.names == ("exact:signed=true", "truncated:columns=7,signed=true")


def test_the_digest_follows_names_products_and_costs(blocks: MultiplierSet, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text(COSTS.replace("0.3", "0.31"))
    other = read_multipliers(MULTIPLIERS, costs="other.csv", folder=tmp_path)
    assert other.digest != blocks.digest
    same = tmp_path / "same.csv"
    same.write_text(COSTS)
    assert read_multipliers(MULTIPLIERS, costs=str(same)).names == blocks.names
