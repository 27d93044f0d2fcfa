"""A directory of long work: begun once, gone on with after interruptions, used by one at a time.

What the results depend on is written down when the work begins, and compared when it goes on.
Files appear complete or not at all.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bitproof.core.errors import (
    BitproofError,
    DataError,
    ResumeError,
    StorageError,
    one_line,
    shorten,
)
from bitproof.core.files import sweep, write_bytes, write_text
from bitproof.core.lock import LOCK, claim, hold
from bitproof.core.spec import canonical_json

FACTS = "run.json"
"""The file of facts."""
LAYOUT = 1
"""Version of sealed files."""


@dataclass(frozen=True)
class ResumableDirectory:
    """Long work on disk.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     directory = ResumableDirectory(Path(folder) / "new")
        ...     with directory.claimed():
        ...         _ = directory.note(seconds={"train": 2.0})
        ...         directory.note(seconds={"measure": 1.0})
        {'seconds': {'train': 2.0, 'measure': 1.0}}
    """

    path: Path
    work: ClassVar[str] = "run"
    """What lies here, in messages."""

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the directory alone while the block runs, rid of what killed processes left.

        A new directory in which nothing was written is gone again afterwards.

        Raises:
            ResumeError: another process holds it; the message tells its pid and host.
            StorageError: it cannot be made, written or locked.
        """
        self.check_place()
        new = not self.path.exists()
        with claim(self.path, shard=None):
            for folder in (self.path, *self.path.glob("*/")):
                sweep(folder)
            try:
                yield
            finally:
                with suppress(OSError):
                    (self.path / LOCK).unlink()
                    if new:
                        self.path.rmdir()  # unless there is something in it

    def check_place(self) -> None:
        """Raise a StorageError if this is a file."""
        if self.path.exists() and not self.path.is_dir():
            raise StorageError(f"{self.path}: wanted a {self.work} directory, this is a file")

    def check_resume(self, *, resume: bool) -> None:
        """Raise a ResumeError unless the work that was begun here may go on."""
        if not resume:
            raise ResumeError(
                f"{self.path}: holds a {self.work} already; go on with --resume, "
                "or choose another --out"
            )

    def check_same(self, before: dict[str, Any], now: dict[str, Any], problem: str) -> None:
        """Raise a ResumeError that names each difference between two tables."""
        lines = differences(before, now)
        if lines:
            raise ResumeError(f"{self.path}: {problem}. " + "; ".join(lines))

    def note(self, **facts: Any) -> dict[str, Any]:
        """Merge facts into those on disk and return all; dictionaries are merged key by key."""
        known = self.facts()
        for key, value in facts.items():
            merge = isinstance(value, dict) and isinstance(known.get(key), dict)
            known[key] = {**known[key], **value} if merge else value
        write_text(self.path / FACTS, json.dumps(known, indent=1) + "\n")
        return known

    def facts(self) -> dict[str, Any]:
        """Return what was noted, empty if nothing was."""
        path = self.path / FACTS
        return read_json(path) if path.exists() else {}


class Entry:
    """What lies in a directory under a fixed name: a path, as an attribute of the class."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, directory: ResumableDirectory, owner: type) -> Path:
        return directory.path / self.name


@dataclass(frozen=True)
class PlannedDirectory(ResumableDirectory):
    """Long work whose plan is written down before anything runs, so that any process may share."""

    parts_of_work: ClassVar[tuple[str, ...]] = ()
    """Names, with `*`, of what may not lie here without a plan."""

    plan = Entry("plan.json")

    def begin(self, plan: dict[str, Any], *, resume: bool = False) -> None:
        """Write down what is to be done, or make sure that it is what was begun.

        `plan` holds JSON values; its table `fingerprint` says what the results depend on. The keys
        `layout` and `sha256` are added in the file. With `resume`, work that lies here may go on;
        without any, it begins: so all shards pass True.

        Raises:
            ResumeError: work lies here and `resume` was not asked for, or its fingerprint differs,
                each difference is named; or only parts of it lie here.
            DataError: its plan is damaged.
            StorageError: the place cannot be written.
        """
        self.check_place()
        content = json.loads(json.dumps(plan, allow_nan=False))
        with hold(self.path / ".begin"):  # of several shards that start at once, one writes
            sweep(self.path)
            if not self.plan.exists():
                self._check_no_parts()
                write_sealed(self.plan, content)
                return
        self.check_resume(resume=resume)
        before = self.read_plan()["fingerprint"]
        self.check_same(before, content["fingerprint"], f"belongs to another {self.work}")

    def read_plan(self) -> dict[str, Any]:
        """Return the plan that `begin` wrote, or raise a DataError if it is missing or damaged."""
        if not self.plan.exists():
            raise DataError(f"{self.path}: holds no {self.work} (no plan.json)")
        content = read_sealed(self.plan)
        if not isinstance(content.get("fingerprint"), dict):
            raise DataError(f"{self.plan}: damaged, wanted a fingerprint")
        return content

    def _check_no_parts(self) -> None:
        """Raise a ResumeError if parts of other work lie here, but not what it was."""
        found = [path.name for each in self.parts_of_work for path in self.path.glob(each)]
        if found:
            raise ResumeError(
                f"{self.path}: holds parts of a {self.work} ({min(found)}) without its plan.json; "
                "choose another --out"
            )


def read_json(path: Path, problem: type[BitproofError] = ResumeError) -> dict[str, Any]:
    """Return a JSON object that a run or a campaign wrote.

    Raises:
        ResumeError: it is missing or damaged; or `problem`, where that is another error.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise problem(f"{path}: damaged, cannot go on ({error})") from None
    if not isinstance(content, dict):
        raise problem(f"{path}: damaged, wanted a JSON object")
    return content


def differences(old: dict[Any, Any], new: dict[Any, Any], prefix: str = "") -> list[str]:
    """Return one line for each place in which two nested tables differ.

    Example:
        >>> differences({"seed": 0, "data": {"n": 9}}, {"seed": 1, "data": {}})
        ['seed: 0 before, 1 now', 'data.n: 9 before, nothing now']
        >>> differences({"a": [{"n": 1}, {"n": 2}]}, {"a": [{"n": 1}, {"n": 3}]})
        ['a.1.n: 2 before, 3 now']
    """
    lines = []
    for key in dict.fromkeys([*old, *new]):
        a, b = (_by_number(table.get(key, "nothing")) for table in (old, new))
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {_show(a)} before, {_show(b)} now")
    return lines


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with its digest, so that damage and edits are noticed."""
    sealed = {"layout": LAYOUT, **content, "sha256": _digest(content)}
    write_bytes(path, (json.dumps(sealed, indent=1) + "\n").encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what `write_sealed` wrote.

    Raises:
        DataError: it is missing, damaged, edited, or of another layout.
    """
    content = read_json(path, DataError)
    layout, digest = content.pop("layout", None), content.pop("sha256", None)
    try:
        sound = digest == _digest(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error})") from None
    if not sound:
        raise DataError(f"{path}: damaged or edited (its sha256 does not match)")
    if layout != LAYOUT:
        raise DataError(f"{path}: layout {layout}, wanted {LAYOUT}")
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _by_number(value: Any) -> Any:
    """Return a list of tables as a table of its numbers; anything else as it is."""
    tables = isinstance(value, list) and any(isinstance(one, dict) for one in value)
    return dict(enumerate(value)) if tables else value


def _show(value: Any) -> str:
    """Return a value in one short line that any terminal can print, text without its quotes."""
    return one_line(value) if isinstance(value, str) else shorten(value)
