import gzip
from pathlib import Path

import numpy as np
import pytest

from bitproof.core.errors import DataError
from bitproof.data import DATA
from bitproof.data.mnist import DEBIAN_FASHION, FashionMnist, Mnist


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
