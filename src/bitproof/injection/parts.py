"""Results of a campaign's chunks on disk: one sealed Parquet file each, complete or absent.

Model:  a chunk's columns are the same, whoever computes them, so a part is written once and never
        changed. What is not provably sound is set aside, and its chunk is done again.
"""

import errno
import re
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bitproof.core.atomic import sweep
from bitproof.core.errors import DataError, StorageError
from bitproof.core.files import write_bytes
from bitproof.injection.sealed import (
    decode,
    digest_columns,
    encode,
    list_types,
    prepare,
    read_columns,
    read_facts,
)

_DAMAGE = frozenset({errno.EIO, errno.EISDIR, errno.EBADMSG, errno.EUCLEAN})
"""Reading errors that speak against the file, not against this process or its rights."""
_PART = re.compile(r"part-(\d{5}|[1-9]\d{5,8})\.parquet")


class Parts:
    """The results of one campaign's chunks in a folder.

    Every method raises a StorageError where a file cannot be opened, written or set aside.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     parts = Parts(Path(folder), "c0ffee")
        ...     parts.write(1, {"sdc": np.array([0, 1, 1], np.uint8)})
        ...     parts.finished(3), parts.read(1)
        ({1}, {'sdc': array([0, 1, 1], dtype=uint8)})
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.messages: list[str] = []
        """One line for each file that was set aside, oldest first."""

    def path(self, chunk: int) -> Path:
        """Return where a chunk's part lies, or will lie."""
        return self.folder / f"part-{chunk:05d}.parquet"

    def write(self, chunk: int, columns: Mapping[str, np.ndarray]) -> None:
        """Keep the result of a chunk; nothing happens if it is there already.

        Columns are integers or float64, all of one length; they are kept in this order and in these
        dtypes. Equal columns give equal files (with one version of pyarrow).

        Raises:
            DataError: the columns cannot be stored, or the chunk has another result already.
        """
        ready = prepare(columns)
        digest = digest_columns(ready)
        known = self._open(chunk)
        if known is None:
            facts = {"fingerprint": self.fingerprint, "part": str(chunk), "sha256": digest}
            write_bytes(self.path(chunk), encode(ready, facts), listed=False)
        elif read_facts(known)["sha256"] != digest:
            raise DataError(
                f"{self.path(chunk)}: holds another result of this chunk; it should be the same, "
                "whoever computes it"
            )

    def read(self, chunk: int) -> dict[str, np.ndarray] | None:
        """Return the columns of a chunk; None if they are not there.

        A damaged file is set aside, and counts as not there.
        """
        file = self._open(chunk)
        if file is None:
            return None
        columns = read_columns(file)
        if digest_columns(columns) != read_facts(file)["sha256"]:
            self._set_aside(self.path(chunk), "its columns are not those that were written")
            return None
        return columns

    def finished(self, n_chunks: int) -> set[int]:
        """Return the chunks that need not be done again, each file checked.

        Damaged and foreign files are set aside and named in `messages`; what killed processes of
        this host left is removed.
        """
        if not self.folder.is_dir():
            return set()
        sweep(self.folder)
        names = sorted(path.name for path in self.folder.iterdir())
        chunks = [int(match[1]) for name in names if (match := _PART.fullmatch(name))]
        for chunk in chunks:
            if chunk >= n_chunks:
                self._set_aside(self.path(chunk), f"the campaign has only {n_chunks} chunks")
        return {chunk for chunk in chunks if chunk < n_chunks and self._open(chunk) is not None}

    def read_all(self, n_chunks: int) -> dict[str, np.ndarray]:
        """Return the columns of all chunks, in the order of chunks.

        Raises:
            DataError: chunks are missing (the message names them), or their columns differ.
        """
        found = [self.read(chunk) for chunk in range(n_chunks)]
        tables = [table for table in found if table is not None]
        if len(tables) < n_chunks:
            missing = _ranges([chunk for chunk, table in enumerate(found) if table is None])
            raise DataError(
                f"{self.folder}: {n_chunks - len(tables)} of {n_chunks} chunks are missing "
                f"({missing}); go on with --resume"
            )
        for chunk, table in enumerate(tables):
            if list_types(table) != list_types(tables[0]):
                raise DataError(f"{self.path(chunk)}: has other columns than {self.path(0).name}")
        return {name: np.concatenate([t[name] for t in tables]) for name in (tables or [{}])[0]}

    def _open(self, chunk: int) -> pq.ParquetFile | None:
        """Return a part, sealed and of this chunk; None if there is none, or none any longer."""
        path = self.path(chunk)
        inode = None
        try:
            inode = path.stat().st_ino
            file = decode(path.read_bytes())
            facts = read_facts(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _DAMAGE:
                raise StorageError(f"{path}: cannot read ({error.strerror or error})") from error
            reason = f"it cannot be read: {error.strerror}"
        except DataError as error:
            reason = str(error)
        else:
            wanted = {"part": str(chunk), "fingerprint": self.fingerprint}
            wrong = [name for name in wanted if facts.get(name) != wanted[name]]
            if not wrong:
                return file
            reason = f"{wrong[0]} {facts.get(wrong[0], 'none')}, wanted {wanted[wrong[0]]}"
        self._set_aside(path, reason, inode)
        return None

    def _set_aside(self, path: Path, reason: str, inode: int | None = None) -> None:
        """Move a file to aside/, unless another process has replaced it by now (its inode)."""
        aside = self.folder / "aside"
        names = (f"{path.stem}-{number}.parquet" for number in count(1))
        try:
            aside.mkdir(exist_ok=True)
            target = next(aside / name for name in names if not (aside / name).exists())
            if inode in (None, path.stat().st_ino):
                path.rename(target)
                self.messages.append(f"{path.name}: set aside as aside/{target.name} ({reason})")
        except FileNotFoundError:
            return  # another process was faster
        except OSError as error:
            raise StorageError(f"{path}: cannot set aside ({error.strerror or error})") from error


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in words: '3, 7-9', the first ten ranges."""
    edges = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(numbers)) if b > a + 1), len(numbers)]
    runs = [(numbers[start], numbers[end - 1]) for start, end in pairwise(edges)]
    words = [f"{first}-{last}" if last > first else f"{first}" for first, last in runs[:10]]
    return ", ".join([*words, "..."] if len(runs) > 10 else words)
