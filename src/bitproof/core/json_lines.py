"""A log on disk that only ever grows: one JSON object a line.

A line is written when what it tells of is complete, so an interruption loses at most the one under
way. A torn last line is passed over, and cut off by whoever writes next: reading never writes.
Each line carries a checksum, `check`; one without is taken as it is.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bitproof.core.errors import ChecksumError, DataError, shorten
from bitproof.core.files import append_line, read_bytes, write_bytes
from bitproof.core.manifest import ASIDE, Manifest, free_place
from bitproof.core.spec import canonical_json

T = TypeVar("T")
CHECK = "check"
"""The key of a line's checksum."""


class JsonLines:
    """The log in one file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     log = JsonLines(Path(folder) / "log.jsonl")
        ...     log.append({"n": 1})
        ...     log.append({"n": 2})
        ...     log.read(lambda entry: entry["n"])
        [1, 2]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole: str | None = None
        """The text before a torn last line."""
        self._written = False

    def read(self, parse: Callable[[dict[str, Any]], T]) -> list[T]:
        """Return what `parse` makes of each line; nothing where there is no file.

        Raises:
            DataError: a line is no JSON or not as it was written, or `parse` stumbles over it.
        """
        if not self.path.exists():
            return []
        lines, torn = self._split(read_bytes(self.path))
        self._whole = "".join(f"{line}\n" for line in lines) if torn else None
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(parse(_unchecked(line)))
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
                raise DataError(
                    f"{self.path}: line {number} is not a measurement: {shorten(line)}"
                ) from None
        return found

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line."""
        if not self._written:
            self._forget()  # listed again when the work is complete
            self._written = True
        if self._whole is not None:
            self._rewrite(self._whole)
        append_line(self.path, canonical_json({**entry, CHECK: _check(entry)}))

    def mend(self) -> str:
        """Take damaged lines out, so that they are measured again; return what there is to tell.

        The log as it was goes to the folder `aside` beside it.
        """
        lines, _ = self._split(self.path.read_bytes() if self.path.exists() else b"")
        sound = [line for line in lines if _is_sound(line)]
        if len(sound) == len(lines):
            return self._unlist_if_changed()
        target = free_place(self.path.parent / ASIDE, self.path.name)
        write_bytes(target, self.path.read_bytes(), listed=False)
        self._rewrite("".join(f"{line}\n" for line in sound))
        lost = len(lines) - len(sound)
        where = target.relative_to(self.path.parent)
        return f"{self.path}: {lost} of {len(lines)} lines damaged, set aside as {where}"

    def _unlist_if_changed(self) -> str:
        """Take the log off the list if it is not what is listed: lines were taken out or moved."""
        try:
            read_bytes(self.path)
        except OSError:
            return ""
        except ChecksumError:
            self._forget()
            return f"{self.path}: lines missing, what they told is measured again"
        return ""

    def _forget(self) -> None:
        if (manifest := Manifest.around(self.path)) is not None:
            manifest.forget(self.path)

    @staticmethod
    def _split(content: bytes) -> tuple[list[str], str]:
        """Return whole lines, and what there is of a torn last one."""
        *lines, torn = content.decode(errors="replace").split("\n")
        return lines, torn

    def _rewrite(self, text: str) -> None:
        self._forget()
        write_bytes(self.path, text.encode(), listed=False)
        self._whole = None


def _check(entry: dict[str, Any]) -> str:
    plain = json.loads(canonical_json(entry))  # as it is read: keys are texts
    return hashlib.sha256(canonical_json(plain).encode()).hexdigest()[:16]


def _unchecked(line: str) -> dict[str, Any]:
    """Return what a line tells, or raise a ValueError if it is not as it was written."""
    entry: dict[str, Any] = json.loads(line)
    if not isinstance(entry, dict):
        raise TypeError("wanted a JSON object")
    check = entry.pop(CHECK, None)
    if check is not None and check != _check(entry):
        raise ValueError("not as it was written")
    return entry


def _is_sound(line: str) -> bool:
    try:
        _unchecked(line)
    except (ValueError, TypeError, RecursionError):
        return False
    return True
