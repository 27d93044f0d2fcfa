import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bitproof.core.errors import DataError
from bitproof.data import DATA
from bitproof.data.mnist import (
    DEBIAN_FASHION,
    FashionMnist,
    Mnist,
    count_images,
    read_idx,
    read_pair,
)


def encode(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim])
    return header + np.array(values.shape, ">u4").tobytes() + values.astype(np.uint8).tobytes()


def write(folder: Path, *, first: int, packed: bool) -> None:
    folder.mkdir(parents=True)
    for part, n in (("train", 30), ("t10k", 10)):
        labels = np.arange(n) % 10
        images = np.zeros((n, 28, 28)) + labels[:, None, None] + first
        for name, values in ((f"{part}-images-idx3", images), (f"{part}-labels-idx1", labels)):
            content = encode(values)
            path = folder / f"{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_found_in_its_usual_folders(tmp_path: Path, folder: str, packed: bool) -> None:
    write(tmp_path / folder, first=3, packed=packed)
    for start in (tmp_path, tmp_path / folder):
        splits = Mnist(validation_fraction=0.0).load(start)
        assert (len(splits.train), len(splits.test), splits.train.name) == (30, 10, "mnist")
        assert splits.train.images[:, 0, 5, 5].tolist() == [label % 10 + 3 for label in range(30)]


def test_the_two_sets_do_not_take_each_others_files(tmp_path: Path) -> None:
    write(tmp_path / "mnist", first=0, packed=True)
    write(tmp_path / "fashion-mnist", first=100, packed=False)
    assert int(Mnist().load(tmp_path).test.images[0].min()) == 0
    assert int(FashionMnist().load(tmp_path).test.images[0].min()) == 100
    with pytest.raises(DataError, match="mnist: not found"):
        Mnist().load(tmp_path / "fashion-mnist")


@pytest.mark.skipif(not Path(DEBIAN_FASHION).is_dir(), reason="needs dataset-fashion-mnist")
def test_the_files_of_the_debian_package_are_found() -> None:
    splits = DATA.build("fashion_mnist").load(None)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (54_000, 6_000, 10_000)
    assert splits.test.labels.bincount().tolist() == [1_000] * 10


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=3)),
    packed=st.booleans(),
)
def test_arrays_come_back_plain_or_gzipped(
    tmp_path: Path, values: np.ndarray, packed: bool
) -> None:
    path = tmp_path / ("x.gz" if packed else "x")
    path.write_bytes(gzip.compress(encode(values)) if packed else encode(values))
    assert np.array_equal(read_idx(path, values.ndim), values)


def test_a_pair_keeps_28_by_28(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    (tmp_path / "images").write_bytes(encode(images))
    (tmp_path / "labels").write_bytes(encode(np.array([0, 9, 3, 3, 1])))
    paths = [tmp_path / "images", tmp_path / "labels"]
    data = read_pair(paths, name="toy", n_classes=10)
    assert np.array_equal(data.images[:, 0].numpy(), images)
    assert data.images.shape == (5, 1, 28, 28)
    assert data.labels.tolist() == [0, 9, 3, 3, 1]
    assert count_images(paths) == 5


GOOD = encode(np.zeros((3, 2, 2)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x", GOOD[:-1], "wanted 12 bytes after the header, got 11"),
        ("x", GOOD + b"!", "wanted 12 bytes after the header, got 13"),
        ("x", GOOD[:10], "wanted an IDX header 00000803"),
        ("x", b"<html>", "wanted an IDX header 00000803, got 3c68746d"),
        ("x", encode(np.zeros(12)), "wanted an IDX header 00000803, got 00000801"),
        ("x", GOOD[:4] + b"\xff" * 12, "bytes after the header, got 0"),
        ("x.gz", GOOD, "cannot be read"),
        ("x.gz", gzip.compress(GOOD, mtime=0)[:-9], "cannot be read"),
        ("x.gz", gzip.compress(GOOD, mtime=0)[:-6] + b"\0" * 6, "cannot be read"),
        ("x.gz", gzip.compress(GOOD[:-1], mtime=0), "wanted 12 bytes"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"/{name}: .*{message}"):
        read_idx(tmp_path / name, 3)


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(GOOD)
    (tmp_path / "labels").write_bytes(encode(np.zeros(2)))
    with pytest.raises(DataError, match="labels: wanted 3 labels, got 2"):
        read_pair([tmp_path / "images", tmp_path / "labels"], name="toy", n_classes=10)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: cannot be read"):
        read_idx(tmp_path / "none", 3)
    with pytest.raises(DataError, match="none: cannot be read"):
        count_images([tmp_path / "none"])
