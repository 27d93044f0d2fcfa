import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.approx import Perforated, Stored
from bitproof.core.errors import ChecksumError, DataError

TABLE = Perforated(rows=3, signed=True).table()


def write_csv(path: Path, numbers: np.ndarray) -> Path:
    path.write_text("\n".join(",".join(map(str, row)) for row in numbers.tolist()) + "\n")
    return path


def test_an_npz_file_gives_its_products(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, products=TABLE.products.numpy().astype(np.int16), other=np.zeros(3))
    table = Stored(path=str(file), signed=True).table()
    assert torch.equal(table.products, TABLE.products)
    assert table.signed


def test_a_csv_file_gives_its_products(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "mine.csv", TABLE.products.numpy())
    assert torch.equal(Stored(path=str(file), signed=True).table().products, TABLE.products)


def test_numbers_may_stand_one_on_a_line(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "mine.csv", TABLE.products.numpy().reshape(-1, 1))
    assert torch.equal(Stored(path=str(file), signed=True).table().products, TABLE.products)


def test_rows_may_be_in_the_order_of_values(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "mine.csv", TABLE.by_value(TABLE.products).numpy())
    stored = Stored(path=str(file), signed=True, order="values")
    assert torch.equal(stored.table().products, TABLE.products)


def test_a_relative_path_is_below_the_data_folder(tmp_path: Path) -> None:
    write_csv(tmp_path / "mine.csv", TABLE.products.numpy())
    stored = Stored(path="mine.csv", signed=True)
    assert torch.equal(stored.table(tmp_path).products, TABLE.products)


def test_a_checksum_is_checked(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "mine.csv", TABLE.products.numpy())
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    Stored(path=str(file), signed=True, sha256=right).table()
    with pytest.raises(ChecksumError, match="wanted sha256 0000"):
        Stored(path=str(file), signed=True, sha256="0" * 64).table()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2,3", "wanted 65536 numbers, got 3"),
        ("1,x", "wanted whole numbers: invalid literal"),
        ("1.5," * 65536, "wanted whole numbers: invalid literal"),
        (f"{2**40}," * 65536, f"wanted products of 32 bits, got {2**40}"),
        (f"{2**70}," * 65536, f"wanted products of 32 bits, got {2**70}"),
        ("", "wanted 65536 numbers, got 0"),
    ],
)
def test_a_bad_csv_file_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=f"^{file}: {said}") as caught:
        Stored(path=str(file), signed=False).table()
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="wanted whole numbers"):
        Stored(path=str(file), signed=False).table()


@pytest.mark.parametrize(
    "array", [np.zeros((256, 255), int), np.zeros((256, 256)), np.array([{}], dtype=object)]
)
def test_a_bad_array_is_one_line(array: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, products=array)
    with pytest.raises(DataError, match=rf"^{file}: wanted .*$"):
        Stored(path=str(file), signed=False).table()


def test_another_array_is_asked_for_by_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, mine=TABLE.products.numpy())
    assert torch.equal(
        Stored(path=str(file), signed=True, array="mine").table().products, TABLE.products
    )
    with pytest.raises(DataError, match="wanted arrays products, got mine"):
        Stored(path=str(file), signed=True).table()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wanted a file of products, there is none"):
        Stored(path="none.npz", signed=False).table(tmp_path)
