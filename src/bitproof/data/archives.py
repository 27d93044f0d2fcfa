"""Where the published files are, and how each is recognised.

Source: the sets' own pages; checksums as torchvision's tables and several other projects give
        them. A checksum stands here only where it is known for certain.
"""

from dataclasses import dataclass

KRIZ = ("https://www.cs.toronto.edu/~kriz",)
ERDA = ("https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370",)
MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")
FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)
IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
MD5 = {
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "GTSRB_Final_Training_Images.zip": "f33fd80ac59bff73c82d25ab499e03a3",
    "GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
    "GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}
"""Of the packed files."""


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
    md5: str
    member: str = ""
    """What inside it becomes `target`; empty: the file as it is."""

    def urls(self, mirror: str | None = None) -> tuple[str, ...]:
        """Return where to get it, best first; with a mirror, only there."""
        bases = (mirror,) if mirror else self.bases
        return tuple(f"{base.rstrip('/')}/{self.file}" for base in bases)


def _packed(file: str, bases: tuple[str, ...], target: str, member: str = "") -> Archive:
    return Archive(file, bases, target, MD5[file], member or target)


def _idx(folder: str, bases: tuple[str, ...], *md5s: str) -> tuple[Archive, ...]:
    files = zip(IDX, md5s, strict=True)
    return tuple(Archive(file, bases, f"{folder}/{file}", md5) for file, md5 in files)


ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "cifar10": (_packed("cifar-10-python.tar.gz", KRIZ, "cifar-10-batches-py"),),
    "cifar100": (_packed("cifar-100-python.tar.gz", KRIZ, "cifar-100-python"),),
    "gtsrb": (
        _packed("GTSRB_Final_Training_Images.zip", ERDA, "GTSRB/Final_Training"),
        _packed("GTSRB_Final_Test_Images.zip", ERDA, "GTSRB/Final_Test"),
        _packed("GTSRB_Final_Test_GT.zip", ERDA, "GTSRB/GT-final_test.csv", "GT-final_test.csv"),
    ),
    "mnist": _idx(
        "mnist",
        MNIST,
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion_mnist": _idx(
        "fashion-mnist",
        FASHION,
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
"""The files of each kind; a kind that is not here needs none."""
