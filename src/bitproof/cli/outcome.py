"""Exit codes: 0, 2 for what a user can cause, 130 for Ctrl-C, 143 for SIGTERM; else a bug.

A bug keeps its traceback.
"""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from bitproof.core.errors import BitproofError, BitproofWarning, StoppedError
from bitproof.core.stop_request import StopRequest

CAUSED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
}
"""What the system says when the disk or the place, not the program, is at fault."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM."""


class Interruption(KeyboardInterrupt):
    """Ctrl-C.

    Not a plain KeyboardInterrupt: where one of those has passed through the `exec` of a text, as
    it can while torch is imported, Python ends by killing itself, whatever exit code is asked for.
    """


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise an `Interruption` inside the block, unless somebody else handles it."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(_number: int, _frame: object) -> None:
    raise Interruption


@contextmanager
def terminable(stop: StopRequest) -> Iterator[list[int]]:
    """Let SIGTERM request a stop inside the block; yield a list that holds the signal, if any."""
    came: list[int] = []

    def ask(number: int, _frame: object) -> None:
        came.append(number)
        stop.request()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def report_problems(interrupted: str = "") -> Iterator[None]:
    """Turn what a user can cause into lines on standard error; say `interrupted` after Ctrl-C."""
    try:
        yield
    except StoppedError as error:
        leave(str(error), TERMINATED)
    except BitproofError as error:
        leave(str(error), 2)
    except KeyboardInterrupt:
        leave(f"interrupted; {interrupted}" if interrupted else "interrupted", 130)
    except OSError as error:
        if error.errno not in CAUSED:
            raise
        leave(f"{error.filename or 'output'}: {error.strerror}", 2)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Print deliberate warnings in one line on standard error inside the block."""
    show = warnings.showwarning

    def show_plainly(  # noqa: PLR0917 - as Python calls it
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, BitproofWarning):
            print(f"bitproof: warning: {message}", file=file or sys.stderr)
        else:
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_plainly
    try:
        yield
    finally:
        warnings.showwarning = show


def leave(message: str, code: int) -> None:
    """Print to standard error and exit."""
    with suppress(OSError):
        for line in message.splitlines():
            print(f"bitproof: {line}", file=sys.stderr)  # noqa: T201
    _give_up_unprinted()
    sys.exit(code)


def _give_up_unprinted() -> None:
    """Drop what standard output cannot take, or Python would complain once more on its way out."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
