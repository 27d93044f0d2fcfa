"""Unpack an archive without leaving the folder, and show the result only when whole."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from bitproof.core.errors import DataError, UnsafeFileError

MALFORMED = (
    shutil.ReadError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # zipfile: encrypted, or an unknown compression
)


def unpack(archive: Path, target: Path, *, member: str) -> None:
    """Put one file or folder of an archive at `target`, replacing what is there.

    In a zip file, entries that would land elsewhere are passed over, and links become plain files.

    Args:
        archive: the packed file, `.zip` or `.tar.gz`.
        target: where the result appears, complete.
        member: path inside the archive of what is wanted.

    Raises:
        UnsafeFileError: an entry of a tar would land outside the folder, or is a link out of it.
        DataError: the archive is truncated or malformed, or lacks `member`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target.parent) as name:
        fresh, old = Path(name) / "new", Path(name) / "old"
        try:
            if archive.suffix == ".zip":
                shutil.unpack_archive(archive, fresh)
            else:
                shutil.unpack_archive(archive, fresh, filter="data")
        except tarfile.FilterError as error:
            raise UnsafeFileError(f"{archive}: refuses to unpack: {error}") from None
        except MALFORMED as error:
            raise DataError(f"{archive}: truncated, or no such archive ({error})") from None
        found = fresh / member
        if not found.exists():
            raise DataError(f"{archive}: wanted '{member}' inside, it is not there")
        if target.exists():
            target.rename(old)
        found.rename(target)
