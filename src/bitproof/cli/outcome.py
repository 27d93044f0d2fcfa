"""Exit codes: 0, 2 for what a user can cause, 130 for Ctrl-C; any other error is a bug.

A bug keeps its traceback.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bitproof.core.errors import BitproofError

CAUSED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP),
}
"""What the system says when the disk or the place, not the program, is at fault."""


@contextmanager
def report_problems(interrupted: str = "") -> Iterator[None]:
    """Turn what a user can cause into one line on standard error, or one for each problem.

    Args:
        interrupted: what to say after Ctrl-C.
    """
    try:
        yield
    except BitproofError as error:
        leave(str(error), 2)
    except KeyboardInterrupt:
        leave(f"interrupted; {interrupted}" if interrupted else "interrupted", 130)
    except OSError as error:
        if error.errno not in CAUSED:
            raise
        leave(f"{error.filename or 'output'}: {error.strerror}", 2)


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
