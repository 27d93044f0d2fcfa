"""CIFAR-10 and CIFAR-100: 32 x 32 colour photographs.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from functools import partial
from typing import Literal

from bitproof.data.base import DATA, DataSource
from bitproof.data.cifar_batches import (
    PUBLISHED,
    count_binary,
    count_python,
    read_binary,
    read_python,
)
from bitproof.data.layout import Layout, two_part_layout
from bitproof.data.packed import count_labels, mini_layout, read_part


class _Cifar(DataSource):
    variant: Literal["auto", "full", "mini"] = "auto"
    """All images, the packed sample of 2,000 + 1,000, or (`auto`) the best that is there."""

    def _chosen(self, layouts: tuple[Layout, ...]) -> tuple[Layout, ...]:
        return tuple(layout for layout in layouts if self.variant in {"auto", layout.variant})


@DATA.register
class Cifar10(_Cifar):
    """Ten classes of animals and vehicles, 50,000 + 10,000 images.

    Example:
        >>> Cifar10(variant="mini").layouts()[0].files
        ('cifar10-mini.npz',)
    """

    kind: Literal["cifar10"] = "cifar10"

    def layouts(self) -> tuple[Layout, ...]:
        """Return: packed, official pickles, official binary files, packed sample."""
        return self._chosen(LAYOUTS_10)


@DATA.register
class Cifar100(_Cifar):
    """A hundred fine classes, 50,000 + 10,000 images.

    Example:
        >>> [layout.variant for layout in Cifar100().layouts()]
        ['full', 'full', 'mini']
    """

    kind: Literal["cifar100"] = "cifar100"

    def layouts(self) -> tuple[Layout, ...]:
        """Return: official pickles, official binary files, packed sample."""
        return self._chosen(LAYOUTS_100)


NUMBERS = range(1, 6)

LAYOUTS_10 = (
    two_part_layout(
        "packed npz",
        ("cifar10",),
        train=[f"train_{number}.npz" for number in NUMBERS],
        test=["test.npz"],
        read=partial(read_part, name="cifar10", n_classes=10),
        count=count_labels,
    ),
    two_part_layout(
        "python batches",
        ("cifar-10-batches-py",),
        train=[f"data_batch_{number}" for number in NUMBERS],
        test=["test_batch"],
        read=partial(read_python, label_key="labels", name="cifar10", n_classes=10),
        count=count_python,
        md5=PUBLISHED,
    ),
    two_part_layout(
        "binary batches",
        ("cifar-10-batches-bin",),
        train=[f"data_batch_{number}.bin" for number in NUMBERS],
        test=["test_batch.bin"],
        read=partial(read_binary, label_bytes=1, name="cifar10", n_classes=10),
        count=partial(count_binary, label_bytes=1),
    ),
    mini_layout("cifar10", 10),
)

LAYOUTS_100 = (
    two_part_layout(
        "python batches",
        ("cifar-100-python",),
        train=["train"],
        test=["test"],
        read=partial(read_python, label_key="fine_labels", name="cifar100", n_classes=100),
        count=count_python,
        md5=PUBLISHED,
    ),
    two_part_layout(
        "binary batches",
        ("cifar-100-binary",),
        train=["train.bin"],
        test=["test.bin"],
        read=partial(read_binary, label_bytes=2, name="cifar100", n_classes=100),
        count=partial(count_binary, label_bytes=2),
    ),
    mini_layout("cifar100", 100),
)
