"""The published weights of the CIFAR-10 ResNets: where they are, and how they are recognised.

Model:  the authors' files are pickled state dicts. They are opened by torch's restricted unpickler
        (`weights_only`), like any other weights, and stored as arrays. Of the pickles we know the
        first 16 digits of the SHA-256; of the arrays, the whole of it: names, shapes, every bit.
Source: github.com/akamaster/pytorch_resnet_cifar10, BSD-2-Clause, (c) 2018 Yerlan Idelbayev; his
        notice is fetched with them.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bitproof.core.errors import ChecksumError, UnknownKindError, WeightsError, near, shorten
from bitproof.core.files import write_bytes
from bitproof.core.progress import SILENT, Progress
from bitproof.data.download import download
from bitproof.models.checkpoint import read_tensors

BASE = (
    "https://raw.githubusercontent.com/akamaster/pytorch_resnet_cifar10/"
    "d5489e8995e81e91ce6b1d69dcc98ad579b0b153"
)
NOTICE_SHA256 = "5fd77ac414b6e19f2d22f130ff9d7e29593f05fd9f0a472e07a15661bc16671e"


@dataclass(frozen=True)
class PublishedWeights:
    """One file of weights."""

    kind: str
    """Architecture."""
    file: str
    """Name without suffix, here and there."""
    sha256: str
    """How the checksum of the published file begins."""
    digest: str
    """SHA-256 of the arrays, as `digest_of` has it."""


PUBLISHED_WEIGHTS = {
    "resnet20-cifar10": PublishedWeights(
        "resnet20",
        "resnet20-12fca82f",
        "12fca82f0bebc413",
        "3e31186cfaac97d81446351223ab228c671ade6e1625a2cea40b5d132b6eb934",
    ),
    "resnet32-cifar10": PublishedWeights(
        "resnet32",
        "resnet32-d509ac18",
        "d509ac1820d7f253",
        "53eec68f5da3ccfb5724776c72fa2a922bf4f91a2dfcaa873f6540ec4ccc55a5",
    ),
    "resnet44-cifar10": PublishedWeights(
        "resnet44",
        "resnet44-014dd654",
        "014dd6541728a1c7",
        "4503901c15cb3f053b4cdf7e1348dc04d17100e489a28fbaf705d672b9bfeefd",
    ),
    "resnet56-cifar10": PublishedWeights(
        "resnet56",
        "resnet56-4bfd9763",
        "4bfd97631478d6b6",
        "c80b607d09a555e9594b563d8ec9682c1d4fad725042026cc0b50f8419224382",
    ),
}
"""What can be fetched, by the name that `bitproof data fetch` takes."""


def fetch_weights(
    name: str, data_dir: Path, *, progress: Progress = SILENT, mirror: str | None = None
) -> list[Path]:
    """Download published weights, store them as arrays; return their path and the notice's.

    A `mirror` is an address below which files lie as in the author's repository.

    Raises:
        UnknownKindError: there are none of that name.
        ChecksumError: other weights came; nothing was stored.
        DataError: no server gave them.
        WeightsError: they are no state dict.
        StorageError: the disk is full, or the folder cannot be written.
    """
    if name not in PUBLISHED_WEIGHTS:
        raise UnknownKindError(f"no weights {shorten(name)}. {near(name, PUBLISHED_WEIGHTS)}")
    own, base = PUBLISHED_WEIGHTS[name], (mirror or BASE).rstrip("/")
    target, notice = weights_path(name, data_dir), data_dir / "weights" / "LICENSE.txt"
    if target.is_file() and is_right(name, target):
        progress.say(f"{target}: already there")
        return [target]
    original = target.with_suffix(".th")
    url = f"{base}/pretrained_models/{own.file}.th"
    download(url, original, sha256=own.sha256, progress=progress)
    try:
        tensors = _without_wrapper(read_tensors(original))
        if digest_of(tensors) != own.digest:
            raise ChecksumError(f"{url}: holds other weights than the published ones")
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {key: value.numpy() for key, value in tensors.items()}
        np.savez(buffer, **arrays)
    finally:
        original.unlink()
    if not notice.is_file():
        download(f"{base}/LICENSE", notice, sha256=NOTICE_SHA256, progress=progress)
    write_bytes(target, buffer.getvalue())
    progress.say(f"{target}: every array is as published")
    return [target, notice]


def weights_path(name: str, data_dir: Path) -> Path:
    """Return where weights of that name lie."""
    return data_dir / "weights" / f"{PUBLISHED_WEIGHTS[name].file}.npz"


def is_right(name: str, path: Path) -> bool:
    """Return whether a file holds the published weights, bit for bit."""
    try:
        return digest_of(read_tensors(path)) == PUBLISHED_WEIGHTS[name].digest
    except WeightsError:
        return False


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values, whatever their order.

    Example:
        >>> import torch
        >>> digest_of({"a": torch.zeros(1)})[:8] == digest_of({"a": torch.ones(1)})[:8]
        False
    """
    state = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].numpy())
        state.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        state.update(array.data)
    return state.hexdigest()


def _without_wrapper(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without what `DataParallel` put before their names."""
    return {name.removeprefix("module."): value for name, value in tensors.items()}
