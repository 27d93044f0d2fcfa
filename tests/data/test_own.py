"""Data of a user's own: folders, arrays, tables, functions."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bitproof.core.errors import DataError, InputRangeError, SpecError, UnknownKindError
from bitproof.core.user_code import looking_in
from bitproof.data import DATA, Dataset, Splits
from bitproof.data.decoding import Decoder, Form


def load(word: str, **fields: object) -> Splits:
    return DATA.build({"kind": word, **fields}).load()


def picture(seed: int, high: int = 8, wide: int = 8, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (high, wide, channels), np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def png(seed: int, high: int = 8, wide: int = 8) -> bytes:
    file = io.BytesIO()
    picture(seed, high, wide).save(file, "PNG")
    return file.getvalue()


def fill(folder: Path, classes: dict[str, int], *, first: int = 0, **size: int) -> int:
    """Write so many images of each class; return the number of the next one."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for _ in range(count):
            picture(first, **size).save(folder / name / f"{first:03}.png")
            first += 1
    return first


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return a folder of two classes in three parts."""
    following = fill(tmp_path / "pets" / "train", {"cat": 6, "dog": 6})
    following = fill(tmp_path / "pets" / "val", {"cat": 2, "dog": 2}, first=following)
    fill(tmp_path / "pets" / "test", {"cat": 3, "dog": 3}, first=following)
    return tmp_path / "pets"


def test_a_folder_gives_each_image_with_its_class(pets: Path) -> None:
    splits = load(f"folder:{pets}")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12, 4, 6]
    assert splits.train.class_names == splits.test.class_names == ("cat", "dog")
    assert splits.notes == ()
    for part, folder in (
        (splits.train, "train"),
        (splits.validation, "val"),
        (splits.test, "test"),
    ):
        wanted = {
            (np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes(), label)
            for label, name in enumerate(("cat", "dog"))
            for file in (pets / folder / name).iterdir()
        }
        found = zip(part.images.numpy(), part.labels.tolist(), strict=True)
        assert {(image.tobytes(), label) for image, label in found} == wanted


def test_images_of_a_folder_are_no_longer_sorted_by_class(pets: Path) -> None:
    labels = load(f"folder:{pets}").train.labels
    assert (labels.diff() < 0).any()
    assert torch.equal(labels, load(f"folder:{pets}").train.labels)


def test_a_folder_of_classes_alone_gets_a_test_part_by_class_and_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "x", {"a": 10, "b": 20})
    splits = load(f"folder:{tmp_path / 'x'}", validation_fraction=0.0, test_fraction=0.3)
    assert splits.test.labels.bincount().tolist() == [3, 6]
    assert splits.train.labels.bincount().tolist() == [7, 14]
    assert "9 of 30 images, 0.3 of each class, were cut off" in splits.notes[0]
    other = load(f"folder:{tmp_path / 'x'}", split_seed=1, test_fraction=0.3)
    assert other.test.digest() != splits.test.digest()
    seen = {image.tobytes() for image in splits.train.images.numpy()}
    assert not seen & {image.tobytes() for image in splits.test.images.numpy()}


def test_without_a_test_folder_validation_is_the_test_part(tmp_path: Path) -> None:
    following = fill(tmp_path / "x" / "train", {"a": 4, "b": 4})
    fill(tmp_path / "x" / "valid", {"a": 1, "b": 2}, first=following)
    splits = load(f"folder:{tmp_path / 'x'}", validation_fraction=0.25)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 2, 3)
    assert "validation is the test part" in splits.notes[0]


def test_sizes_cut_a_mixed_sample(tmp_path: Path) -> None:
    fill(tmp_path / "x" / "train", {"a": 30, "b": 30})
    fill(tmp_path / "x" / "test", {"a": 20, "b": 20}, first=60)
    splits = load(f"folder:{tmp_path / 'x'}", train_size=20, test_size=10, validation_fraction=0.0)
    assert len(splits.train) == 20
    assert len(splits.test) == 10
    assert set(splits.train.labels.tolist()) == set(splits.test.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_resizing_is_pillows(fit: str, tmp_path: Path) -> None:
    fill(tmp_path / "x" / "train", {"a": 1, "b": 1}, high=20, wide=40)
    fill(tmp_path / "x" / "test", {"a": 1, "b": 1}, first=2, high=20, wide=40)
    found = load(f"folder:{tmp_path / 'x'},size=10,fit={fit}", validation_fraction=0.0)
    whole = picture(2, 20, 40).resize((20 if fit == "crop" else 10, 10), Image.Resampling.BILINEAR)
    wanted = np.asarray(whole.crop((5, 0, 15, 10)) if fit == "crop" else whole)
    kept = found.test.images[found.test.labels == 0][0]
    assert np.array_equal(kept.numpy(), wanted.transpose(2, 0, 1))


def test_grey_and_deep_pictures_become_bytes(tmp_path: Path) -> None:
    deep = np.array([[0, 257], [32896, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    decoder = Decoder("deep", 1, Form(channels=1))
    decoder.decode([0], [tmp_path / "deep.png"], ["deep.png"])
    assert decoder.images.flatten().tolist() == [0, 1, 128, 255]


def test_an_npz_of_parts_loads_as_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (30, 3, 4, 4), np.uint8), rng.integers(0, 3, 30)
    np.savez(tmp_path / "a.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    splits = load(f"npz:{tmp_path / 'a.npz'}", validation_fraction=0.0)
    assert np.array_equal(splits.train.images.numpy(), x[:20])
    assert np.array_equal(splits.test.labels.numpy(), y[20:])


def test_an_npz_as_of_medmnist_loads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    for part, count in (("train", 12), ("val", 4), ("test", 6)):
        parts[f"{part}_images"] = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
        parts[f"{part}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez_compressed(tmp_path / "m.npz", **parts)
    with pytest.raises(
        DataError, match=r"got \(12, 8, 8, 3\), which is \(n, h, w, c\); say layout"
    ):
        load(f"npz:{tmp_path / 'm.npz'}")
    splits = load(f"npz:{tmp_path / 'm.npz'},layout=channels_last")
    assert np.array_equal(
        splits.validation.images.numpy(), parts["val_images"].transpose(0, 3, 1, 2)
    )
    assert splits.test.labels.tolist() == [0, 1] * 3


def test_grey_images_without_channels_are_asked_about(tmp_path: Path) -> None:
    x, y = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", images=x, labels=y)
    with pytest.raises(DataError, match=r"wanted to know the axes of \(20, 8, 8\).*no_channels"):
        load(f"npz:{tmp_path / 'a.npz'}")
    splits = load(f"npz:{tmp_path / 'a.npz'},layout=no_channels")
    assert splits.test.images.shape[1:] == (1, 8, 8)
    assert any("training images too" in note for note in splits.notes)


def test_labels_sorted_by_class_are_mixed_and_said(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((40, 5), np.float32), np.repeat(np.arange(4), 10)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    splits = load(f"npz:{tmp_path / 'a.npz'}", validation_fraction=0.0)
    assert any("sorted by class" in note for note in splits.notes)
    for image, label in zip(splits.train.images, splits.train.labels, strict=True):
        assert y[np.flatnonzero((x == image.numpy()).all(1))[0]] == label


def test_npy_files_in_a_folder_are_one_set(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((20, 6, 16), np.float32)
    for name, array in (("x_train", x), ("y_train", np.arange(20) % 2)):
        np.save(tmp_path / f"{name}.npy", array)
    splits = load(f"npz:{tmp_path}")
    assert splits.train.images.shape[1:] == (6, 16)
    with pytest.raises(DataError, match=r"got one array; put x_train\.npy"):
        load(f"npz:{tmp_path / 'x_train.npy'}")


def test_values_outside_the_range_tell_the_cure(tmp_path: Path) -> None:
    y = np.arange(10) % 2
    np.savez(tmp_path / "a.npz", x=np.linspace(-2, 2, 40).reshape(10, 4), y=y)
    with pytest.raises(InputRangeError, match="move normalisation into the model"):
        load(f"npz:{tmp_path / 'a.npz'}")
    np.savez(tmp_path / "b.npz", x=np.linspace(0, 255, 40).reshape(10, 4), y=y)
    with pytest.raises(InputRangeError, match="divide by 255"):
        load(f"npz:{tmp_path / 'b.npz'}")


def table(n: int, *, first: int = 0, names: tuple[str, ...] = ("a", "b", "c")) -> pa.Table:
    """Return a table as `datasets` writes it, sorted by class."""
    images = [{"bytes": png(first + row, 6, 9), "path": f"{row}.png"} for row in range(n)]
    labels = pa.array([row * 3 // n for row in range(n)], pa.int64())
    features = {"img": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table({"img": images, "label": labels}).replace_schema_metadata(metadata)


def test_parquet_shards_load_with_their_classes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for shard in range(2):
        path = tmp_path / "data" / f"train-0000{shard}-of-00002.parquet"
        pq.write_table(table(12, first=shard * 12), path)
    pq.write_table(table(6, first=24), tmp_path / "data" / "test-00000-of-00001.parquet")
    splits = load(f"parquet:{tmp_path}", validation_fraction=0.0)
    assert splits.train.class_names == ("a", "b", "c")
    assert (len(splits.train), len(splits.test)) == (24, 6)
    wanted = {}
    for row in range(30):
        n, at = (12, row % 12) if row < 24 else (6, row - 24)
        wanted[np.asarray(picture(row, 6, 9)).transpose(2, 0, 1).tobytes()] = at * 3 // n
    for part in (splits.train, splits.test):
        for image, label in zip(part.images.numpy(), part.labels.tolist(), strict=True):
            assert wanted[image.tobytes()] == label


def test_a_test_part_without_labels_is_left_out_and_told(tmp_path: Path) -> None:
    pq.write_table(table(12), tmp_path / "train-0.parquet")
    pq.write_table(table(6, first=12), tmp_path / "validation-0.parquet")
    kept_back = table(3, first=18).set_column(1, "label", pa.array([-1] * 3, pa.int64()))
    pq.write_table(kept_back, tmp_path / "test-0.parquet")
    splits = load(f"parquet:{tmp_path}", validation_fraction=0.0)
    assert (len(splits.train), len(splits.test)) == (12, 6)
    assert "the test part has no labels (all are -1): left out" in splits.notes
    assert "note 1: the test part has no labels" in repr(splits)


def test_one_parquet_file_is_cut_and_mixed(tmp_path: Path) -> None:
    pq.write_table(table(15), tmp_path / "all.parquet")
    splits = load(f"parquet:{tmp_path / 'all.parquet'},size=4", test_fraction=0.2)
    assert splits.test.labels.bincount().tolist() == [1, 1, 1]
    assert splits.test.images.shape == (3, 3, 4, 4)


def test_a_saved_set_loads_without_the_package_that_wrote_it(tmp_path: Path) -> None:
    # The layout of `datasets` 4: written here byte by byte as save_to_disk does.
    for part, n in (("train", 12), ("test", 6)):
        folder = tmp_path / part
        folder.mkdir(parents=True)
        own = table(n, first=n)
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", own.schema) as stream:
            stream.write_table(own)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": part}
        (folder / "state.json").write_text(json.dumps(state))
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    splits = load(f"parquet:{tmp_path}", validation_fraction=0.0)
    assert (len(splits.train), len(splits.test)) == (12, 6)
    assert splits.test.class_names == ("a", "b", "c")


def test_lists_of_numbers_and_words_are_a_table_of_features(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((20, 5)).astype(np.float32)
    words = ["no" if row % 2 else "yes" for row in range(20)]
    pq.write_table(pa.table({"x": x.tolist(), "y": words}), tmp_path / "t.parquet")
    splits = load(f"parquet:{tmp_path / 't.parquet'}")
    assert splits.train.images.shape[1:] == (5,)
    assert splits.train.class_names == ("no", "yes")


def write_words(folder: Path, **parts: str) -> Path:
    """Write parts whose labels are words; the value of a row is the number of its letter."""
    for part, words in parts.items():
        columns = {"x": [[ord(word) / 200, row / 99] for row, word in enumerate(words)]}
        pq.write_table(pa.table(columns | {"y": list(words)}), folder / f"{part}.parquet")
    return folder


def test_words_have_the_numbers_of_the_training_part_in_all_parts(tmp_path: Path) -> None:
    splits = load(f"parquet:{write_words(tmp_path, train='abcabc', test='acca')}")
    assert splits.test.class_names == splits.train.class_names == ("a", "b", "c")
    letters = (splits.test.images[:, 0] * 200).round().int() - ord("a")
    assert letters.tolist() == splits.test.labels.tolist()
    write_words(tmp_path, test="axy")
    with pytest.raises(
        DataError, match=r"test\.parquet: y: wanted .* got 'x', 'y', which training"
    ):
        load(f"parquet:{tmp_path}")
    pq.write_table(pa.table({"x": [[0.0, 0.0]], "y": [1]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="wanted words as labels, as training has, got whole numb"):
        load(f"parquet:{tmp_path}")


def test_names_of_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    pq.write_table(table(12), tmp_path / "train.parquet")
    pq.write_table(table(6, first=12, names=("a", "c", "b")), tmp_path / "test.parquet")
    wanted = "test: wanted the classes of train in their order, got 'c' as class 1, which is 'b'"
    with pytest.raises(DataError, match=wanted):
        load(f"parquet:{tmp_path}")
    data = Dataset.from_arrays(torch.rand(4, 2), [0, 1, 2, 1])
    train, test = data.with_names("abc"), data.with_names("acb")
    with pytest.raises(DataError, match=wanted):
        Splits(train, data.subset([]), test)
    assert Splits(train, data.subset([]), data).train.class_names == ("a", "b", "c")


def test_classes_are_compared_on_all_rows_not_on_the_first(tmp_path: Path) -> None:
    write_words(tmp_path, train="abcdefgh", test="hgfedcba")
    splits = load(f"parquet:{tmp_path},train_size=3,validation_fraction=0.0")
    assert (len(splits.train), len(splits.test)) == (3, 8)
    assert splits.train.n_classes == splits.test.n_classes == 8
    pq.write_table(pa.table({"x": [[0.5, 0.5]] * 2, "y": [0, 1]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"x": [[0.5, 0.4]] * 2, "y": [0, 4]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="test: wanted the classes of training, got also 4"):
        load(f"parquet:{tmp_path},test_size=1")


@pytest.mark.parametrize("dtype", [np.int64, np.uint16])
def test_wide_integers_are_pixels_unless_they_may_be_fractions(
    dtype: type[np.generic], tmp_path: Path
) -> None:
    x, y = np.arange(320).reshape(20, 1, 4, 4) % 256, np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x.astype(dtype), y=y)
    assert float(load(f"npz:{tmp_path / 'a.npz'}").train.inputs().max()) == 1.0
    np.savez(tmp_path / "a.npz", x=(x % 2).astype(dtype), y=y)
    with pytest.raises(DataError, match=r"int\d+ from 0 to 1; store uint8 if 255 is white, or fl"):
        load(f"npz:{tmp_path / 'a.npz'}")
    np.savez(tmp_path / "a.npz", x=(x % 2).astype(np.uint8), y=y)
    assert float(load(f"npz:{tmp_path / 'a.npz'}").train.inputs().max()) == np.float32(1 / 255)


def test_wide_integers_of_a_table_are_taken_as_those_of_arrays(tmp_path: Path) -> None:
    path, y = tmp_path / "t.parquet", [row % 2 for row in range(300)]
    dark = [[[[row % 2, 0], [0, 0]]] for row in range(300)]
    bright = [*dark[:-1], [[[255, 0], [0, 0]]]]  # in the second piece that is read
    pq.write_table(pa.table({"x": bright, "y": y}), path)
    splits = load(f"parquet:{path}", validation_fraction=0.0)
    assert max(float(part.inputs().max()) for part in (splits.train, splits.test)) == 1.0
    pq.write_table(pa.table({"x": dark, "y": y}), path)
    with pytest.raises(DataError, match="got int64 from 0 to 1; store uint8"):
        load(f"parquet:{path}")
    bytes_ = pa.array(dark, pa.list_(pa.list_(pa.list_(pa.uint8()))))
    pq.write_table(pa.table({"x": bytes_, "y": y}), path)
    assert load(f"parquet:{path}").train.images.dtype == torch.uint8


def test_a_stated_layout_is_believed(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).integers(0, 256, (20, 8, 16, 3), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y)
    pq.write_table(pa.table({"x": x.tolist(), "y": y}), tmp_path / "t.parquet")
    for word in (f"npz:{tmp_path / 'a.npz'}", f"parquet:{tmp_path / 't.parquet'}"):
        with pytest.raises(DataError, match=r"say layout = 'channels_last' .* 'channels_first'"):
            load(word)
        assert load(f"{word},layout=channels_first").train.images.shape[1:] == (8, 16, 3)
        assert load(f"{word},layout=channels_last").train.images.shape[1:] == (3, 8, 16)
    with pytest.raises(DataError, match=r"say layout='channels_first'"):
        Dataset.from_arrays(x, y)
    assert Dataset.from_arrays(x, y, layout="channels_first").images.shape == (20, 8, 16, 3)
    read = Dataset.from_loader([(x, y)], layout="channels_first")
    assert read.images.shape == (20, 8, 16, 3)


def test_pictures_in_a_table_have_no_layout(tmp_path: Path) -> None:
    pq.write_table(table(12), tmp_path / "all.parquet")
    with pytest.raises(DataError, match="wanted no layout = 'channels_last' of pictures"):
        load(f"parquet:{tmp_path / 'all.parquet'},layout=channels_last")


MODULE = """
import torch
import bitproof as bp

