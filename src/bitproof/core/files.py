"""Files that are complete or absent, and listed where their directory has a manifest."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitproof.core.atomic import replacing
from bitproof.core.errors import StorageError
from bitproof.core.manifest import Manifest


@contextmanager
def atomic_path(path: Path, *, listed: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` if the block succeeds.

    The file is on the disk when this ends. Not `listed`: it carries a checksum of its own.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
        DataError: the manifest of its directory is damaged.
    """
    with replacing(path) as temporary:
        yield temporary
        manifest = Manifest.around(path) if listed else None
        if manifest is not None:
            manifest.announce(path, temporary)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes, *, listed: bool = True) -> None:
    """Write `content` to `path`, atomically; see `atomic_path`.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    with atomic_path(path, listed=listed) as temporary:
        temporary.write_bytes(content)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, checked where a manifest lists it.

    Raises:
        OSError: it cannot be read.
        ChecksumError: it changed since it was written.
        DataError: the manifest of its directory is damaged.
    """
    manifest = Manifest.around(path)
    return path.read_bytes() if manifest is None else manifest.read(path)


def remove(path: Path) -> None:
    """Delete a file, and list it no longer."""
    path.unlink(missing_ok=True)
    if (manifest := Manifest.around(path)) is not None:
        manifest.forget(path)


def append_line(path: Path, line: str) -> None:
    """Append one line to a log and push it to the disk."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: cannot write ({error.strerror or error})") from error


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
