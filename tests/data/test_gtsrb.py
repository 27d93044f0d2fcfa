from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from bitproof.core.errors import DataError
from bitproof.data.gtsrb import N_CLASSES, Gtsrb, read_table
from bitproof.data.packed import read_column

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
TRACKS, FRAMES = 3, 2


def picture(label: int, track: int) -> Image.Image:
    """Return a black frame, 20 wide and 24 high, around a sign whose colour tells what it is."""
    pixels = np.zeros((24, 20, 3), np.uint8)
    pixels[6:18, 5:15] = (label * 5, track * 20, 255)
    return Image.fromarray(pixels)


def row(name: str, label: int) -> str:
    return f"{name};20;24;5;6;15;18;{label}"


def write_folders(root: Path, training: str = "Final_Training/Images") -> Path:
    """Write a small set as published; returns the folder `GTSRB`."""
    base = root / "GTSRB"
    for label in range(N_CLASSES):
        folder = base / training / f"{label:05d}"
        folder.mkdir(parents=True)
        lines = [HEADER]
        for track in range(TRACKS):
            for frame in range(FRAMES):
                name = f"{track:05d}_{frame:05d}.ppm"
                picture(label, track).save(folder / name)
                lines.append(row(name, label))
        (folder / f"GT-{label:05d}.csv").write_text("\r\n".join(lines) + "\r\n")
    images = base / "Final_Test" / "Images"
    images.mkdir(parents=True)
    for number in range(4):
        picture(number, 9).save(images / f"{number:05d}.ppm")
    table = "\n".join([HEADER, *(row(f"{number:05d}.ppm", number) for number in range(4))])
    (base / "GT-final_test.csv").write_text(table)
    return base


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("gtsrb"))


