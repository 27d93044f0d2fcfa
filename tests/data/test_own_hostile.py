"""Files of a user's own that are damaged, of another kind, or meant to harm: one line each."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bitproof.core.errors import BitproofError, DataError
from bitproof.data import DATA, Splits


def load(word: str, **fields: object) -> Splits:
    return DATA.build({"kind": word, **fields}).load()


def encoded(form: str, seed: int = 0, side: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def huge_png(side: int) -> bytes:
    """Return a PNG of a few bytes that says it has side * side pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    begin = b"\x89PNG\r\n\x1a\n"
    return begin + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pets(folder: Path, *, cat: bytes, name: str = "0.png") -> Path:
    """Write a folder of two classes and two parts, with this file among the cats."""
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for number in range(1, 4):
                file = folder / part / label / f"{number}.png"
                file.write_bytes(encoded("PNG", number))
    (folder / "train" / "cat" / name).write_bytes(cat)
    return folder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "wanted an image that decodes"),
        (b"no image at all", "wanted an image that decodes"),
        (encoded("PNG")[:60], "wanted an image that decodes"),
        (encoded("JPEG", side=64)[:700], "wanted an image that decodes"),
        (huge_png(11_000), "wanted at most 100,000,000 pixels, got 11000 x 11000"),
        (huge_png(2_000_000), "wanted an image that decodes"),
        (encoded("PNG", side=9), r"wanted images of one size, got .*; give a size"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "wanted an image that decodes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "wanted an image that decodes"),
    ],
    ids=[
        "empty",
        "text",
        "cut png",
        "cut jpeg",
        "large",
        "bomb",
        "other size",
        "svg",
        "postscript",
    ],
)
def test_a_file_that_is_no_fitting_image_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(f"folder:{pets(tmp_path / 'x', cat=content)}")
    assert "cat/0.png" in str(caught.value) or "got 9 x 9" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_files_that_are_no_images_are_left_out_and_told(tmp_path: Path) -> None:
    splits = load(f"folder:{pets(tmp_path / 'x', cat=b'a,b', name='labels.csv')}")
    assert len(splits.train) + len(splits.validation) == 6
    assert "left out what is no image: 1 files ('labels.csv')" in splits.notes[0]


def drop_class(folder: Path) -> None:
    for file in (folder / "test" / "dog").iterdir():
        file.unlink()
    (folder / "test" / "dog").rmdir()


def add_class(folder: Path) -> None:
    (folder / "test" / "dogg").mkdir()


def empty_class(folder: Path) -> None:
    (folder / "train" / "ape").mkdir()
    (folder / "test" / "ape").mkdir()


def no_classes(folder: Path) -> None:
    for part in ("cat", "dog"):
        (folder / "test" / part).rename(folder / part)


def only_test(folder: Path) -> None:
    (folder / "train").rename(folder / "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_class, "test: wanted the classes of training, got no class 'dog'"),
        (add_class, r"got 'dogg', which training lacks\. Did you mean 'dog'\?"),
        (empty_class, "train/ape: wanted images, there are none"),
        (no_classes, "test: wanted one folder for each class, there is none"),
        (only_test, "train beside .*test"),
    ],
)
def test_another_layout_is_one_line(
    tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = pets(tmp_path / "x", cat=encoded("PNG", 9))
    change(folder)
    with pytest.raises(DataError, match=message) as caught:
        load(f"folder:{folder}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("folder:{at}/nowhere", "wanted data at"),
        ("folder:{at}/a.txt", "wanted a folder of images"),
        ("folder:{at}/empty", "wanted one folder for each class, at least two, got none"),
        ("npz:{at}/a.txt", r"ends in \.npz"),
        ("npz:{at}/empty", "it holds no arrays"),
        ("parquet:{at}/a.txt", r"ends in \.parquet"),
        ("parquet:{at}/empty", r"wanted \.parquet files"),
    ],
)
def test_a_place_of_another_kind_is_one_line(tmp_path: Path, word: str, message: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        load(word.format(at=tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def npz(path: Path, **arrays: object) -> None:
    np.savez(path, **{name: np.array(value) for name, value in arrays.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, r"wanted arrays x_train, .*, it holds a; name them"),
        ({"x_train": np.zeros((4, 2)), "y_train": [0, 1]}, "wanted 4 int64 labels"),
        ({"x_train": np.zeros((4, 2))}, "wanted inputs and labels of the train part, got only"),
        ({"x_test": np.zeros((4, 2)), "y_test": [0] * 4}, "wanted a training part too"),
        ({"x": np.array([["a"]] * 4), "y": [0] * 4}, "wanted numbers as x and y"),
        ({"x": np.array([[None]] * 4, object), "y": [0] * 4}, "wanted a whole npz file"),
        ({"x": np.zeros((4, 2)), "y": [0, -1, 1, 0]}, "wanted labels from 0"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, int)}, "wanted training images, there are none"),
        ({"x": np.full((4, 1, 2, 2), 300), "y": [0, 1, 0, 1]}, "wanted pixels from 0 to 255"),
        ({"x": np.full((4, 2), np.nan), "y": [0, 1, 0, 1]}, "wanted pixels in"),
    ],
)
def test_arrays_that_are_no_data_set_are_one_line(
    tmp_path: Path, arrays: dict[str, object], message: str
) -> None:
    npz(tmp_path / "a.npz", **arrays)
    with pytest.raises(BitproofError, match=message) as caught:
        load(f"npz:{tmp_path / 'a.npz'}")
    assert len(str(caught.value).splitlines()) == 1


