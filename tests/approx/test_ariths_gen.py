import importlib.util
import sys

import pytest
import torch

from bitproof.approx import ArithsGen, BrokenArray, Exact, TruncatedOperands
from bitproof.core.errors import AdapterError

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("ariths_gen") is None, reason="ariths-gen is not installed"
)


@needs_package
@pytest.mark.parametrize("tree", ["Array", "CarrySave", "Dadda", "Wallace"])
@pytest.mark.parametrize("sign", ["Signed", "Unsigned"])
def test_accurate_circuits_are_exact(tree: str, sign: str) -> None:
    table = ArithsGen.model_validate({"circuit": f"{sign}{tree}Multiplier"}).table()
    assert table.signed == (sign == "Signed")
    assert torch.equal(table.products, Exact(signed=table.signed).table().products)


@needs_package
@pytest.mark.parametrize(("rows", "columns"), [(0, 7), (1, 3), (3, 10), (0, 15)])
def test_broken_arrays_are_ours(rows: int, columns: int) -> None:
    circuit = ArithsGen(
        circuit="UnsignedBrokenArrayMultiplier", horizontal_cut=rows, vertical_cut=columns
    )
    ours = BrokenArray(rows=rows, columns=columns).table()
    assert torch.equal(circuit.table().products, ours.products)


@needs_package
@pytest.mark.parametrize("tree", ["Array", "CarrySave"])
def test_truncated_arrays_drop_bits_of_operands(tree: str) -> None:
    table = {"circuit": f"UnsignedTruncated{tree}Multiplier", "truncation_cut": 3}
    circuit = ArithsGen.model_validate(table)
    assert torch.equal(circuit.table().products, TruncatedOperands(bits=3).table().products)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ariths_gen", "ariths_gen.wire_components"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AdapterError, match="wanted the package ariths-gen"):
        ArithsGen(circuit="SignedDaddaMultiplier").table()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"circuit": "SignedDaddaMultiplier", "vertical_cut": 1}, "wanted no vertical_cut"),
        (
            {"circuit": "UnsignedTruncatedArrayMultiplier", "horizontal_cut": 1},
            "wanted no horizontal_cut",
        ),
        (
            {"circuit": "UnsignedBrokenArrayMultiplier", "horizontal_cut": 3},
            "at most vertical_cut",
        ),
        ({"circuit": "UnsignedTruncatedArrayMultiplier", "truncation_cut": 8}, "at most 7, got 8"),
        ({"circuit": "UnsignedBrokenCarrySaveMultiplier"}, "circuit"),
    ],
)
def test_cuts_that_do_not_fit_are_refused(table: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ArithsGen.model_validate(table)
