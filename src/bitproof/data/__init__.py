"""Data sets in memory: sources, splits, augmentation, and getting the files.

- `dataset`: `Dataset`, `Splits`; what everything else works on.
- `base`: `DataSource` and the registry `DATA`; sources are `cifar`, `digits`, `gtsrb`, `mnist`,
  each with its official file formats; `packed` is a format that several have.
- Data of a user's own (`own`, what they share): `folder`, `arrays`, `parquet`, `user_factory`,
  `in_memory`; pictures go through `decoding`, axes through `axes`, other people's batches through
  `loading`, files of tables through `shards`; `memory` refuses what would not fit.
  `shorthand` is all of them in one word.
- `layout`: finding files on disk.
- `augment`: random changes of training images, registry `AUGMENT`; `auto_augment` is made of
  `pillow_changes`.
- `fetch`, `inventory`: `bitproof data fetch`, `list` and `verify`; below them `archives` and
  `download`.
"""

from bitproof.data import (
    arrays,
    augment,
    auto_augment,
    cifar,
    digits,
    fetch,
    folder,
    gtsrb,
    in_memory,
    inventory,
    mnist,
    parquet,
    user_factory,
)
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
    "arrays",
    "augment",
    "auto_augment",
    "cifar",
    "digits",
    "fetch",
    "folder",
    "gtsrb",
    "in_memory",
    "inventory",
    "mnist",
    "parquet",
    "user_factory",
]
