"""Threads that share a call of the C library, which runs outside Python's lock.

Model:  as many threads as torch takes, the caller among them; each takes the next few pieces until
        none are left. They are torch's own where it has OpenMP: after a convolution these spin for
        some milliseconds, and others would compete with them for the cores. OpenMP is found
        through torch at run time; the C library is not linked to one, which might be another.
        Elsewhere they are Python's, made when the first large call comes; so in a process that was
        forked after this module came in, where OpenMP must not be used.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count

import torch

WORTH_A_THREAD = 1 << 22
"""Bytes or products below which handing work to another thread costs more than it saves."""
TURNS = 12
"""How often each thread takes pieces, if all are equally fast."""


def share(part: Callable[[int, int], object], pieces: int, work: int) -> None:
    """Call `part(first, last)` until all pieces are done, by as many threads as torch takes.

    A part returns 0, or -1 if it had no memory. `work` is the bytes or products of all pieces,
    which take equally long.

    Raises:
        MemoryError: a part had no memory for its scratch.

    Example:
        >>> found = []
        >>> share(lambda first, last: found.append((first, last)), 7, work=100)
        >>> found
        [(0, 7)]
    """
    threads = min(torch.get_num_threads(), pieces, max(1, work // WORTH_A_THREAD))
    if threads <= 1:
        codes = [part(0, pieces)]
    else:
        turns = min(pieces, threads * TURNS, max(threads, 2 * work // WORTH_A_THREAD))
        step, codes = -(-pieces // turns), []
        firsts = count(0, step)  # `next` is atomic

        def take() -> None:
            """Do pieces until none are left."""
            for first in firsts:
                if first >= pieces:
                    return
                codes.append(part(first, min(first + step, pieces)))

        _call_on_all(take, threads)
    if any(codes):
        raise MemoryError("wanted scratch memory for sums of table products, got none")


def _call_on_all(take: Callable[[], None], threads: int) -> None:
    """Call `take` on this thread and on others; return when all are done."""
    start = _open_mp() if os.getpid() == FIRST_PROCESS else None
    if start is not None:
        _run_parallel(start, take)
        return
    others = [_pool(os.getpid(), threads - 1).submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        for other in others:
            if not other.cancel():  # one that has not begun has nothing left to do
                other.result()


def call_on_threads(
    function: Callable[[ctypes.c_void_p], None], data: ctypes.Structure, threads: int
) -> None:
    """Call a function of the C library on some data, on this thread and up to `threads` others.

    The function shares the work by itself; how many take part is not known beforehand.
    """
    place = ctypes.c_void_p(ctypes.addressof(data))
    if threads <= 1:
        function(place)
        return
    start = _open_mp() if os.getpid() == FIRST_PROCESS else None
    if start is not None:
        start(ctypes.cast(function, _Body), place, threads, 0)  # type: ignore[arg-type]
        return
    others = [_pool(os.getpid(), threads - 1).submit(function, place) for _ in range(threads - 1)]
    try:
        function(place)
    finally:
        for other in others:
            if not other.cancel():
                other.result()


FIRST_PROCESS = os.getpid()
_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@lru_cache(maxsize=1)
def _open_mp() -> Callable[..., None] | None:
    """Return what calls a C function on torch's threads, or None where these are not OpenMP's."""
    try:
        start = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    start.argtypes = [_Body, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    start.restype = None
    found: Callable[..., None] = start
    return found


def _run_parallel(start: Callable[..., None], take: Callable[[], None]) -> None:
    """Call `take` on each thread, and raise what one of them raised."""
    problems: list[BaseException] = []

    def body(_: object) -> None:
        """Keep exceptions: they cannot pass through OpenMP."""
        try:
            take()
        except BaseException as problem:
            problems.append(problem)

    start(_Body(body), None, torch.get_num_threads(), 0)
    if problems:
        raise problems[0]


@lru_cache(maxsize=4)
def _pool(process: int, workers: int) -> ThreadPoolExecutor:  # noqa: ARG001
    """Return the threads of this process; a forked one must make its own."""
    return ThreadPoolExecutor(workers, thread_name_prefix="bitproof-tables")
