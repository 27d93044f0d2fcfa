"""Handwritten digits, 8 x 8, that come with scikit-learn: no download, no files.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998
        (its test set, as `sklearn.datasets.load_digits` holds it).
"""

from pathlib import Path
from typing import Literal

import torch

from bitproof.core.rng import make_generator
from bitproof.data.base import DATA, DataSource, hold_out
from bitproof.data.dataset import Dataset, Published
from bitproof.data.layout import Layout

TEST_FRACTION = 0.3
LEVELS = 16
"""Grey values run from 0 to this."""


@DATA.register
class Digits(DataSource):
    """1,797 grey images of ten digits; 30 % of each class are the test set, always the same.

    Example:
        >>> splits = Digits().load()
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (1132, 126, 539)
    """

    kind: Literal["digits"] = "digits"

    def layouts(self) -> tuple[Layout, ...]:
        """Return none: the images are in the package."""
        return ()

    def read(self, data_dir: Path | None) -> Published:  # noqa: ARG002 (needs no files)
        """Return all images."""
        from sklearn.datasets import load_digits  # noqa: PLC0415 (slow to import)

        pixels, labels = load_digits(return_X_y=True)
        images = torch.from_numpy(pixels).mul(255 / LEVELS).round().to(torch.uint8)
        data = Dataset(
            name="digits",
            images=images.reshape(-1, 1, 8, 8),
            labels=torch.from_numpy(labels).to(torch.int64),
            n_classes=10,
        )
        held = hold_out(data.labels, TEST_FRACTION, generator=make_generator(0, "digits test"))
        return Published(
            train=data.subset((~held).nonzero()[:, 0]), test=data.subset(held.nonzero()[:, 0])
        )
