"""Files that are complete or absent: written under a temporary name, then renamed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bitproof.core.errors import StorageError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` if the block succeeds.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot write ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, atomically.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def append_line(path: Path, line: str) -> None:
    """Append one line to a log and push it to the disk.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
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
