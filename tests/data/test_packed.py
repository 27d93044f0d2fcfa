import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitproof.core.errors import DataError
from bitproof.data.packed import count_labels, decode_strips, mini_layout, read_column, read_part


def strip(images: np.ndarray) -> bytes:
    """Return one lossless WebP of images (n, h, w, 3) that stand one above the other."""
    file = io.BytesIO()
    stacked = images.reshape(-1, images.shape[2], 3)
    Image.fromarray(stacked).save(file, format="WEBP", lossless=True)
    return file.getvalue()


def random_images(n: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, side, side, 3), np.uint8)


def pack(images: np.ndarray, cut: int, suffix: str = "") -> dict[str, np.ndarray]:
    strips = [strip(images[at : at + cut]) for at in range(0, len(images), cut)]
    return {
        f"x{suffix}_webp": np.frombuffer(b"".join(strips), np.uint8),
        f"x{suffix}_off": np.cumsum([0, *(len(item) for item in strips)]),
        f"y{suffix}": (np.arange(len(images)) % 3).astype(np.uint8),
    }


def test_images_come_back_whatever_the_cut(tmp_path: Path) -> None:
    images = random_images(7)
    np.savez(tmp_path / "a.npz", **pack(images[:4], 3))  # type: ignore[arg-type]
    np.savez(tmp_path / "b.npz", **pack(images[4:], 1))  # type: ignore[arg-type]
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    data = read_part(paths, name="toy", n_classes=3)
    assert np.array_equal(data.images.permute(0, 2, 3, 1).numpy(), images)
    assert data.labels.tolist() == [0, 1, 2, 0, 0, 1, 2]
    assert count_labels(paths) == 7


def test_a_mini_file_holds_both_parts_and_tracks(tmp_path: Path) -> None:
    train, test = random_images(5), random_images(2)
    arrays = {**pack(train, 2, "_train"), **pack(test, 2, "_test"), "track": np.arange(5)}
    np.savez(tmp_path / "toy-mini.npz", **arrays)  # type: ignore[arg-type]
    layout = mini_layout("toy", 3, groups="track")
    found = layout.read(tmp_path)
    assert np.array_equal(found.train.images.permute(0, 2, 3, 1).numpy(), train)
    assert np.array_equal(found.test.images.permute(0, 2, 3, 1).numpy(), test)
    assert found.train.name == "toy-mini"
    assert found.groups is not None
    assert found.groups.tolist() == list(range(5))
    assert layout.count(tmp_path) == (5, 2)


def broken(**changes: Any) -> dict[str, Any]:
    return {**pack(random_images(3), 2), **changes}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (broken(x_off=np.array([0, 10])), r"wanted offsets rising from 0 to \d+, got"),
        (broken(x_off=np.array([0])), "wanted offsets rising"),
        (broken(x_off=np.array([0.0, 1.0])), "integer offsets, got uint8 and float64"),
        (broken(x_webp=np.zeros(4, np.int32)), "wanted uint8 bytes"),
        (broken(x_webp=np.zeros(9, np.uint8), x_off=np.array([0, 9])), "strip 0: wanted a WebP"),
        (broken(y=np.zeros(2, np.uint8)), "toy: wanted 3 int64 labels"),
        (broken(y=np.zeros(3)), "wanted integers as 'y', got float64"),
        (broken(y=np.full(3, 9)), "wanted labels from 0 to 2, got 9 to 9"),
        ({"x_webp": np.zeros(3, np.uint8)}, "wanted arrays x_webp, x_off, got x_webp"),
        (broken(y=np.array([None, 1, 2], dtype=object)), "wanted a whole npz file"),
    ],
)
def test_a_malformed_file_is_named(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "toy.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message) as caught:
        read_part([tmp_path / "toy.npz"], name="toy", n_classes=3)
    assert "toy" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 30, 500, -1])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    np.savez(tmp_path / "toy.npz", **pack(random_images(2), 2))  # type: ignore[arg-type]
    content = (tmp_path / "toy.npz").read_bytes()
    (tmp_path / "toy.npz").write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"toy\.npz: wanted a whole npz file"):
        read_part([tmp_path / "toy.npz"], name="toy", n_classes=3)


def test_a_damaged_strip_is_found(tmp_path: Path) -> None:
    blob = pack(random_images(2), 2)["x_webp"][:-200]
    with pytest.raises(DataError, match=r"x\.npz: strip 0: wanted a WebP image"):
        decode_strips(blob, np.array([0, len(blob)]), tmp_path / "x.npz")


def test_a_strip_of_another_width_is_refused(tmp_path: Path) -> None:
    blob = np.frombuffer(strip(random_images(2, side=16)), np.uint8)
    with pytest.raises(DataError, match=r"wanted 32 x 32 \* n pixels, got 16 x 32"):
        decode_strips(blob, np.array([0, len(blob)]), tmp_path / "x.npz")


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match="wanted an npz file of named arrays, got a single array"):
        read_column([tmp_path / "x.npy"], "y")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: wanted a whole npz file: .*No such file"):
        read_column([tmp_path / "none"], "y")
