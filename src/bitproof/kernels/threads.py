"""Threads that share a call of the C library, which runs outside Python's lock.

Model:  Python's own threads, not OpenMP: a library linked to another OpenMP than torch's would
        bring a second set of threads. As many as torch takes, the caller among them; they are made
        when the first large call comes, again in a forked process, which inherits none.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch

WORTH_A_THREAD = 1 << 22
"""Bytes or products below which handing work to another thread costs more than it saves."""


def share(part: Callable[[int, int], object], pieces: int, work: int) -> None:
    """Call `part(first, last)` for all pieces, by as many threads as torch takes.

    Args:
        part: computes pieces `first` to `last` and returns 0, or -1 if it had no memory.
        pieces: how many there are, of equal work.
        work: bytes or products of all of them.

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
        bounds = [pieces * i // threads for i in range(threads + 1)]
        others = [
            _pool(os.getpid(), threads - 1).submit(part, bounds[i], bounds[i + 1])
            for i in range(1, threads)
        ]
        codes = [part(0, bounds[1]), *(other.result() for other in others)]
    if any(codes):
        raise MemoryError("wanted scratch memory for sums of table products, got none")


@lru_cache(maxsize=4)
def _pool(process: int, workers: int) -> ThreadPoolExecutor:  # noqa: ARG001
    """Return the threads of this process; a forked one must make its own."""
    return ThreadPoolExecutor(workers, thread_name_prefix="bitproof-tables")
