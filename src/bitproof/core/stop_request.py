"""When long work has to stop: after some time, or because somebody asks.

Work that can go on later looks at a `StopRequest` between its steps, saves what it has, and raises
`StoppedError`. Nothing is ever cut off in the middle of a step.
"""

import time

from bitproof.core.errors import StoppedError


class StopRequest:
    """A point in time, `seconds` from now (None: never), after which work stops, or when asked.

    Example:
        >>> stop = StopRequest(seconds=3600.0)
        >>> stop.requested
        False
        >>> stop.request()
        >>> stop.requested
        True
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = float("inf") if seconds is None else time.monotonic() + seconds
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether time is over, or somebody asked."""
        return self._requested or time.monotonic() >= self._end

    def request(self) -> None:
        """Stop at the next opportunity; safe to call from a signal handler."""
        self._requested = True

    def check(self) -> None:
        """Raise a StoppedError if work has to stop."""
        if self.requested:
            raise StoppedError("stopped as asked; what is finished is kept")
