"""German traffic signs: 43 classes, photographed from a moving car.

Model:  a track is 30 nearly equal frames of one physical sign, so validation takes whole tracks.
Source: Stallkamp et al., "Man vs. computer: Benchmarking machine learning algorithms for
        traffic sign recognition", Neural Networks 2012.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from bitproof.core.rng import make_generator
from bitproof.data.base import DATA, DataSource
from bitproof.data.dataset import Published
from bitproof.data.gtsrb_folders import (
    N_CLASSES,
    TEST_IMAGES,
    TEST_TABLE,
    TRAIN_TABLES,
    count_rows,
    read_folders,
)
from bitproof.data.layout import Layout
from bitproof.data.packed import count_labels, mini_layout, read_column, read_part


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
    variant: Literal["auto", "full", "mini"] = "auto"
    """All images, the packed sample of 1,978 + 989, or (`auto`) the best that is there."""
    frame: Literal["full", "roi"] = "full"
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
        return tuple(
            layout for layout in (official, *packed) if self.variant in {"auto", layout.variant}
        )

    def read(self, data_dir: Path | None) -> Published:
        """Return all images and tracks, the training images shuffled.

        Raises:
            DataError: files are missing or malformed.
        """
        stored = super().read(data_dir)
        generator = make_generator(self.split_seed, "gtsrb order")
        order = torch.randperm(len(stored.train), generator=generator)
        assert stored.groups is not None
        return replace(stored, train=stored.train.subset(order), groups=stored.groups[order])


def _read_packed(folder: Path) -> Published:
    train = [folder / "train_lite.npz"]
    return Published(
        train=read_part(train, name="gtsrb-lite", n_classes=N_CLASSES),
        test=read_part([folder / "test.npz"], name="gtsrb-lite", n_classes=N_CLASSES),
        groups=read_column(train, "track"),
    )


PACKED = Layout(
    name="packed npz, every third frame",
    folders=("gtsrb",),
    files=("train_lite.npz", "test.npz"),
    read=_read_packed,
    count=lambda at: (count_labels([at / "train_lite.npz"]), count_labels([at / "test.npz"])),
)
SAMPLE = mini_layout("gtsrb", N_CLASSES, groups="track_train")
