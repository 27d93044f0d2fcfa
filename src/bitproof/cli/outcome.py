"""Exit codes: 0, 2 for bad input, 130 for Ctrl-C; anything else is a bug and keeps its traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bitproof.core.errors import BitproofError


@contextmanager
def report_problems() -> Iterator[None]:
    """Turn what a user can cause into one line on standard error."""
    try:
        yield
    except BitproofError as error:
        leave(f"bitproof: {error}", 2)
    except KeyboardInterrupt:
        leave("bitproof: interrupted; what is finished is kept, go on with --resume", 130)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        leave(f"bitproof: {error.filename or 'disk'}: cannot write ({error.strerror})", 2)


def leave(message: str, code: int) -> None:
    """Print to standard error and exit."""
    print(message, file=sys.stderr)  # noqa: T201
    sys.exit(code)
