"""Unpack a tar or zip file without leaving the folder, and show the result only when whole."""

import gzip
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Literal

from bitproof.core.errors import DataError, UnsafeFileError

MALFORMED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # zipfile: encrypted, or an unknown compression
)


def unpack(archive: Path, target: Path, *, form: Literal["tar", "zip"], member: str) -> None:
    """Put one file or folder of an archive at `target`, replacing what is there.

    Args:
        archive: the packed file.
        target: where the result appears, complete.
        form: how it is packed.
        member: path inside the archive of what is wanted.

    Raises:
        UnsafeFileError: an entry would land outside the folder, or is a link out of it.
        DataError: the archive is truncated or malformed, or lacks `member`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target.parent) as name:
        fresh, old = Path(name) / "new", Path(name) / "old"
        try:
            if form == "tar":
                _unpack_tar(archive, fresh)
            else:
                _unpack_zip(archive, fresh)
        except MALFORMED as error:
            raise DataError(f"{archive}: truncated, or no {form} file ({error})") from None
        found = fresh / member
        if not found.exists():
            raise DataError(f"{archive}: wanted '{member}' inside, it is not there")
        if target.exists():
            target.rename(old)
        found.rename(target)


def _unpack_tar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as stored:
        try:
            stored.extractall(folder, filter="data")
        except tarfile.FilterError as error:
            raise UnsafeFileError(f"{archive}: refuses to unpack: {error}") from None


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as stored:
        for entry in stored.infolist():
            path = PurePosixPath(entry.filename.replace("\\", "/"))
            is_link = stat.S_ISLNK(entry.external_attr >> 16)
            if path.is_absolute() or ".." in path.parts or ":" in entry.filename or is_link:
                raise UnsafeFileError(f"{archive}: refuses to unpack '{entry.filename}'")
        folder.mkdir()
        for entry in stored.infolist():
            if entry.is_dir():
                (folder / entry.filename).mkdir(parents=True, exist_ok=True)
                continue
            (folder / entry.filename).parent.mkdir(parents=True, exist_ok=True)
            with stored.open(entry) as source, (folder / entry.filename).open("wb") as sink:
                shutil.copyfileobj(source, sink)
