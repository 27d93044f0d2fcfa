"""Get the published files of a data set into the data folder."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from bitproof.core.errors import DataError, UnsafeFileError
from bitproof.core.progress import SILENT, Progress
from bitproof.data.archives import ARCHIVES, Archive
from bitproof.data.base import DATA
from bitproof.data.download import download, md5_of_file, storage_errors

MALFORMED = (
    shutil.ReadError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # zipfile: encrypted, or an unknown compression
)


def fetch(
    kind: str, data_dir: Path, *, progress: Progress = SILENT, mirror: str | None = None
) -> list[Path]:
    """Download and unpack what is not there yet; return the files and folders now in place.

    A file appears under its final name only when it is whole and its checksum is right; a
    download that broke off continues where it stopped, also in a later run. With a `mirror`, the
    http(s) address of a folder with the same files, it asks only there.

    Raises:
        UnknownKindError: there is no such source.
        ChecksumError: another file came; it was removed.
        DataError: the set has no files, or no server gave them.
        UnsafeFileError: an archive tries to write outside its folder.
        StorageError: the disk is full, or the folder cannot be written.
    """
    DATA.find(kind)
    if kind not in ARCHIVES:
        raise DataError(f"{kind}: nothing to fetch; known: {', '.join(sorted(ARCHIVES))}")
    return [_bring(archive, data_dir, progress, mirror) for archive in ARCHIVES[kind]]


def unpack(archive: Path, target: Path, *, member: str) -> None:
    """Put one file or folder of an archive at `target`, replacing what is there.

    In a zip file, entries that would land elsewhere are passed over, and links become plain files.
    The result appears only when it is complete.

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


def _bring(archive: Archive, data_dir: Path, progress: Progress, mirror: str | None) -> Path:
    target = data_dir / archive.target
    if archive.member and target.exists():
        progress.say(f"{target}: already there")
        return target
    file = data_dir / archive.file if archive.member else target
    if not (file.is_file() and md5_of_file(file) == archive.md5):
        _download(archive, file, progress, mirror)
    if archive.member:
        progress.say(f"{file}: unpacking")
        with storage_errors(target):
            unpack(file, target, member=archive.member)
            file.unlink()
    return target


def _download(archive: Archive, file: Path, progress: Progress, mirror: str | None) -> None:
    """Ask one server after the other; what the last one did decides the kind of error."""
    failures: list[DataError] = []
    for url in archive.urls(mirror):
        try:
            download(url, file, md5=archive.md5, progress=progress)
        except DataError as error:
            failures.append(error)
        else:
            return
    raise type(failures[-1])("; ".join(str(failure) for failure in failures))
