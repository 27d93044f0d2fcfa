import hashlib
import lzma
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from bitproof.core.errors import DataError, UnsafeFileError
from bitproof.data.cifar import Cifar10, Cifar100
from bitproof.data.cifar_batches import read_python
from bitproof.data.dataset import Dataset
from bitproof.data.packed import read_part

BATCHES_10 = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def rows(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)


def write_python(folder: Path, name: str, pixels: np.ndarray, **labels: list[int]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps({"data": pixels, **labels}, protocol=2))


def write_binary(folder: Path, name: str, pixels: np.ndarray, *labels: Sequence[int]) -> None:
    folder.mkdir(exist_ok=True)
    columns = [np.array(column, np.uint8)[:, None] for column in labels]
    np.concatenate([*columns, pixels], axis=1).tofile(folder / name)


def test_both_official_forms_of_cifar10_load_alike(tmp_path: Path) -> None:
    pixels = [rows(20, seed) for seed in range(6)]
    labels = [[(seed + at) % 10 for at in range(20)] for seed in range(6)]
    for name, some, classes in zip(BATCHES_10, pixels, labels, strict=True):
        write_python(tmp_path / "cifar-10-batches-py", name, some, labels=classes)
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


def test_both_official_forms_of_cifar100_give_the_fine_labels(tmp_path: Path) -> None:
    fine, coarse = [99, 0, 50, 7], [19, 0, 3, 1]
    for name in ("train", "test"):
        pixels = rows(4, len(name))
        write_python(
            tmp_path / "cifar-100-python", name, pixels, fine_labels=fine, coarse_labels=coarse
        )
        write_binary(tmp_path / "cifar-100-binary", f"{name}.bin", pixels, coarse, fine)
    source = Cifar100(validation_fraction=0.0, variant="full")
    pickled = source.load(tmp_path / "cifar-100-python")
    binary = source.load(tmp_path / "cifar-100-binary")
    assert pickled.train.labels.tolist() == binary.test.labels.tolist() == fine
    assert pickled.train.digest() == binary.train.digest()
    assert (pickled.train.name, pickled.train.n_classes) == ("cifar100", 100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1]}, r"wanted uint8 'data' of shape \(n, 3072\), got <class 'NoneType'>"),
        ({"data": np.zeros((1, 10), np.uint8), "labels": [1]}, r"got uint8 \(1, 10\)"),
        ({"data": np.zeros((1, 3072)), "labels": [1]}, "got float64"),
        ({"data": rows(1, 0)}, "wanted a list of integers from 0 to 9 as 'labels'"),
        ({"data": rows(1, 0), "labels": ["1"]}, "wanted a list of integers"),
        ({"data": rows(1, 0), "labels": [1, 2]}, "wanted 1 'labels', got 2"),
        ({"data": rows(1, 0), "labels": [2**70]}, "integers from 0 to 9"),
        ({"data": rows(1, 0), "labels": [10]}, "integers from 0 to 9"),
    ],
)
def test_a_malformed_batch_is_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=message):
        read_python([path], label_key="labels", name="cifar10", n_classes=10)


def test_a_hostile_batch_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    for name in BATCHES_10:
        write_python(folder, name, rows(1, 0), labels=[1])
    (folder / "data_batch_3").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UnsafeFileError, match=r"data_batch_3: refuses to load 'os\.system'"):
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
    assert Cifar100().load(data_dir).train.name == "cifar100-mini"
    with pytest.raises(DataError, match="cifar100: not found"):
        Cifar100(variant="full").load(data_dir)


def official_batch(data: Dataset, names: list[str], label: str) -> bytes:
    """Return the batch as Python 2 pickled it, byte for byte."""
    memo = iter(range(1, 100_000))

    def put() -> bytes:
        at = next(memo)
        return b"q" + bytes([at]) if at < 256 else b"r" + at.to_bytes(4, "little")

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value + put()

    content = [b"\x80\x02}", put(), b"(", text(b"batch_label"), text(label.encode())]
    content += [text(b"labels"), b"]", put()]
    classes = data.labels.tolist()
    for at in range(0, len(classes), 1_000):
        content += [b"(", *(b"K" + bytes([c]) for c in classes[at : at + 1_000]), b"e"]
    pixels = data.images.numpy().tobytes()
    content += [text(b"data"), b"cnumpy.core.multiarray\n_reconstruct\n", put()]
    content += [b"cnumpy\nndarray\n", put(), b"K\x00\x85", b"U\x01b\x87R", put()]
    content += [b"(K\x01M", len(classes).to_bytes(2, "little"), b"M\x00\x0c\x86"]
    content += [b"cnumpy\ndtype\n", put(), b"U\x02u1K\x00K\x01\x87R", put()]
    content += [b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"]
    content += [b"\x89T", len(pixels).to_bytes(4, "little"), pixels, b"tb"]
    content += [text(b"filenames"), b"]", put()]
    for at in range(0, len(names), 1_000):
        content += [b"(", *(text(name.encode()) for name in names[at : at + 1_000]), b"e"]
    return b"".join([*content, b"u."])


def test_the_official_test_batch_rebuilt_from_packed_loads_alike(
    data_dir: Path, tmp_path: Path
) -> None:
    packed = read_part([data_dir / "cifar10" / "test.npz"], name="cifar10", n_classes=10)
    with lzma.open(data_dir / "cifar10" / "filenames.txt.xz", "rt") as file:
        names = file.read().split()[50_000:]
    content = official_batch(packed, names, "testing batch 1 of 1")
    assert hashlib.md5(content).hexdigest() == "40351d587109b95175f43aff81a1287e"  # published
    (tmp_path / "test_batch").write_bytes(content)
    again = read_python([tmp_path / "test_batch"], label_key="labels", name="cifar10", n_classes=10)
    assert torch.equal(again.images, packed.images)
    assert torch.equal(again.labels, packed.labels)
    assert packed.labels.bincount().tolist() == [1_000] * 10


@pytest.mark.slow
def test_the_full_set_has_its_published_size(data_dir: Path) -> None:
    splits = Cifar10().load(data_dir)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (45_000, 5_000, 10_000)
    assert splits.validation.labels.bincount().tolist() == [500] * 10
