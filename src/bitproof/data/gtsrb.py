"""German traffic signs: 43 classes, photographed from a moving car.

Model:  a track is 30 nearly equal frames of one physical sign, so validation takes whole tracks.
        As published, each frame is a PPM file (`TTTTT_FFFFF.ppm` is frame F of track T), and each
        folder has a table with the box of the sign, whose right and lower edge are exclusive.
        A file that is missing or malformed is a `DataError` that names it.
Source: Stallkamp et al., "Man vs. computer: Benchmarking machine learning algorithms for
        traffic sign recognition", Neural Networks 2012;
        https://benchmark.ini.rub.de/gtsrb_dataset.html.
"""

import csv
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from bitproof.core.errors import DataError, shorten
from bitproof.core.rng import make_generator
from bitproof.data.base import DATA, DataSource
from bitproof.data.dataset import Dataset, Published
from bitproof.data.layout import Layout, Variant, locate, of_variant, two_part_layout
from bitproof.data.packed import count_labels, mini_layout, read_column, read_part

N_CLASSES = 43
TRAIN_TABLES = tuple(
    f"Final_Training/Images/{label:05d}/GT-{label:05d}.csv|Training/{label:05d}/GT-{label:05d}.csv"
    for label in range(N_CLASSES)
)
TEST_TABLE = "GT-final_test.csv|Final_Test/Images/GT-final_test.csv|../GT-final_test.csv"
TEST_IMAGES = "Final_Test/Images"
COLUMNS = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")

PACKED = two_part_layout(
    "packed npz, every third frame",
    ("gtsrb",),
    train=["train_lite.npz"],
    test=["test.npz"],
    read=partial(read_part, name="gtsrb-lite", n_classes=N_CLASSES),
    count=count_labels,
    groups=partial(read_column, key="track"),
)
SAMPLE = mini_layout("gtsrb", N_CLASSES, groups="track_train")

Frame = Literal["full", "roi"]


@DATA.register
class Gtsrb(DataSource):
    """Traffic signs, 39,209 + 12,630 images; `gtsrb-lite` has a third of the training frames.

    The training images are sorted by class on disk; here they come shuffled by `split_seed`, so
    that the first ones hold all classes.

    Example:
        >>> [layout.name for layout in Gtsrb(frame="roi").layouts()]
        ['official folders']
    """

    kind: Literal["gtsrb"] = "gtsrb"
    variant: Variant = "auto"
    """All images, the packed sample of 1,978 + 989, or (`auto`) the best that is there."""
    frame: Frame = "full"
    """The whole frame, or only the box around the sign; `roi` needs the official folders."""
    size: Literal[32, 48] = 32
    """Width and height, in pixels; 48 needs the official folders."""

    def layouts(self) -> tuple[Layout, ...]:
        """Return: official folders; where whole frames at 32 will do, also packed and sample."""
        official = Layout(
            name="official folders",
            folders=("GTSRB", "gtsrb/GTSRB"),
            files=(*TRAIN_TABLES, TEST_IMAGES, TEST_TABLE),
            read=partial(read_folders, frame=self.frame, size=self.size),
            count=count_rows,
        )
        packed = (PACKED, SAMPLE) if self.frame == "full" and self.size == 32 else ()
        return of_variant(self.variant, (official, *packed))

    def read(self, data_dir: Path | None) -> Published:
        """Return all images and tracks, the training images shuffled."""
        stored = super().read(data_dir)
        generator = make_generator(self.split_seed, "gtsrb order")
        order = torch.randperm(len(stored.train), generator=generator)
        assert stored.groups is not None
        return replace(stored, train=stored.train.subset(order), groups=stored.groups[order])


def read_folders(folder: Path, *, frame: Frame, size: int) -> Published:
    """Read all frames, and resize them to `size` pixels: bilinear, with antialiasing.

    `full` keeps the border around the sign (about 10 %), `roi` cuts it off.
    """
    images, labels, tracks = [], [], []
    for name in TRAIN_TABLES:
        table = locate(folder, name)
        for row in read_table(table):
            images.append(_image(table.parent, row, frame, size))
            labels.append(_number(row, "ClassId", table))
            tracks.append(labels[-1] * 100_000 + _track(row["Filename"], table))
    train = _dataset(images, labels, size)
    table = locate(folder, TEST_TABLE)
    rows = read_table(table)
    test = _dataset(
        [_image(folder / TEST_IMAGES, row, frame, size) for row in rows],
        [_number(row, "ClassId", table) for row in rows],
        size,
    )
    return Published(train=train, test=test, groups=torch.tensor(tracks, dtype=torch.int64))


def count_rows(folder: Path) -> tuple[int, int]:
    """Return the numbers of training and test images that the tables give."""
    tables = [locate(folder, name) for name in (*TRAIN_TABLES, TEST_TABLE)]
    counts = [len(read_table(table)) for table in tables]
    return sum(counts[:-1]), counts[-1]


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table of signs."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter=";")
            lacking = set(COLUMNS) - set(reader.fieldnames or ())
            rows = [] if lacking else list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if lacking:
        raise DataError(f"{path}: wanted columns {';'.join(COLUMNS)}, lacks {sorted(lacking)}")
    short = next((number for number, row in enumerate(rows) if None in row.values()), None)
    if short is not None:
        raise DataError(f"{path}: row {short + 1}: wanted {len(COLUMNS)} entries, got fewer")
    return rows


def _image(folder: Path, row: dict[str, str], frame: Frame, size: int) -> np.ndarray:
    """Return one frame, (size, size, 3)."""
    from PIL import Image  # noqa: PLC0415 (slow to import, and most sets need none)

    path = folder / row["Filename"]
    if Path(row["Filename"]).name != row["Filename"]:
        raise DataError(f"{folder}: wanted a plain file name, got {shorten(row['Filename'])}")
    try:
        with Image.open(path, formats=("PPM",)) as stored:
            image = stored.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: wanted a PPM image: {error}") from None
    if frame == "roi":
        left, top, right, lower = (
            _number(row, f"Roi.{edge}", path) for edge in ("X1", "Y1", "X2", "Y2")
        )
        if not (0 <= left < right <= image.width and 0 <= top < lower <= image.height):
            raise DataError(
                f"{path}: wanted a box inside {image.width} x {image.height}, "
                f"got {left}, {top}, {right}, {lower}"
            )
        image = image.crop((left, top, right, lower))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _track(file_name: str, table: Path) -> int:
    track = file_name.partition("_")[0]
    if not (track.isascii() and track.isdigit() and len(track) == 5):
        raise DataError(f"{table}: wanted a name TTTTT_FFFFF.ppm, got {shorten(file_name)}")
    return int(track)


def _number(row: dict[str, str], column: str, where: Path) -> int:
    try:
        return int(row[column])
    except ValueError:
        raise DataError(
            f"{where}: wanted an integer {column}, got {shorten(row[column])}"
        ) from None


def _dataset(images: list[np.ndarray], labels: list[int], size: int) -> Dataset:
    pixels = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
    return Dataset(
        name="gtsrb",
        images=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor(labels, dtype=torch.int64),
        n_classes=N_CLASSES,
    )
