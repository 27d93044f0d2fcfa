"""A directory of long work: begun once, gone on with after interruptions, used by one at a time.

What the results depend on is written down when the work begins, and compared when it goes on.
Files appear complete or not at all.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bitproof.core.atomic import sweep
from bitproof.core.errors import (
    BitproofError,
    DataError,
    ResumeError,
    StorageError,
    one_line,
    shorten,
)
from bitproof.core.files import read_bytes, write_text
from bitproof.core.json_lines import JsonLines
from bitproof.core.lock import LOCK, claim, hold
from bitproof.core.manifest import MANIFEST, Manifest
from bitproof.core.progress import SILENT, Progress
from bitproof.core.sealed_json import seal_json, unseal_json

FACTS = "run.json"
"""The file of facts."""


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
    identity: ClassVar[tuple[str, ...]] = (FACTS,)
    """Names of what says which work this is: it cannot be made anew."""
    made: ClassVar[tuple[str, ...]] = ()
    """Names, with `*`, of what the work makes and reads again."""
    logs: ClassVar[tuple[str, ...]] = ()
    """Names, with `*`, of logs, whose lines carry checksums."""
    sealed: ClassVar[tuple[str, ...]] = ()
    """Names, with `*`, of parts that carry checksums of their own."""

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
            self.sweep(alone=True)
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

    def check_no_parts(self, plan: str) -> None:
        """Raise a ResumeError if parts of work lie here, but not the file that tells which."""
        found = [path.name for path in self._found(*self.identity, *self.made, *self.logs)]
        if found:
            raise ResumeError(
                f"{self.path}: holds parts of a {self.work} ({min(found)}) without its {plan}; "
                "choose another --out"
            )

    def check_same(self, before: dict[str, Any], now: dict[str, Any], problem: str) -> None:
        """Raise a ResumeError that names each difference between two tables."""
        lines = differences(before, now)
        if lines:
            raise ResumeError(f"{self.path}: {problem}. " + "; ".join(lines))

    def sweep(self, *, alone: bool = False) -> None:
        """Remove the temporary files of killed processes; see `core.atomic.sweep`."""
        for folder in (self.path, *self.path.glob("*/")):
            sweep(folder, alone=alone)

    @property
    def manifest(self) -> Manifest:
        """The list of what was written here."""
        return Manifest(self.path)

    def take_stock(self, say: Callable[[str], None], *logs: Path) -> None:
        """Move aside what is not as it was written, so that it is made anew; `say` each.

        `logs` are those that this process appends to.

        Raises:
            ResumeError: there is no manifest, it is damaged, or what says which work this is.
        """
        manifest = self.manifest
        if not manifest.path.exists():
            raise ResumeError(
                f"{self.path}: has no {MANIFEST}, so that nothing in it can be trusted (begun by "
                "an older bitproof?); choose another --out"
            )
        try:
            wrong, strange = manifest.differing(), self.strange()
        except DataError as error:
            raise ResumeError(str(error)) from None
        begun = self._found(*self.made, *self.logs, *self.sealed)
        for name in self.identity:
            problem = "not listed" if name in strange else wrong.get(name)
            if problem and (problem != "missing" or begun):
                raise ResumeError(
                    f"{self.path / name}: {problem}, and says which {self.work} this is; "
                    "take it from a copy, or choose another --out"
                )
        checked = self._names(*self.sealed, *self.logs)
        for name, problem in {**dict.fromkeys(strange, "not listed"), **wrong}.items():
            # What is missing is made anew, or by another process; parts and lines have checksums.
            if problem != "missing" and name not in checked:
                say(f"{self.path / name}: {problem}, set aside as {manifest.set_aside(name)}")
        for path in logs:
            if line := JsonLines(path).mend():
                say(line)

    def strange(self) -> set[str]:
        """Return names of files that the work would read, though the manifest does not list them.

        Raises:
            DataError: the manifest is missing or damaged.
        """
        return {*self.manifest.unlisted()} & self._names(*self.identity, *self.made)

    def finish(self) -> None:
        """List what was appended to, and say that the work is complete."""
        self.manifest.finish(self._found(*self.logs, *self.sealed))

    def _found(self, *names: str) -> list[Path]:
        return sorted(path for name in names for path in self.path.glob(name))

    def _names(self, *names: str) -> set[str]:
        return {path.relative_to(self.path).as_posix() for path in self._found(*names)}

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

    identity: ClassVar[tuple[str, ...]] = ("plan.json",)

    plan = Entry("plan.json")

    def begin(
        self,
        plan: dict[str, Any],
        *,
        resume: bool = False,
        progress: Progress = SILENT,
        log: Path | None = None,
    ) -> None:
        """Write down what is to be done, or make sure that it is what was begun.

        `plan` holds JSON values; its table `fingerprint` says what the results depend on. The keys
        `layout` and `sha256` are added in the file. With `resume`, work that lies here may go on;
        without any, it begins: so all shards pass True. What changed since it was written is set
        aside, and `progress` is told; `log` is one that this process appends to.

        Raises:
            ResumeError: work lies here and `resume` was not asked for, or its fingerprint differs,
                each difference is named; or only parts of it lie here.
            DataError: its plan is damaged.
            StorageError: the place cannot be written.
        """
        self.check_place()
        content = json.loads(json.dumps(plan, allow_nan=False))
        with hold(self.path / ".begin"):  # of several shards that start at once, one writes
            self.sweep()
            if not self.plan.exists():
                self.check_no_parts(self.plan.name)
                self.manifest.create()
                write_sealed(self.plan, content)
                return
            self.check_resume(resume=resume)
            before = self.read_plan()["fingerprint"]
            self.check_same(before, content["fingerprint"], f"belongs to another {self.work}")
            self.take_stock(progress.say, *filter(None, [log]))
            self.manifest.reopen()

    def read_plan(self) -> dict[str, Any]:
        """Return the plan that `begin` wrote, or raise a DataError if it is missing or damaged."""
        if not self.plan.exists():
            raise DataError(f"{self.path}: holds no {self.work} (no plan.json)")
        content = read_sealed(self.plan)
        if not isinstance(content.get("fingerprint"), dict):
            raise DataError(f"{self.plan}: damaged, wanted a fingerprint")
        return content


def read_json(path: Path, problem: type[BitproofError] = ResumeError) -> dict[str, Any]:
    """Return a JSON object that a run or a campaign wrote.

    Raises:
        ResumeError: it is missing or damaged; or `problem`, where that is another error.
    """
    try:
        content = json.loads(read_bytes(path))
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
    write_text(path, seal_json(content))


def read_sealed(path: Path) -> dict[str, Any]:
    """Return what `write_sealed` wrote.

    Raises:
        DataError: it is missing, damaged, edited, or of another layout.
    """
    try:
        return unseal_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror or error})") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _by_number(value: Any) -> Any:
    """Return a list of tables as a table of its numbers; anything else as it is."""
    tables = isinstance(value, list) and any(isinstance(one, dict) for one in value)
    return dict(enumerate(value)) if tables else value


def _show(value: Any) -> str:
    """Return a value in one short line that any terminal can print, text without its quotes."""
    return one_line(value) if isinstance(value, str) else shorten(value)
