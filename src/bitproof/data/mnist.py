"""MNIST and Fashion-MNIST: 28 x 28 grey images, ten classes, 60,000 + 10,000.

Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998;
        Xiao et al., "Fashion-MNIST", arXiv 1708.07747.
"""

from functools import partial
from typing import Literal

from bitproof.data.archives import ARCHIVES
from bitproof.data.base import DATA, DataSource
from bitproof.data.idx import count_images, read_pair
from bitproof.data.layout import Layout, two_part_layout

DEBIAN_FASHION = "/usr/share/datasets/fashion-mnist"
"""Where the Debian package `dataset-fashion-mnist` puts the files (gzipped anew)."""


@DATA.register
class Mnist(DataSource):
    """Handwritten digits.

    Example:
        >>> Mnist().layouts()[0].folders
        ('mnist', 'MNIST/raw', 'MNIST')
    """

    kind: Literal["mnist"] = "mnist"

    def layouts(self) -> tuple[Layout, ...]:
        """Return: IDX files, plain or gzipped."""
        return (_idx_layout("mnist", ("mnist", "MNIST/raw", "MNIST"), official=True),)


@DATA.register
class FashionMnist(DataSource):
    """Pieces of clothing.

    Example:
        >>> FashionMnist(train_size=100, validation_fraction=0.2).validation_fraction
        0.2
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"

    def layouts(self) -> tuple[Layout, ...]:
        """Return: IDX files, plain or gzipped; those of the Debian package come last."""
        own = ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "FashionMNIST")
        return (
            _idx_layout("fashion_mnist", own, official=True),
            _idx_layout("fashion_mnist", (DEBIAN_FASHION,), official=False),
        )


def _idx_layout(kind: str, folders: tuple[str, ...], *, official: bool) -> Layout:
    def pair(part: str) -> list[str]:
        names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        return [f"{name}|{name}.gz" for name in names]

    return two_part_layout(
        "IDX files",
        folders,
        train=pair("train"),
        test=pair("t10k"),
        read=partial(read_pair, name=kind, n_classes=10),
        count=count_images,
        md5={item.file: item.md5 for item in ARCHIVES[kind] if official},
    )
