"""Exit codes: 0, 2 for what a user can cause, 130 for Ctrl-C, 143 for SIGTERM; else a bug.

A bug keeps its traceback.
"""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import TextIO

from bitproof.cli.signals import Interrupt, LeaveAtOnce, handled
from bitproof.core.errors import BitproofError, BitproofWarning, StoppedError
from bitproof.core.stop_request import StopRequest

CAUSED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
}
"""What the system says when the disk or the place, not the program, is at fault."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM."""


PATIENCE_S = 8.0
"""Seconds that a step may take to its end after SIGTERM; Docker kills after 10."""
KEPT = "what is finished is kept, go on with --resume"


class Finish(Interrupt):
    """A handler that lets SIGTERM end work after its present step, once it has `begun`.

    A step that has not ended after `PATIENCE_S` is left as by Ctrl-C. `kept` is said of work that
    has begun.
    """

    def __init__(self, stop: StopRequest, *, begun: Callable[[], bool], kept: str = KEPT) -> None:
        super().__init__(lambda: kept if begun() else "nothing was begun")
        self.stop, self.begun = stop, begun
        self.asked = False
        """Whether SIGTERM came."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if not self.is_new():
            return
        if number != signal.SIGTERM or self.asked or not self.begun():
            self.interrupt(number, frame)
        self.number, self.asked = number, True
        self.stop.request()
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Leave the step when time is over, inside the block."""
        before = signal.signal(
            signal.SIGALRM, lambda _number, frame: self.interrupt(signal.SIGTERM, frame)
        )
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def resumable(begun: Callable[[], bool]) -> Interrupt:
    """Return the handler of work that any signal may end at any moment, and that can go on."""
    return Interrupt(lambda: KEPT if begun() else "nothing was begun")


@contextmanager
def report_problems(handler: LeaveAtOnce | None = None) -> Iterator[None]:
    """Turn what a user can cause into lines on standard error; `handler` takes signals."""
    handler = handler or Interrupt()
    with handled(handler), handler.patient() if isinstance(handler, Finish) else nullcontext():
        try:
            yield
        except StoppedError:
            handler.number = signal.SIGTERM
            leave(handler.line, TERMINATED)
        except BitproofError as error:
            leave(str(error), 2)
        except KeyboardInterrupt:
            leave(handler.line, handler.code)
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
