"""Where the published files are, and how each is recognised.

Source: the sets' own pages; checksums as torchvision's tables and several other projects give
        them. A checksum stands here only where it is known for certain.
"""

from dataclasses import dataclass
from typing import Literal

KRIZ = "https://www.cs.toronto.edu/~kriz"
ERDA = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")
FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)


@dataclass(frozen=True)
class Archive:
    """One file to download.

    Example:
        >>> ARCHIVES["cifar10"][0].urls()
        ('https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz',)
    """

    file: str
    bases: tuple[str, ...]
    """Folders on servers that hold the file, best first."""
    target: str
    """What it becomes below the data folder: a folder, or a file."""
    unpack: Literal["tar", "zip", "keep"]
    member: str = ""
    """What inside a tar or zip becomes `target`."""
    size: int | None = None
    """Length in bytes, where it is known."""
    md5: str | None = None

    def urls(self, mirror: str | None = None) -> tuple[str, ...]:
        """Return where to get it, best first; with a mirror, only there."""
        bases = (mirror,) if mirror else self.bases
        return tuple(f"{base.rstrip('/')}/{self.file}" for base in bases)


def _idx(folder: str, bases: tuple[str, ...], files: dict[str, tuple[int, str]]) -> list[Archive]:
    return [
        Archive(file, bases, f"{folder}/{file}", "keep", size=size, md5=md5)
        for file, (size, md5) in files.items()
    ]


ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "cifar10": (
        Archive(
            "cifar-10-python.tar.gz",
            (KRIZ,),
            "cifar-10-batches-py",
            "tar",
            member="cifar-10-batches-py",
            size=170_498_071,
            md5="c58f30108f718f92721af3b95e74349a",
        ),
    ),
    "cifar100": (
        Archive(
            "cifar-100-python.tar.gz",
            (KRIZ,),
            "cifar-100-python",
            "tar",
            member="cifar-100-python",
            size=169_001_437,
            md5="eb9058c3a382ffc7106e4002c42a8d85",
        ),
    ),
    "gtsrb": (
        Archive(
            "GTSRB_Final_Training_Images.zip",
            (ERDA,),
            "GTSRB/Final_Training",
            "zip",
            member="GTSRB/Final_Training",
            md5="f33fd80ac59bff73c82d25ab499e03a3",
        ),
        Archive(
            "GTSRB_Final_Test_Images.zip",
            (ERDA,),
            "GTSRB/Final_Test",
            "zip",
            member="GTSRB/Final_Test",
            md5="c7e4e6327067d32654124b0fe9e82185",
        ),
        Archive(
            "GTSRB_Final_Test_GT.zip",
            (ERDA,),
            "GTSRB/GT-final_test.csv",
            "zip",
            member="GT-final_test.csv",
            md5="fe31e9c9270bbcd7b84b7f21a9d9d9e5",
        ),
    ),
    "mnist": (
        *_idx(
            "mnist",
            MNIST,
            {
                "train-images-idx3-ubyte.gz": (9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                "train-labels-idx1-ubyte.gz": (28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
                "t10k-images-idx3-ubyte.gz": (1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
                "t10k-labels-idx1-ubyte.gz": (4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
            },
        ),
    ),
    "fashion_mnist": (
        *_idx(
            "fashion-mnist",
            FASHION,
            {
                "train-images-idx3-ubyte.gz": (26_421_880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                "train-labels-idx1-ubyte.gz": (29_515, "25c81989df183df01b3e8a0aad5dffbe"),
                "t10k-images-idx3-ubyte.gz": (4_422_102, "bef4ecab320f06d8554ea6380940ec79"),
                "t10k-labels-idx1-ubyte.gz": (5_148, "bb300cfdad3c16e7a12a480ee83cd310"),
            },
        ),
    ),
}
"""The files of each kind; a kind that is not here needs none."""
