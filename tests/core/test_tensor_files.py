from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitproof.core.errors import ChecksumError
from bitproof.core.tensor_files import DAMAGED, read_tensors, write_tensors

TENSORS = {"a": torch.arange(12).reshape(3, 4).T, "b": torch.tensor(0.5), "c": torch.zeros(0, 2)}


def test_tensors_come_back_with_their_header(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    shared = torch.ones(3)
    write_tensors(path, {**TENSORS, "d": shared, "e": shared[1:]}, note="ü", format="pt")
    tensors, header = read_tensors(path)
    assert header == {"note": "ü", "format": "pt"}
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert tensors["e"].tolist() == [1.0, 1.0]
    assert torch.equal(load_file(path)["a"], TENSORS["a"])  # any reader of safetensors


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_tensors(tmp_path / name, TENSORS, one="1", two="2", three="3")
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, note="n")
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            tensors, header = read_tensors(path)
        except (ChecksumError, *DAMAGED):
            continue
        # The word "file-sha256:" itself changed: everything else is as it was.
        assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
        assert header["note"] == "n"


def test_a_file_of_others_has_no_seal(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert read_tensors(tmp_path / "x.safetensors")[1] == {}


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 100, b"\x02" + bytes(7) + b"[]"])
def test_what_is_no_such_file_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DAMAGED):
        read_tensors(tmp_path / "x")
