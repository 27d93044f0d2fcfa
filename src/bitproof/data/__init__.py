"""Data sets in memory: sources, splits, augmentation, and getting the files.

- `dataset`: `Dataset`, `Splits`; what everything else works on.
- `base`: `DataSource` and the registry `DATA`; sources are `cifar`, `digits`, `gtsrb`, `mnist`,
  each with its official file formats; `packed` is a format that several have.
- `layout`: finding files on disk.
- `augment`: random changes of training images, registry `AUGMENT`; `auto_augment` is made of
  `pillow_changes`.
- `fetch`, `inventory`: `bitproof data fetch`, `list` and `verify`; below them `archives` and
  `download`.
"""

from bitproof.data import augment, auto_augment, cifar, digits, fetch, gtsrb, inventory, mnist
from bitproof.data.augment import AUGMENT, Augmentation
from bitproof.data.base import DATA, DataSource
from bitproof.data.dataset import Dataset, Splits

__all__ = [
    "AUGMENT",
    "DATA",
    "Augmentation",
    "DataSource",
    "Dataset",
    "Splits",
    "augment",
    "auto_augment",
    "cifar",
    "digits",
    "fetch",
    "gtsrb",
    "inventory",
    "mnist",
]