def signs(images: torch.Tensor) -> list[tuple[int, int]]:
    """Return class and track of each sign, as its colour tells."""
    middle = images[:, :, images.shape[2] // 2, images.shape[3] // 2]
    return [(int(red) // 5, int(green) // 20) for red, green, _ in middle]


def test_the_official_folders_are_read_whole(folders: Path) -> None:
    splits = Gtsrb(validation_fraction=0.0).load(folders.parent)
    found = signs(splits.train.images)
    wanted = [(c, t) for c in range(N_CLASSES) for t in range(TRACKS) for _ in range(FRAMES)]
    assert sorted(found) == wanted
    assert [label for label, _ in found] == splits.train.labels.tolist()
    assert found != wanted  # shuffled, so that the first images hold many classes
    assert splits.test.labels.tolist() == [0, 1, 2, 3]
    assert signs(splits.test.images) == [(number, 9) for number in range(4)]
    assert splits.train.images.shape[1:] == (3, 32, 32)
    assert (splits.train.name, splits.train.n_classes) == ("gtsrb", N_CLASSES)


def test_no_track_is_both_in_training_and_in_validation(folders: Path) -> None:
    splits = Gtsrb(validation_fraction=0.34).load(folders)
    train, held = set(signs(splits.train.images)), set(signs(splits.validation.images))
    assert not train & held
    assert {label for label, _ in held} == {label for label, _ in train} == set(range(N_CLASSES))


@pytest.mark.parametrize("size", [32, 48])
def test_the_box_is_cut_out_and_the_border_kept_otherwise(
    folders: Path, size: Literal[32, 48]
) -> None:
    whole = Gtsrb(size=size).load(folders).test.images
    inside = Gtsrb(size=size, frame="roi").load(folders).test.images
    assert whole.shape == inside.shape == (4, 3, size, size)
    assert int(whole[:, :, :3].max()) == 0
    assert int(inside[:, 2].min()) == 255  # blue everywhere: only the sign is left


def test_resizing_is_that_of_pillow(folders: Path) -> None:
    image = picture(3, 9).resize((32, 32), Image.Resampling.BILINEAR)
    found = Gtsrb().load(folders).test.images[3]
    assert np.array_equal(found.permute(1, 2, 0).numpy(), np.asarray(image))


def test_the_older_layout_and_other_places_of_the_test_table_are_found(tmp_path: Path) -> None:
    base = write_folders(tmp_path / "gtsrb", training="Training")
    (base / "GT-final_test.csv").rename(tmp_path / "gtsrb" / "GT-final_test.csv")
    splits = Gtsrb().load(tmp_path)
    assert len(splits.test) == 4
    layout = Gtsrb().layouts()[0]
    assert layout.count(base) == (N_CLASSES * TRACKS * FRAMES, 4)


def test_frames_and_sizes_that_only_the_folders_hold_do_not_fall_back(data_dir: Path) -> None:
    with pytest.raises(DataError, match=r"gtsrb: not found: looked for .*Final_Training"):
        Gtsrb(frame="roi").load(data_dir)
    with pytest.raises(DataError, match="gtsrb: not found"):
        Gtsrb(size=48).load(data_dir)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Filename,Width\n", "wanted columns Filename;Width;"),
        ("", "wanted columns"),
        (f"{HEADER}\n00000_00000.ppm;20", "row 1: wanted 8 entries, got fewer"),
        (f"{HEADER}\n../00001/00000_00000.ppm;20;24;5;6;15;18;0", "wanted a plain file name"),
        (f"{HEADER}\n00000_00009.ppm;20;24;5;6;15;18;0", r"00000_00009\.ppm: wanted a PPM image"),
        (f"{HEADER}\n00000_00000.ppm;20;24;5;6;15;18;x", "wanted an integer ClassId, got 'x'"),
        (f"{HEADER}\n00000_00000.ppm;20;24;5;6;15;18;43", "wanted labels from 0 to 42"),
        (f"{HEADER}\n00000_00000.ppm;20;24;5;6;21;18;0", "wanted a box inside 20 x 24"),
        (f"{HEADER}\n00000_00000.ppm;20;24;5;6;5;18;0", "wanted a box inside"),
        (f"{HEADER}\nGT-00000.csv;20;24;5;6;15;18;0", "wanted a PPM image"),
        (f"{HEADER}\nx.ppm;20;24;5;6;15;18;0", r"wanted a name TTTTT_FFFFF\.ppm, got 'x\.ppm'"),
    ],
)
def test_malformed_folders_are_named(tmp_path: Path, content: str, message: str) -> None:
    base = write_folders(tmp_path)
    folder = base / "Final_Training" / "Images" / "00000"
    (folder / "GT-00000.csv").write_text(content)
    picture(0, 0).save(folder / "x.ppm")
    with pytest.raises(DataError, match=message):
        Gtsrb(frame="roi").load(tmp_path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        read_table(tmp_path / "none.csv")
    base = write_folders(tmp_path)
    (base / "Final_Training" / "Images" / "00007" / "GT-00007.csv").unlink()
    with pytest.raises(DataError, match=r"incomplete in .*GTSRB, wanted also .*GT-00007\.csv"):
        Gtsrb().load(tmp_path)


def test_the_packed_sample_splits_by_track(data_dir: Path) -> None:
    source = Gtsrb(variant="mini")
    published, splits = source.read(data_dir), source.load(data_dir)
    assert published.groups is not None
    tracks = dict(zip(keys(published.train.images), published.groups.tolist(), strict=True))
    train = {tracks[key] for key in keys(splits.train.images)}
    held = {tracks[key] for key in keys(splits.validation.images)}
    assert not train & held
    assert len(splits.train) + len(splits.validation) == 1_978
    assert splits.test.labels.bincount().tolist() == [23] * N_CLASSES
    assert splits.validation.labels.unique().numel() == N_CLASSES  # type: ignore[no-untyped-call]


@pytest.mark.slow
def test_the_packed_set_splits_by_track(data_dir: Path) -> None:
    splits = Gtsrb(variant="full").load(data_dir)
    published = Gtsrb(variant="full").read(data_dir)
    assert published.groups is not None
    tracks = dict(zip(keys(published.train.images), published.groups.tolist(), strict=True))
    assert len(tracks) > 13_000  # nearly no two frames are equal, so pixels tell the track
    train = {tracks[key] for key in keys(splits.train.images)}
    held = {tracks[key] for key in keys(splits.validation.images)}
    assert not train & held
    assert len(train | held) == 1_307
    assert abs(len(splits.validation) - 1_307) < 30
    assert (len(splits.test), splits.test.name) == (12_630, "gtsrb-lite")
    # Published sizes of the first classes of the test set.
    assert splits.test.labels.bincount().tolist()[:3] == [60, 720, 750]


def test_packed_tracks_hold_one_class_each(data_dir: Path) -> None:
    path = [data_dir / "gtsrb" / "train_lite.npz"]
    tracks, labels = read_column(path, "track"), read_column(path, "y")
    pairs = torch.stack([tracks, labels]).unique(dim=1)  # type: ignore[no-untyped-call]
    assert pairs.shape[1] == tracks.unique().numel() == 1_307  # type: ignore[no-untyped-call]


def keys(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]
