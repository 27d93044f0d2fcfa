"""Replacing one file at a time: written under a temporary name, then renamed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname

from bitproof.core.errors import StorageError
from bitproof.core.lock import is_alive

_TEMPORARY = re.compile(r"\..+\.(?P<pid>\d{1,9})\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
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


def sweep(folder: Path, *, alone: bool = False) -> None:
    """Remove the temporary files of processes of this host that live no more.

    With `alone`, nobody else may write here, and those of other hosts go as well.
    """
    own = f".{gethostname()}."
    for path in folder.glob(".*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None:
            continue
        here = path.name[: match.start("pid")].endswith(own)
        if (here and not is_alive(int(match["pid"]))) or (alone and not here):
            with suppress(OSError):
                path.unlink()


def _sync(path: Path) -> None:
    """Push a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
