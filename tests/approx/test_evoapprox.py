from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.approx import (
    BrokenArray,
    EvoApprox,
    Exact,
    Multiplier,
    Perforated,
    Swapped,
    Truncated,
    TruncatedOperands,
    error_figures,
    read_circuits,
    zero_operand_errors,
)
from bitproof.core.errors import DataError, UnknownKindError

Write = Callable[..., Path]
"""The fixture `write_library` of conftest.py."""

SIGNED: dict[str, Multiplier] = {
    "mul8s_1KV8": Exact(signed=True),
    "mul8s_1KVA": Truncated(columns=2, signed=True),
    "mul8s_1KVB": Truncated(columns=3, signed=True),
    "mul8s_1KX2": Truncated(columns=4, signed=True),
    "mul8s_1KR8": Swapped(of=Perforated(rows=1, signed=True)),
    "mul8s_1KTY": Swapped(of=Perforated(rows=3, signed=True)),
    "mul8s_1KR3": Swapped(of=Perforated(rows=6, signed=True)),
    "mul8s_1KR6": Swapped(of=BrokenArray(rows=1, columns=3, signed=True)),
    "mul8s_1KRC": Swapped(of=BrokenArray(rows=1, columns=4, signed=True)),
    "mul8s_1KVL": Swapped(of=BrokenArray(rows=2, columns=5, signed=True)),
    "mul8s_1L2H": TruncatedOperands(bits=1, signed=True),
    "mul8s_1L2D": TruncatedOperands(bits=2, signed=True),
    "mul8s_1L1G": TruncatedOperands(bits=3, signed=True),
}
"""Names of v1.1, and the formula that says the same."""


@pytest.mark.parametrize("name", SIGNED)
def test_every_signed_circuit_is_an_array_with_cells_left_out(name: str, data_dir: Path) -> None:
    release = "v1.1" if name in {"mul8s_1KV8", "mul8s_1KVA"} else None
    circuit = EvoApprox.model_validate({"name": name, "release": release})
    assert torch.equal(circuit.table(data_dir).products, SIGNED[name].table().products)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("1KV6", (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
        ("1KV8", (0.0019, 0.008, 50.0, 0.28, 3.8, -1.25)),
        ("1KV9", (0.0065, 0.026, 68.75, 0.90, 34, -4.25)),
        ("1KVP", (0.051, 0.209, 74.8, 2.73, 2746, -2.25)),
        ("1L12", (3.076, 12.305, 98.05, 135.8, 7.28e6, 15.75)),
    ],
)
def test_the_multipliers_of_deepaxe_have_the_figures_of_methods_b3(
    name: str, published: tuple[float, ...], data_dir: Path
) -> None:
    figures = error_figures(EvoApprox(name=f"mul8s_{name}", release="v2022").table(data_dir))
    mae, wce, ep, mre, mse, bias = published
    assert 100 * figures.med_of_range == pytest.approx(mae, abs=0.0005)
    assert 100 * figures.wce_of_range == pytest.approx(wce, abs=0.0005)
    assert 100 * figures.ep == pytest.approx(ep, abs=0.005)
    assert 100 * figures.mred == pytest.approx(mre, abs=0.05)
    assert figures.mse == pytest.approx(mse, rel=0.02)
    assert figures.bias == bias


@pytest.mark.parametrize(
    ("name", "power", "area", "delay"),
    [
        ("mul8s_1KR6", 0.363, 635.0, 1.37),
        ("mul8s_1L2H", 0.301, 558.9, 1.36),
        ("mul8s_1KR3", 0.052, 172.2, 0.89),
    ],
)
def test_costs_are_those_of_methods_b3(
    name: str, power: float, area: float, delay: float, data_dir: Path
) -> None:
    cost = EvoApprox(name=name).cost(data_dir)
    assert (cost.power_mw, cost.area_um2, cost.delay_ns) == (power, area, delay)
    assert cost.source.startswith("EvoApproxLib v1.1")


def test_seven_circuits_have_products_with_zero_that_are_not_zero(data_dir: Path) -> None:
    # KERNELS.md, section 4.
    assert zero_operand_errors(EvoApprox(name="mul8u_2HH").table(data_dir)) == 511
    assert zero_operand_errors(EvoApprox(name="mul8u_27Y").table(data_dir)) == 128
    assert zero_operand_errors(EvoApprox(name="mul8u_XFM").table(data_dir)) == 0


def test_c_models_with_arguments_b_a_are_transposed(data_dir: Path) -> None:
    with np.load(data_dir / "evoapprox8.npz", allow_pickle=False) as stored:
        c_model = torch.from_numpy(stored["mul8u_1446"].astype(np.int32))
    table = EvoApprox(name="mul8u_1446").table(data_dir)
    assert torch.equal(table.products, c_model.T)
    assert not torch.equal(table.products, c_model)


def test_rows_are_port_a(write_library: Write) -> None:
    folder = write_library()
    codes = torch.arange(256, dtype=torch.int32)
    table = EvoApprox(name="mul8u_X").table(folder)
    assert torch.equal(table.products, codes.outer(codes - codes % 2))
    assert table.products.is_contiguous()


def test_a_release_tells_circuits_of_one_name_apart(write_library: Write) -> None:
    folder = write_library()
    old, new = (
        EvoApprox.model_validate({"name": "mul8u_17C8", "release": release}).table(folder)
        for release in ("v1.1", "v2022")
    )
    assert old.commutes
    assert not new.commutes
    with pytest.raises(ValueError, match=r"mul8u_17C8 means two circuits: .* v1\.1 or v2022"):
        EvoApprox(name="mul8u_17C8")


def test_circuits_name_themselves(write_library: Write) -> None:
    folder = write_library()
    circuits = read_circuits(folder / "evoapprox8.npz")
    assert [circuit.multiplier.name for circuit in circuits] == ["mul8u_17C8"] * 2 + ["mul8u_X"]
    assert circuits[1].multiplier.cost(folder).area_um2 == 500.0


def test_an_unknown_name_tells_the_nearest(write_library: Write) -> None:
    folder = write_library()
    with pytest.raises(UnknownKindError, match="Did you mean 'mul8u_X'"):
        EvoApprox(name="mul8u_Y").table(folder)
    with pytest.raises(UnknownKindError, match=r"'mul8u_X' in v2022. It is in v1\.1"):
        EvoApprox(name="mul8u_X", release="v2022").table(folder)


def test_a_missing_library_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^evoapprox: wanted evoapprox8\.npz, not in .*$"):
        EvoApprox(name="mul8u_X").table(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "mul8u_X"}]', "{}x"])
def test_malformed_figures_are_one_line(text: str, write_library: Write) -> None:
    folder = write_library(text)
    with pytest.raises(DataError, match=r"^.*wanted the figures of circuits.*$"):
        EvoApprox(name="mul8u_X").table(folder)


def test_malformed_tables_are_one_line(write_library: Write) -> None:
    for wrong in (np.zeros((4, 4), dtype=int), np.zeros((256, 256))):
        folder = write_library(two=wrong)
        with pytest.raises(DataError, match=r"wanted 256 x 256 integers as 'two'"):
            EvoApprox(name="mul8u_X").table(folder)
    pickled = write_library(two=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="pickle"):
        EvoApprox(name="mul8u_X").table(pickled)


def test_a_truncated_file_is_one_line(write_library: Write) -> None:
    file = write_library() / "evoapprox8.npz"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="wanted a whole npz file"):
        EvoApprox(name="mul8u_X").table(file.parent)
