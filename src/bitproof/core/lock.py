"""Who works in a directory: kernel locks, gone with the process that holds them.

Model:  a whole run holds `.lock` alone. A shard holds `.lock` together with other shards, and
        `.lock-K-of-N` alone. The kernel releases a lock when its process ends, however it ends;
        no clock is asked. A file that stays holds pid, host and start of who took it last.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname

from bitproof.core.errors import InUseError, StorageError

Shard = tuple[int, int]
"""Number of the share of some work, from 1, and number of shares."""
LOCK = ".lock"
"""The file that a whole run holds alone."""


@contextmanager
def claim(folder: Path, *, shard: Shard | None) -> Iterator[None]:
    """Hold a directory, made if there is none, for a run; or be refused at once.

    With `shard=None` this is a whole run, which excludes all others; `(k, n)` is one of `n` shards,
    which excludes whole runs and the same shard.

    Programs started meanwhile do not inherit the lock; processes made by a bare fork do, so
    workers are spawned.

    Raises:
        InUseError: another run is in the way; the message tells its pid and host.
        StorageError: the folder cannot be made, written or locked.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, claim(Path(folder), shard=(1, 2)):
        ...     with claim(Path(folder), shard=(2, 2)):
        ...         sorted(path.name for path in Path(folder).iterdir())
        ['.lock', '.lock-1-of-2', '.lock-2-of-2']
    """
    own = LOCK if shard is None else f"{LOCK}-{shard[0]}-of-{shard[1]}"
    with ExitStack() as stack:
        try:
            if shard is not None:
                common = stack.enter_context(_locked(folder / LOCK, fcntl.LOCK_SH | fcntl.LOCK_NB))
                os.ftruncate(common, 0)  # nobody holds it alone: what it tells is of the past
            file = stack.enter_context(_locked(folder / own, fcntl.LOCK_EX | fcntl.LOCK_NB))
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {gethostname()} {_now()}\n".encode(), 0)
            stack.callback(os.ftruncate, file, 0)
        except BlockingIOError:
            raise InUseError(
                f"{folder}: in use by {_holders(folder)}; wait for its end, stop it, "
                f"or choose another --out{_elsewhere(folder)}"
            ) from None
        except OSError as error:
            raise StorageError(f"{folder}: cannot lock ({error.strerror or error})") from error
        yield


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a lock file for a moment, after whoever else holds it; it is gone afterwards."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(path, fcntl.LOCK_EX))
        except OSError as error:
            raise StorageError(f"{path}: cannot lock ({error.strerror or error})") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # who waits for it makes it anew


def is_alive(pid: int) -> bool:
    """Find out whether a process of this host lives.

    Example:
        >>> is_alive(os.getpid())
        True
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    except OverflowError:
        return False  # no such number exists
    return True


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[int]:
    """Yield the descriptor of a locked file; it is closed on exec."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, mode)
            if os.fstat(file).st_nlink == 0:  # its holder removed it in the meantime
                continue
            yield file
            return
        finally:
            os.close(file)


def _holders(folder: Path) -> str:
    """Return who the lock files name, without those of this host that live no more."""
    words = []
    for path in sorted(folder.glob(f"{LOCK}*")):
        if (holder := _holder(path)) is None:
            continue  # empty: taken this moment, or released
        pid, host, since = holder
        if host == gethostname() and not is_alive(pid):
            continue
        shard = path.name.removeprefix(LOCK).replace("-", " ").strip()
        shown = f" (shard {shard})" if shard else ""
        words.append(f"pid {pid} on host {host} since {since}{shown}")
    return ", ".join(words[:3]) + (" and others" if len(words) > 3 else "") or "another process"


def _elsewhere(folder: Path) -> str:
    """Return the way out if only other hosts hold a folder: their locks may outlive them there."""
    holders = [holder for path in folder.glob(f"{LOCK}*") if (holder := _holder(path))]
    if not holders or any(host == gethostname() for _, host, _ in holders):
        return ""
    return f"; if that host is gone, delete {folder / LOCK}*"


def _holder(path: Path) -> tuple[int, str, str] | None:
    """Return pid, host and start of who wrote a lock file; None if it names nobody."""
    try:
        pid, host, since = path.read_text(encoding="utf-8", errors="replace").split()
        return int(pid), host, since
    except (OSError, ValueError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