class Pairs(torch.utils.data.Dataset):
    def __init__(self, n, first=0):
        self.images = torch.arange(first, first + n).reshape(n, 1, 1, 1).expand(n, 1, 2, 2) / 99
    def __len__(self):
        return len(self.images)
    def __getitem__(self, number):
        return self.images[number], number % 2

def loader(n, first=0):
    return torch.utils.data.DataLoader(Pairs(n, first), batch_size=4)

def sets():
    return Pairs(10), Pairs(6, 10)
def loaders():
    return loader(10), loader(4, 20), loader(6, 10)
def parts():
    rows = [{"img": [[[i / 99]]], "label": i % 2} for i in range(20)]
    return {"train": rows[:10], "test": rows[10:]}
def splits(seed):
    data = bp.Dataset.from_loader(loader(20 + seed))
    return bp.Splits(data.first(10), data.subset([]), data.subset(range(10, 16)))
def swapped():
    train, test = (bp.Dataset.from_loader(loader(8, first)) for first in (0, 8))
    return train.with_names(["a", "b"]), test.with_names(["b", "a"])
def one(data_dir):
    return loader(20)
def number():
    return 3
def wrong():
    raise KeyError("nothing there")
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a module of the user's, which is not the working directory."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "own_data_module.py").write_text(MODULE)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("sets", (8, 2, 6)),
        ("loaders", (10, 4, 6)),
        ("parts", (8, 2, 10)),
        ("splits", (8, 2, 6)),
        ("one", (14, 2, 4)),
    ],
)
def test_a_function_may_return_any_of_these(
    beside: Path, name: str, sizes: tuple[int, int, int]
) -> None:
    with looking_in(beside):
        splits = load(f"own_data_module:{name}")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes


