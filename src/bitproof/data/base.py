"""What every data source promises: one verb, and a split that depends on its seed alone."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, final

import torch
from jaxtyping import Bool, Int64
from pydantic import Field
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.core.registry import Registry
from bitproof.core.rng import make_generator
from bitproof.core.spec import Spec
from bitproof.core.types import Count, Seed
from bitproof.data.dataset import Dataset, Published, Splits
from bitproof.data.layout import Layout, find_layout
from bitproof.data.shorthand import expanded


class DataSource(Spec, ABC):
    """A data set that can be loaded into memory.

    A new source tells its `layouts`, which is also what `bitproof data list` and `verify` look
    at; one that needs no files writes `read` instead, and so do those of a user's own (`own`).
    """

    kind: str
    train_size: Count | None = None
    """Use only the first images of the training set, validation included; None: all."""
    test_size: Count | None = None
    """Use only the first images of the test set; None: all."""
    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the training images held out, by class, as a fraction; 0: none. Not used where the
    data have a validation part of their own."""
    split_seed: Seed = 0
    """Decides which images are held out."""

    @final
    def load(self, data_dir: Path | None = None) -> Splits:
        """Return training, validation and test images, from `data_dir` or `BITPROOF_DATA`.

        Raises:
            DataError: files are missing or malformed, or hold fewer images than asked for.
        """
        published = self.read(data_dir)
        train = _first(published.train, self.train_size, f"{self.kind}.train_size")
        test = _first(published.test, self.test_size, f"{self.kind}.test_size")
        if published.validation is not None:
            return Splits(train, published.validation, test, published.notes)
        groups = None if published.groups is None else published.groups[: len(train)]
        by_class = train.labels.ndim == 1 and not train.labels.is_floating_point()
        held = hold_out(
            train.labels if by_class else train.labels.new_zeros(len(train), dtype=torch.int64),
            self.validation_fraction,
            generator=make_generator(self.split_seed, "validation"),
            groups=groups,
        )
        return Splits(
            train=train.subset((~held).nonzero()[:, 0]),
            validation=train.subset(held.nonzero()[:, 0]),
            test=test,
            notes=published.notes,
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


DATA: Registry[DataSource] = Registry("data", shorthand=expanded)


def hold_out(
    labels: Int64[Tensor, " n"],
    fraction: float,
    *,
    generator: torch.Generator,
    groups: Int64[Tensor, " n"] | None = None,
) -> Bool[Tensor, " n"]:
    """Mark about `fraction` of the images, spread evenly over the classes.

    Each class gives its share of units (groups, or single images) to within one, and at least
    one where its share rounds to one; it always keeps a unit. A group is held out whole.

    Images with equal numbers in `groups` belong together; if None, each stands alone. The
    generator is advanced once per class.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> chosen = hold_out(labels, 0.5, generator=make_generator(0))
        >>> labels[chosen].tolist()
        [0, 0, 1, 1]
    """
    labels = labels.cpu()
    groups = torch.arange(len(labels)) if groups is None else groups.cpu()
    chosen = []
    due, given = 0.0, 0  # units that the classes so far should give, and gave: the rest is carried
    for label in labels.unique():  # type: ignore[no-untyped-call]
        units = groups[labels == label].unique()  # type: ignore[no-untyped-call]
        share = fraction * len(units)
        due += share
        count = min(max(round(due - given), int(share)), int(share) + 1)
        if share >= 0.5:
            count = max(count, 1)
        count = min(count, len(units) - 1)
        given += count
        chosen.append(units[torch.randperm(len(units), generator=generator)[:count]])
    return torch.isin(groups, torch.cat(chosen)) if chosen else torch.zeros(0, dtype=torch.bool)


def _first(data: Dataset, size: int | None, where: str) -> Dataset:
    if size is not None and size > len(data):
        raise DataError(f"{where}: wanted {size} images, {data.name} holds {len(data)}")
    return data if size is None else data.first(size)
