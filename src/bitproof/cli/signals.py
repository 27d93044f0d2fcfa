"""Ctrl-C and SIGTERM: one line on standard error, then exit code 130 or 143.

Model:  work is left by an exception, so that files and processes are closed on the way out. An
        exception that comes while a module is imported can get lost there, or come out as another
        one, so then the process leaves at once; nothing is lost by that, as files appear complete
        or not at all. Handlers are here before anything large is imported, so this imports next
        to nothing.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
"""What is said of each signal."""
TWICE_S = 1.0
"""Seconds in which a signal that comes again is the same one: `timeout` sends two."""


class Interruption(KeyboardInterrupt):
    """One of the signals.

    Not a plain KeyboardInterrupt: where one of those has passed through the `exec` of a text,
    Python ends by killing itself, whatever exit code is asked for.
    """


class LeaveAtOnce:
    """A handler that ends the process, wherever it is, with one line.

    `kept` returns what the line adds, if anything.
    """

    def __init__(self, kept: Callable[[], str] = str) -> None:
        self.kept = kept
        self.number: int = signal.SIGINT
        """The signal that came last."""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal."""
        self.number = number
        self.leave()

    def leave(self) -> None:
        """Print the line and end the process."""
        with suppress(OSError, RuntimeError, ValueError):  # it may come in the middle of a print
            sys.stdout.flush()
        with suppress(OSError):
            if os.isatty(1):
                os.write(1, b"\x1b[?25h")  # a progress bar hides the cursor
            os.write(2, f"bitproof: {self.line}\n".encode())
        os._exit(self.code)

    @property
    def line(self) -> str:
        """What is said."""
        return "; ".join(filter(None, (WORDS[signal.Signals(self.number)], self.kept())))

    @property
    def code(self) -> int:
        """The exit code."""
        return 128 + self.number


class Interrupt(LeaveAtOnce):
    """A handler that raises an Interruption, and leaves at once where that could get lost.

    So it does when another signal comes while the first has not ended the process yet.
    """

    def __init__(self, kept: Callable[[], str] = str) -> None:
        super().__init__(kept)
        self.last = -TWICE_S
        """When a signal came last."""
        self.raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.is_new():
            self.interrupt(number, frame)

    def is_new(self) -> bool:
        """Tell whether the signal that comes now is not the last one again."""
        before, self.last = self.last, time.monotonic()
        return self.last - before >= TWICE_S

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Raise an Interruption, or leave at once."""
        self.number = number
        if self.raised or _imports(frame):
            self.leave()
        self.raised = True
        raise Interruption


@contextmanager
def handled(handler: LeaveAtOnce) -> Iterator[None]:
    """Let `handler` take both signals inside the block, unless they are ignored or another's."""
    found = {number: signal.getsignal(number) for number in WORDS}
    own = {number: before for number, before in found.items() if _is_free(before)}
    for number in own:
        signal.signal(number, handler)
    hook, sys.unraisablehook = sys.unraisablehook, _leave_or_tell
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, before in own.items():
            signal.signal(number, before)


def handle(handler: LeaveAtOnce) -> None:
    """Let `handler` take both signals from now on, as in `handled`."""
    for number in WORDS:
        if _is_free(signal.getsignal(number)):
            signal.signal(number, handler)


def _is_free(handler: object) -> bool:
    """Tell whether a handler is Python's default, or one of these."""
    ours = isinstance(handler, LeaveAtOnce)
    return ours or handler in {signal.default_int_handler, signal.SIG_DFL}


def _leave_or_tell(lost: "sys.UnraisableHookArgs") -> None:
    """Leave where an Interruption came in a place that can raise nothing, such as `__del__`."""
    if isinstance(lost.exc_value, Interruption):
        for number in WORDS:
            handler = signal.getsignal(number)
            if isinstance(handler, LeaveAtOnce):
                handler.leave()
    sys.__unraisablehook__(lost)


def _imports(frame: FrameType | None) -> bool:
    """Tell whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