def test_what_a_function_does_wrong_is_one_line(beside: Path) -> None:
    with looking_in(beside):
        with pytest.raises(
            DataError, match=r"KeyError: 'nothing there' \(.*own_data_module.py:\d+\)"
        ):
            load("own_data_module:wrong")
        with pytest.raises(DataError, match=r"wanted bp\.Splits, or .* got int"):
            load("own_data_module:number")
        with pytest.raises(DataError, match="test: wanted the classes of train in their order"):
            load("own_data_module:swapped")
        with pytest.raises(DataError, match="no 'nothing' in 'own_data_module'"):
            load("own_data_module:nothing")


def test_files_lie_beside_the_recipe_first(beside: Path) -> None:
    for folder, level in ((beside, 1), (beside.parent / "elsewhere", 2)):
        np.savez(folder / "a.npz", x=np.full((10, 2), level / 9), y=np.arange(10) % 2)
    with looking_in(beside):
        assert float(load("npz:a.npz").train.images[0, 0]) == pytest.approx(1 / 9)
    assert float(load("npz:a.npz").train.images[0, 0]) == pytest.approx(2 / 9)
    with pytest.raises(DataError, match=r"wanted data at 'b\.npz'.*Did you mean 'a\.npz'"):
        load("npz:b.npz")


