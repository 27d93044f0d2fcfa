"""What was written into a directory: size and SHA-256 of each file, so that a change is noticed.

Model:  a directory that holds `bitproof-manifest.json` has every file listed that `files` writes in
        it or in a folder of it. A file is listed before it takes its name, with what it replaces
        beside it: whichever of the two an interruption leaves is known, anything else is damage.
        Logs and parts of campaigns, which carry checksums of their own, are listed when the work
        is complete.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bitproof.core.atomic import replacing
from bitproof.core.errors import ChecksumError, DataError, shorten
from bitproof.core.lock import hold
from bitproof.core.sealed_json import seal_json, unseal_json

MANIFEST = "bitproof-manifest.json"
"""The file that lists all others."""
ASIDE = "aside"
"""The folder for what was not as it was written."""
_LOCK = ".manifest-lock"
_TRIES = 3
"""How often a file is read that does not fit its entry: it may be replaced at this moment."""


@dataclass(frozen=True)
class Checksum:
    """Which bytes a file holds."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "Checksum":
        """Return that of some bytes."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> "Checksum":
        """Return that of a file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(file.tell(), digest)

    def __str__(self) -> str:
        return f"{self.size:,} bytes of sha256 {self.sha256[:12]}..."


Entries = dict[str, tuple[Checksum, ...]]
"""What each file may hold, by its name in the directory: the newest first."""


class Manifest:
    """The list of one directory.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from bitproof.core.files import read_bytes, write_text
        >>> with TemporaryDirectory() as name:
        ...     manifest = Manifest(Path(name))
        ...     manifest.create()
        ...     write_text(Path(name) / "a.txt", "one")
        ...     _ = (Path(name) / "a.txt").write_text("two")
        ...     manifest.differing()
        {'a.txt': 'changed'}
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / MANIFEST

    @classmethod
    def around(cls, path: Path) -> "Manifest | None":
        """Return the manifest that lists a file: of its folder or the one around; None: of none."""
        found = (cls(folder) for folder in (path.parent, path.parent.parent))
        return next((one for one in found if one.path.exists()), None)

    def create(self) -> None:
        """Begin the list, unless it is there."""
        if not self.path.exists():
            with self._changing():
                pass

    def entries(self) -> Entries:
        """Return what every file may hold.

        Raises:
            DataError: the manifest is missing or damaged.
        """
        return _entries(self._content())

    @property
    def complete(self) -> bool:
        """Whether the work in the directory is done, and everything is listed."""
        return bool(self._content()["complete"])

    def announce(self, path: Path, written: Path) -> None:
        """List what `written` holds under the name that it is going to take.

        Raises:
            DataError: the manifest is damaged.
            StorageError: it cannot be written.
        """
        name, new = self._name(path), Checksum.of_file(written)
        with self._changing() as (entries, _):
            old = [one for one in entries.get(name, ()) if _holds(path, one)]
            entries[name] = tuple(dict.fromkeys([new, *old]))

    def forget(self, *paths: Path) -> None:
        """List files no longer; they are going to be appended to, or gone."""
        names = [self._name(path) for path in paths]
        if any(name in self.entries() for name in names):
            with self._changing() as (entries, _):
                for name in names:
                    entries.pop(name, None)

    def finish(self, others: Iterable[Path]) -> None:
        """List `others` as well, and say that the work is complete."""
        found = {self._name(path): (Checksum.of_file(path),) for path in others}
        with self._changing() as (entries, state):
            entries.update(found)
            state["complete"] = True

    def reopen(self) -> None:
        """Say that the work goes on."""
        if self.complete:
            with self._changing() as (_, state):
                state["complete"] = False

    def read(self, path: Path) -> bytes:
        """Return the content of a file, checked if it is listed.

        Raises:
            OSError: it cannot be read.
            ChecksumError: it is not what was written.
            DataError: the manifest is damaged.
        """
        for turn in range(1, _TRIES + 1):
            known = self.entries().get(self._name(path))
            content = path.read_bytes()
            came = Checksum.of(content)
            if known is None or came in known:
                break
            if turn == _TRIES:
                raise ChecksumError(
                    f"{path}: changed since it was written (wanted {known[0]}, got {came}); "
                    "take it from a copy, or make it anew with --resume"
                )
            time.sleep(0.05)
        return content

    def differing(self) -> dict[str, str]:
        """Return what is wrong with listed files, by name: `missing`, `changed` or `unreadable`."""
        found = {}
        for name, known in sorted(self.entries().items()):
            if problem := _problem(self.folder / name, known):
                found[name] = problem
        return found

    def unlisted(self) -> list[str]:
        """Return files that are not listed, without hidden ones and what lies aside."""
        known = self.entries()
        found = [
            path.relative_to(self.folder)
            for pattern in ("*", "*/*")
            for path in self.folder.glob(pattern)
            if path.is_file() or path.is_symlink()
        ]
        names = [
            path.as_posix()
            for path in found
            if path.parts[0] != ASIDE and not any(part.startswith(".") for part in path.parts)
        ]
        return sorted(name for name in names if name != MANIFEST and name not in known)

    def set_aside(self, name: str) -> str:
        """Move a file to aside/ and list it no longer; return its new name."""
        path = self.folder / name
        target = free_place(self.folder / ASIDE, path.name)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        self.forget(path)
        return target.relative_to(self.folder).as_posix()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _content(self) -> dict[str, Any]:
        try:
            content = unseal_json(self.path.read_bytes())
            _entries(content)
            content["complete"] = bool(content["complete"])
        except OSError as error:
            raise DataError(f"{self.path}: cannot read ({error.strerror or error})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{self.path}: {error}; take it from a copy, or begin anew in another --out"
            ) from None
        return content

    @contextmanager
    def _changing(self) -> Iterator[tuple[Entries, dict[str, bool]]]:
        """Yield what is listed and whether all is complete, and write down what becomes of it."""
        with hold(self.folder / _LOCK):
            content = self._content() if self.path.exists() else {"files": {}, "complete": False}
            entries, state = _entries(content), {"complete": bool(content["complete"])}
            yield entries, state
            files = {name: [asdict(one) for one in known] for name, known in entries.items()}
            with replacing(self.path) as temporary:
                temporary.write_text(seal_json({**state, "files": files}), "utf-8")


def free_place(folder: Path, name: str) -> Path:
    """Return a path in a folder that is not taken: `name`, with a number before its suffix.

    Example:
        >>> free_place(Path("nowhere"), "a.json").name
        'a-1.json'
    """
    stem, dot, suffix = name.partition(".")
    number = 1
    while (folder / f"{stem}-{number}{dot}{suffix}").exists():
        number += 1
    return folder / f"{stem}-{number}{dot}{suffix}"


def _entries(content: Mapping[str, Any]) -> Entries:
    for name in content["files"]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"lists a file outside: {shorten(name)}")
    return {
        name: tuple(Checksum(int(one["size"]), str(one["sha256"])) for one in known)
        for name, known in content["files"].items()
    }


def _problem(path: Path, known: tuple[Checksum, ...]) -> str:
    """Return what is wrong with a listed file, nothing if it is as it was written."""
    try:
        return "" if Checksum.of_file(path) in known else "changed"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"unreadable ({error.strerror or error})"


def _holds(path: Path, known: Checksum) -> bool:
    try:
        return path.stat().st_size == known.size and Checksum.of_file(path) == known
    except OSError:
        return False
