"""What every data source promises: one verb, and a split that depends on its seed alone."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, final

from pydantic import Field

from bitproof.core.errors import DataError
from bitproof.core.registry import Registry
from bitproof.core.rng import make_generator
from bitproof.core.spec import Spec
from bitproof.core.types import Count, Seed
from bitproof.data.dataset import Dataset, Published, Splits
from bitproof.data.layout import Layout, find_layout
from bitproof.data.split import hold_out


class DataSource(Spec, ABC):
    """A data set that can be loaded into memory.

    A new source tells its `layouts`, which is also what `bitproof data list` and `verify` look
    at; one that needs no files writes `read` instead.
    """

    kind: str
    train_size: Count | None = None
    """Use only the first images of the training set, validation included; None: all."""
    test_size: Count | None = None
    """Use only the first images of the test set; None: all."""
    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the training images held out, by class, as a fraction; 0: none."""
    split_seed: Seed = 0
    """Decides which images are held out."""

    @final
    def load(self, data_dir: Path | None = None) -> Splits:
        """Return training, validation and test images.

        Args:
            data_dir: folder that holds the files; if None, the variable `BITPROOF_DATA`.

        Raises:
            DataError: files are missing or malformed, or hold fewer images than asked for.
        """
        published = self.read(data_dir)
        train = _first(published.train, self.train_size, f"{self.kind}.train_size")
        groups = None if published.groups is None else published.groups[: len(train)]
        held = hold_out(
            train.labels,
            self.validation_fraction,
            generator=make_generator(self.split_seed, "validation"),
            groups=groups,
        )
        return Splits(
            train=train.subset((~held).nonzero()[:, 0]),
            validation=train.subset(held.nonzero()[:, 0]),
            test=_first(published.test, self.test_size, f"{self.kind}.test_size"),
        )

    @abstractmethod
    def layouts(self) -> tuple[Layout, ...]:
        """Return the ways in which the files may lie, best first; none: it needs no files."""

    def read(self, data_dir: Path | None) -> Published:
        """Return all images, as published, from the first layout that is there.

        Raises:
            DataError: files are missing or malformed.
        """
        layout, folder = find_layout(self.kind, self.layouts(), data_dir)
        return layout.read(folder)


DATA: Registry[DataSource] = Registry("data")


def _first(data: Dataset, size: int | None, where: str) -> Dataset:
    if size is not None and size > len(data):
        raise DataError(f"{where}: wanted {size} images, {data.name} holds {len(data)}")
    return data if size is None else data.first(size)