def test_words_may_hold_fields_and_tables_may_hold_words(tmp_path: Path) -> None:
    source = DATA.build("folder:a,b:c,size=[8, 9],channels=1")
    assert source == DATA.build({"kind": "folder", "path": "a,b:c", "size": [8, 9], "channels": 1})
    assert DATA.build({"kind": "npz:x.npz", "train_size": 5}).train_size == 5
    assert DATA.build("a.b:c").kind == "factory"
    assert DATA.build("digits,test_size=50,train_size=9") == DATA.build(
        {"kind": "digits", "test_size": 50, "train_size": 9}
    )
    assert DATA.build({"kind": "digits,test_size=50", "split_seed": 1}).test_size == 50
    with pytest.raises(UnknownKindError, match=r"no kind 'digit'\. Did you mean 'digits'"):
        DATA.build("digit,test_size=50")
    with pytest.raises(SpecError, match=r"folder\.size"):
        DATA.build("folder:x,size=none_such")


def test_a_test_part_with_other_classes_is_refused() -> None:
    data = Dataset.from_arrays(torch.rand(6, 2), [0, 1, 0, 1, 0, 1])
    other = Dataset.from_arrays(torch.rand(3, 2), [0, 1, 4])
    source = DATA.build({"kind": "npz", "path": "x"})
    from bitproof.data.own import publish  # noqa: PLC0415

    with pytest.raises(DataError, match=r"test: wanted the classes of training, got also 4"):
        publish(source, {"train": data, "test": other})  # type: ignore[arg-type]


def test_a_path_without_its_kind_is_told_what_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my photos").mkdir()
    (tmp_path / "digits").mkdir()
    (tmp_path / "a.npz").touch()
    with pytest.raises(UnknownKindError, match=r"say folder:\./my photos"):
        DATA.build("./my photos")
    with pytest.raises(UnknownKindError, match=r"say npz:a\.npz"):
        DATA.build("a.npz")
    assert DATA.build("digits").kind == "digits"
    with pytest.raises(DataError, match=r"no module 'foldr' .*; for files say folder:DIR"):
        load("foldr:photos")
