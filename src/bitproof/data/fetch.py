"""Get the published files of a data set into the data folder."""

from pathlib import Path

from bitproof.core.errors import DataError
from bitproof.core.progress import SILENT, Progress
from bitproof.data.archives import ARCHIVES, Archive
from bitproof.data.base import DATA
from bitproof.data.download import download, md5_of_file, storage_errors
from bitproof.data.unpack import unpack


def fetch(
    kind: str, data_dir: Path, *, progress: Progress = SILENT, mirror: str | None = None
) -> list[Path]:
    """Download and unpack what is not there yet.

    A file appears under its final name only when it is whole and its checksum is right; a
    download that broke off continues where it stopped, also in a later run.

    Args:
        kind: a data source, such as `cifar10`.
        data_dir: the data folder; made if need be.
        progress: somebody who watches.
        mirror: http(s) address of a folder with the same files, instead of the published ones.

    Returns:
        The files and folders that are in place now.

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
    """Ask one server after the other.

    Raises:
        DataError: none gave the file; if the last gave a wrong one, a `ChecksumError`.
    """
    failures: list[DataError] = []
    for url in archive.urls(mirror):
        try:
            download(url, file, md5=archive.md5, progress=progress)
        except DataError as error:
            failures.append(error)
        else:
            return
    raise type(failures[-1])("; ".join(str(failure) for failure in failures))
