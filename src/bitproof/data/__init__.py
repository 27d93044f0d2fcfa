"""Data sets in memory: sources, splits, augmentation, and getting the files.

- `dataset`: `Dataset`, `Splits`; what everything else works on.
- `base`: `DataSource` and the registry `DATA`; sources are `cifar`, `digits`, `gtsrb`, `mnist`.
- `layout`, `split`: finding files on disk; holding images out.
- `packed`, `cifar_batches`, `idx`, `gtsrb_folders`: one file format each.
- `augment`: random changes of training images, registry `AUGMENT`; `auto_augment` is made of
  `color_changes` and `geometric_changes`.
- `fetch`, `inventory`: `bitproof data fetch`, `list` and `verify`; below them `archives`,
  `download` and `unpack`.
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
