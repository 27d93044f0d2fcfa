"""When long work has to stop: after some time, or because somebody asks.

Work that can go on later looks at a `Halt` between its steps, keeps what it has, and raises
`HaltedError`. Nothing is ever cut off in the middle of a step.
"""

import time

from bitproof.core.errors import HaltedError


class Halt:
    """A point in time after which work stops, and a bell that stops it earlier.

    Args:
        seconds: how long work may go on from now; None: until somebody asks.

    Example:
        >>> halt = Halt(seconds=3600.0)
        >>> halt.asked
        False
        >>> halt.ask()
        >>> halt.asked
        True
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = float("inf") if seconds is None else time.monotonic() + seconds
        self._rung = False

    @property
    def asked(self) -> bool:
        """Whether work has to stop."""
        return self._rung or time.monotonic() >= self._end

    def ask(self) -> None:
        """Stop at the next opportunity; safe to call from a signal handler."""
        self._rung = True

    def check(self) -> None:
        """Do nothing, unless work has to stop.

        Raises:
            HaltedError: time is over, or somebody asked.
        """
        if self.asked:
            raise HaltedError("stopped as asked; what is finished is kept")
