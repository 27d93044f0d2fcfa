"""Processes of this host."""

import os


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
    return True
