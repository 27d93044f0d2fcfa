import random
from pathlib import Path

import numpy as np
import pytest

from bitproof.core.errors import BitproofError, DataError
from bitproof.faults.table import COLUMNS, FaultTable
from bitproof.injection.parts import Parts
from bitproof.injection.sealed import prepare, read_fault_table, write_fault_table


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": np.zeros(2, np.float32)}, "column 'a': wanted integers or float64, got float32"),
        ({"a": np.zeros(2, np.bool_)}, "got bool"),
        ({"a": np.array(["x"])}, "got <U1"),
        ({"a": np.zeros(2, np.int8), "b": np.zeros(3, np.int8)}, "one length"),
        ({"a": np.zeros((2, 2), np.int8)}, "one length"),
        ({}, "one length"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(
    columns: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepare(columns)


@pytest.fixture
def faults() -> FaultTable:
    rows = [
        (2, "weight", "conv1", 5, -1, 7, "flip"),
        (0, "product", "fc", 2**39, 12, 31, "stuck1"),
        (2, "bias", "conv1", 0, -1, 0, "stuck0"),
    ]
    return FaultTable.from_rows(rows, layers=["conv1", "relu", "fc"], n_trials=9)


def test_a_fault_table_comes_back(faults: FaultTable, tmp_path: Path) -> None:
    write_fault_table(faults, tmp_path / "faults.parquet")
    found = read_fault_table(tmp_path / "faults.parquet")
    assert found.layers == faults.layers
    assert found.n_trials == 9
    assert found.rows() == faults.rows()
    assert all(getattr(found, name).dtype == getattr(faults, name).dtype for name in COLUMNS)


def test_an_empty_fault_table_comes_back(tmp_path: Path) -> None:
    write_fault_table(FaultTable.from_rows([], layers=["fc"], n_trials=4), tmp_path / "faults")
    found = read_fault_table(tmp_path / "faults")
    assert (len(found), found.n_trials, found.layers) == (0, 4, ("fc",))


def test_a_damaged_fault_table_is_told_in_one_line(faults: FaultTable, tmp_path: Path) -> None:
    path = tmp_path / "faults.parquet"
    write_fault_table(faults, path)
    sound = path.read_bytes()
    flipped = [bytearray(sound) for _ in range(60)]
    for place, copy in zip(random.Random(1).sample(range(len(sound)), 60), flipped, strict=True):
        copy[place] ^= 4
    for damaged in [b"", b"PAR1", sound[:-1], sound[: len(sound) // 2], *map(bytes, flipped)]:
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"no sound fault table \(cut short") as caught:
            read_fault_table(path)
        assert "\n" not in str(caught.value)


def test_what_is_no_fault_table_is_told(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "mine")
    parts.write(1, {"bit": np.zeros(3, np.uint8)})
    with pytest.raises(DataError, match="holds part 1 of a campaign"):
        read_fault_table(parts.path(1))
    with pytest.raises(DataError, match=r"none: cannot read .*No such file"):
        read_fault_table(tmp_path / "none")
    with pytest.raises(BitproofError, match=r"cannot read .*Is a directory"):
        read_fault_table(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("layer", 3), ("site", 77), ("action", 9), ("trial", 9), ("layer", -1)]
)
def test_a_fault_that_points_outside_is_told(
    name: str, value: int, faults: FaultTable, tmp_path: Path
) -> None:
    columns = {column: getattr(faults, column).copy() for column in COLUMNS}
    columns[name][1] = value
    wrong = FaultTable(faults.layers, faults.n_trials, **columns)
    write_fault_table(wrong, tmp_path / "faults")
    with pytest.raises(DataError, match=rf"\({name} out of range\)"):
        read_fault_table(tmp_path / "faults")
