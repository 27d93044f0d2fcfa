"""Named tensors in sealed safetensors files, with a header of texts: never code."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from bitproof.core.errors import ChecksumError
from bitproof.core.files import read_bytes, write_bytes
from bitproof.core.seal import BLANK_SEAL, SEAL, is_sound, seal

DAMAGED = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError),
    *(SafetensorError, RuntimeError, MemoryError, OverflowError),
)
"""What reading a damaged file without a seal can raise."""
_KEY = "seal"
_LENGTH = 8
"""Bytes that tell the length of the header."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **header: str) -> None:
    """Write tensors bit for bit, from any device; what shares memory is written twice.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    own = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    content = _with_header(safetensors.torch.save(own), {**header, _KEY: BLANK_SEAL})
    write_bytes(path, seal(content, content.index(SEAL)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, on the CPU, and its header.

    Raises:
        ChecksumError: it changed since it was written.
        Exception: of the kinds `DAMAGED`, it cannot be read or is no safetensors file.
    """
    return parse_tensors(read_bytes(path), path)


def parse_tensors(content: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what the bytes of `path` hold; see `read_tensors`. A file of others has no seal."""
    end = _end(content)
    place = content.find(SEAL, _LENGTH, end)
    if place >= 0 and not is_sound(content, place):
        raise ChecksumError(f"{path}: changed since it was written (its SHA-256 does not match)")
    tensors = safetensors.torch.load(content)
    header = json.loads(content[_LENGTH:end]).get("__metadata__", {})
    return tensors, {name: text for name, text in header.items() if name != _KEY}


def _with_header(content: bytes, header: Mapping[str, str]) -> bytes:
    """Return a file with texts in its header; safetensors would write them in random order."""
    end = _end(content)
    text = json.dumps({"__metadata__": dict(header), **json.loads(content[_LENGTH:end])})
    own = text.encode() + b" " * (-len(text) % _LENGTH)
    return len(own).to_bytes(_LENGTH, "little") + own + content[end:]


def _end(content: bytes) -> int:
    """Return where the header ends."""
    return _LENGTH + int.from_bytes(content[:_LENGTH], "little")
