"""Files that are complete or absent: written under a temporary name, then renamed."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname

from bitproof.core.errors import StorageError
from bitproof.core.lock import is_alive


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` if the block succeeds.

    The file is on the disk when this ends. What a killed process leaves, `sweep` removes.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{gethostname()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot write ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    with suppress(OSError):  # without it, a power cut takes the new name back, never half a file
        _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, atomically.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def append_line(path: Path, line: str) -> None:
    """Append one line to a log and push it to the disk."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: cannot write ({error.strerror or error})") from error


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes of this host that live no more."""
    pattern = re.compile(rf"\..+\.{re.escape(gethostname())}\.(\d{{1,9}})\.tmp")
    for path in folder.glob(".*.tmp"):
        match = pattern.fullmatch(path.name)
        if match and not is_alive(int(match[1])):
            with suppress(OSError):
                path.unlink()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Push a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
