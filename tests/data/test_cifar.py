"""Official forms and packed sets; a pickle that is not the published one is never opened."""

import hashlib
import lzma
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from bitproof.core.errors import ChecksumError, DataError, UnsafeFileError
from bitproof.data.cifar import PUBLISHED, Cifar10, Cifar100, load_batch, read_python
from bitproof.data.packed import read_part

Publish = Callable[[Path, dict[str, object]], None]
"""The fixture `publish` of conftest.py."""
BATCHES_10 = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def rows(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)


def write_binary(folder: Path, name: str, pixels: np.ndarray, *labels: Sequence[int]) -> None:
    folder.mkdir(exist_ok=True)
    columns = [np.array(column, np.uint8)[:, None] for column in labels]
    np.concatenate([*columns, pixels], axis=1).tofile(folder / name)


def test_both_official_forms_of_cifar10_load_alike(tmp_path: Path, publish: Publish) -> None:
    pixels = [rows(20, seed) for seed in range(6)]
    labels = [[(seed + at) % 10 for at in range(20)] for seed in range(6)]
    for name, some, classes in zip(BATCHES_10, pixels, labels, strict=True):
        publish(tmp_path / "cifar-10-batches-py" / name, {"data": some, "labels": classes})
        write_binary(tmp_path / "cifar-10-batches-bin", f"{name}.bin", some, classes)
    source = Cifar10(validation_fraction=0.0)
    pickled = source.load(tmp_path / "cifar-10-batches-py")
    binary = source.load(tmp_path / "cifar-10-batches-bin")
    assert pickled.train.digest() == binary.train.digest()
    assert pickled.test.digest() == binary.test.digest()
    wanted = np.concatenate(pixels[:5]).reshape(-1, 3, 32, 32)
    assert np.array_equal(pickled.train.images.numpy(), wanted)
    assert pickled.train.labels.tolist() == [label for batch in labels[:5] for label in batch]
    assert pickled.test.labels.tolist() == labels[5]
    assert [layout.count(tmp_path / layout.folders[0]) for layout in source.layouts()[1:3]] == [
        (100, 20),
        (100, 20),
    ]


def test_both_official_forms_of_cifar100_give_the_fine_labels(
    tmp_path: Path, publish: Publish
) -> None:
    fine, coarse = [99, 0, 50, 7], [19, 0, 3, 1]
    for name in ("train", "test"):
        pixels = rows(4, len(name))
        batch: dict[str, object] = {"data": pixels, "fine_labels": fine, "coarse_labels": coarse}
        publish(tmp_path / "cifar-100-python" / name, batch)
        write_binary(tmp_path / "cifar-100-binary", f"{name}.bin", pixels, coarse, fine)
    source = Cifar100(validation_fraction=0.0, variant="full")
    pickled = source.load(tmp_path / "cifar-100-python")
    binary = source.load(tmp_path / "cifar-100-binary")
    assert pickled.train.labels.tolist() == binary.test.labels.tolist() == fine
    assert pickled.train.digest() == binary.train.digest()
    assert (pickled.train.name, pickled.train.n_classes) == ("cifar100", 100)


def test_a_malicious_batch_is_refused_by_name(tmp_path: Path, publish: Publish) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    for name in BATCHES_10:
        publish(folder / name, {"data": rows(1, 0), "labels": [1]})
    (folder / "data_batch_3").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ChecksumError, match=r"data_batch_3: wanted md5 .*; not unpickled"):
        Cifar10().load(tmp_path)


def test_half_a_record_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    write_binary(folder, "train.bin", rows(2, 0), [0, 0], [1, 2])
    (folder / "test.bin").write_bytes(bytes(3073))
    with pytest.raises(DataError, match=r"test\.bin: wanted whole records of 3074 bytes, got 3073"):
        Cifar100().load(tmp_path)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_the_packed_sample_is_balanced_and_says_its_name(data_dir: Path, kind: str) -> None:
    source = (Cifar10 if kind == "cifar10" else Cifar100)(variant="mini")
    splits = source.load(data_dir)
    classes = 10 if kind == "cifar10" else 100
    assert splits.test.name == f"{kind}-mini"
    assert splits.validation.labels.bincount().tolist() == [200 // classes] * classes
    assert splits.train.labels.bincount().tolist() == [1_800 // classes] * classes
    assert splits.test.labels.bincount().tolist() == [1_000 // classes] * classes


def test_auto_takes_the_sample_only_where_there_is_no_full_set(data_dir: Path) -> None:
    def names(variant: Literal["auto", "full", "mini"]) -> list[str]:
        return [layout.name for layout in Cifar100(variant=variant).layouts()]

    assert names("auto") == names("full") + names("mini")
    only_sample = data_dir / "mini"
    assert Cifar100().load(only_sample).train.name == "cifar100-mini"
    with pytest.raises(DataError, match="cifar100: not found"):
        Cifar100(variant="full").load(only_sample)


@pytest.mark.slow
def test_the_packed_cifar100_says_how_many_images_it_has(data_dir: Path) -> None:
    if not (data_dir / "cifar100").is_dir():
        pytest.skip("no packed cifar100/ in the data folder")
    splits = Cifar100(validation_fraction=0.0).load(data_dir)
    assert {splits.train.name, splits.test.name} == {"cifar100 (45k)"}
    assert splits.train.labels.bincount().tolist() == [450] * 100
    assert splits.test.labels.bincount().tolist() == [100] * 100


def test_the_official_test_batch_rebuilt_from_packed_loads_alike(
    data_dir: Path, tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = read_part([data_dir / "cifar10" / "test.npz"], name="cifar10", n_classes=10)
    with lzma.open(data_dir / "cifar10" / "filenames.txt.xz", "rt") as file:
        names = file.read().split()[50_000:]
    batch: dict[str, object] = {
        "batch_label": "testing batch 1 of 1",
        "labels": packed.labels.tolist(),
        "data": packed.images.flatten(1).numpy(),
        "filenames": names,
    }
    publish(tmp_path / "test_batch", batch)
    monkeypatch.undo()  # what is compared from here on is the published MD5
    again = read_python([tmp_path / "test_batch"], label_key="labels", name="cifar10", n_classes=10)
    assert torch.equal(again.images, packed.images)
    assert torch.equal(again.labels, packed.labels)
    assert packed.labels.bincount().tolist() == [1_000] * 10


@pytest.mark.slow
def test_the_full_set_has_its_published_size(data_dir: Path) -> None:
    splits = Cifar10().load(data_dir)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (45_000, 5_000, 10_000)
    assert splits.validation.labels.bincount().tolist() == [500] * 10


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

    monkeypatch.setattr("bitproof.data.cifar._ArrayUnpickler.load", refuse)
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
        ("bitproof.data.cifar", "load_batch"),
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
