"""A pickle that is not the published one is never opened, and no pickle can call anything."""

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bitproof.core.errors import ChecksumError, DataError, UnsafeFileError
from bitproof.data.cifar_batches import PUBLISHED, load_batch

Publish = Callable[[Path, dict[str, object]], None]
"""The fixture `publish` of conftest.py."""
ROWS = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Return a file that a malicious pickle makes, if any of it runs."""
    return tmp_path / "it_ran"


def declare(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes) -> Path:
    """Write a batch, and take its MD5 for the published one."""
    path.write_bytes(content)
    monkeypatch.setitem(PUBLISHED, path.name, hashlib.md5(content).hexdigest())
    return path


def test_a_published_batch_is_read(tmp_path: Path, publish: Publish) -> None:
    publish(tmp_path / "test_batch", {"labels": [3, 4], "data": ROWS, "batch_label": "ü"})
    batch = load_batch(tmp_path / "test_batch")
    assert np.array_equal(batch["data"], ROWS)
    assert batch["data"].dtype == np.uint8
    assert (batch["labels"], batch["batch_label"]) == ([3, 4], "ü")


def test_a_batch_that_is_not_the_published_one_is_never_unpickled(
    tmp_path: Path, publish: Publish, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data_batch_3"
    publish(path, {"labels": [3, 4], "data": ROWS})
    content = bytearray(path.read_bytes())
    content[-9] ^= 1

    def refuse(*_: object) -> None:
        raise AssertionError("the unpickler was called")

    monkeypatch.setattr("bitproof.data.cifar_batches._ArrayUnpickler.load", refuse)
    malicious = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    for wrong in (bytes(content), bytes(content[:-1]), malicious, b""):
        path.write_bytes(wrong)
        with pytest.raises(
            ChecksumError, match=rf"data_batch_3: wanted md5 {PUBLISHED[path.name]}"
        ):
            load_batch(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'touch MARK'\ntR.",
        b"(S'touch MARK'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch MARK'\no.",
        b"\x80\x02cposix\nsystem\nX\x0a\x00\x00\x00touch MARK\x85R.",
        b"\x80\x02cbuiltins\nlist\n)\x81.",
        b"ccopy_reg\n_reconstructor\n(cos\nsystem\nNNtR.",
    ],
)
def test_every_opcode_that_calls_is_refused(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    content = content.replace(b"MARK", os.fsencode(mark))
    path = declare(monkeypatch, tmp_path / "test_batch", content)
    with pytest.raises(UnsafeFileError, match="wanted a pickle of arrays, it asks for"):
        load_batch(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy.core.multiarray", "fromfile"),
        ("_codecs", "lookup"),
        ("builtins", "eval"),
        ("bitproof.data.cifar_batches", "load_batch"),
        ("", ""),
    ],
)
def test_no_other_name_is_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    texts = [b"\x8c" + struct.pack("B", len(text)) + text.encode() for text in (module, name)]
    content = b"\x80\x04" + b"".join(texts) + b"\x93."
    path = declare(monkeypatch, tmp_path / "train", content)
    with pytest.raises(UnsafeFileError, match=f"asks for '{module}.{name}'"):
        load_batch(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test_batch: cannot be read \(No such file"):
        load_batch(tmp_path / "test_batch")