def test_an_npz_or_npy_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 3, 9, 9), }"
    head = header.ljust(117) + "\n"
    claimed = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(10)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", claimed)
    with pytest.raises(DataError, match=r"claims 243,000,000,000 bytes of array"):
        load(f"npz:{tmp_path / 'a.npz'}")
    (tmp_path / "x_train.npy").write_bytes(claimed)
    np.save(tmp_path / "y_train.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"x_train\.npy: claims 243,000,000,000 bytes"):
        load(f"npz:{tmp_path}")


def test_what_does_not_fit_into_memory_is_said_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitproof.data.memory.free_bytes", lambda: 500)
    folder = pets(tmp_path / "x", cat=encoded("PNG", 9))
    with pytest.raises(DataError, match=r"x: 7 inputs of 3 x 8 x 8 take 0\.0 GB.*train_size"):
        load(f"folder:{folder}")
    assert len(load(f"folder:{folder},size=4,train_size=2,test_size=2").test) == 2
    npz(tmp_path / "a.npz", x=np.zeros((90, 9)), y=np.arange(90) % 2)
    with pytest.raises(DataError, match=r"90 inputs of 9 x 8 take"):
        load(f"npz:{tmp_path / 'a.npz'}")


def write_table(path: Path, images: list[object], labels: list[object]) -> None:
    pq.write_table(pa.table({"image": images, "label": labels}), path)


PICTURE = {"bytes": encoded("PNG"), "path": None}


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([PICTURE] * 4, [0, 1, None, 1], "wanted a label in every row"),
        ([PICTURE] * 4, [0, 1, -1, 1], "wanted classes from 0, got -1"),
        ([PICTURE] * 4, [0.5, 1.0, 0.5, 1.0], "wanted whole numbers or words as labels"),
        ([*[PICTURE] * 3, {"bytes": b"x", "path": None}], [0, 1, 0, 1], r"row \d: wanted an image"),
        ([*[PICTURE] * 3, {"bytes": None, "path": "a.png"}], [0, 1, 0, 1], "only names files"),
        (["a.png"] * 4, [0, 1, 0, 1], "wanted images, or lists of numbers"),
        ([[0.1, 0.2]] * 3 + [[0.1]], [0, 1, 0, 1], "wanted lists of one length"),
    ],
)
def test_tables_that_are_no_data_set_are_one_line(
    tmp_path: Path, images: list[object], labels: list[object], message: str
) -> None:
    write_table(tmp_path / "a.parquet", images, labels)
    with pytest.raises(DataError, match=message) as caught:
        load(f"parquet:{tmp_path / 'a.parquet'}", test_fraction=0.5)
    assert len(str(caught.value).splitlines()) == 1


def test_other_columns_and_shards_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"pic": [PICTURE] * 4, "kind": [0, 1, 0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"wanted a column image or .*, got pic, kind; name it"):
        load(f"parquet:{tmp_path / 'a.parquet'}")
    with pytest.raises(DataError, match=r"no column 'pick' .*Did you mean 'pic'"):
        load(f"parquet:{tmp_path / 'a.parquet'},image=pick")
    splits = load(f"parquet:{tmp_path / 'a.parquet'},image=pic,label=kind", test_fraction=0.5)
    assert len(splits.test) == 2
    write_table(tmp_path / "test-0.parquet", [PICTURE] * 4, [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"a\.parquet: belongs to no part"):
        load(f"parquet:{tmp_path}")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(40) + b"PAR1", b"{}"])
def test_damaged_parquet_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match="wanted a parquet file, whole and undamaged") as caught:
        load(f"parquet:{tmp_path / 'a.parquet'}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "state",
    ["", "[]", "{}", '{"_data_files": [{"filename": "../x.arrow"}]}', '{"_data_files": 3}'],
)
def test_a_saved_set_cannot_name_files_elsewhere(tmp_path: Path, state: str) -> None:
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(DataError, match=r"state\.json"):
        load(f"parquet:{tmp_path}")
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "x.arrow"}]}))
    (tmp_path / "x.arrow").write_bytes(b"no stream")
    with pytest.raises(DataError, match="wanted an Arrow stream"):
        load(f"parquet:{tmp_path}")


def test_splits_that_are_no_parts_are_refused(tmp_path: Path) -> None:
    for names in (["train", "unsupervised"], ["train", "training"], ["../x"], "x", []):
        (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": names}))
        for name in ("train", "training", "unsupervised"):
            (tmp_path / name).mkdir(exist_ok=True)
            state = {"_data_files": [{"filename": "x.arrow"}]}
            (tmp_path / name / "state.json").write_text(json.dumps(state))
        with pytest.raises(DataError, match=r"dataset_dict\.json: wanted"):
            load(f"parquet:{tmp_path}")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "npz", "parquet"])
def test_whatever_bytes_change_it_loads_or_says_why_not(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "x" / "train" / "cat" / "0.png"
    if form == "npz":
        path, word = tmp_path / "a.npz", f"npz:{tmp_path / 'a.npz'}"
        npz(path, x=rng.random((12, 5)), y=np.arange(12) % 2)
    elif form == "parquet":
        path, word = tmp_path / "a.parquet", f"parquet:{tmp_path / 'a.parquet'}"
        write_table(path, [PICTURE] * 8, [0, 1] * 4)
    else:
        word = f"folder:{pets(tmp_path / 'x', cat=encoded(form))},size=4"
    whole = path.read_bytes()
    told = []
    for _ in range(150):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), 1 + int(rng.integers(4))):
            changed[at] ^= 1 << int(rng.integers(8))
        end = int(rng.integers(len(whole))) if rng.random() < 0.3 else len(whole)
        path.write_bytes(bytes(changed[:end]))
        try:
            load(word)
        except BitproofError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(len(line.splitlines()) == 1 for line in told)
