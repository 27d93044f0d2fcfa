"""Who computes: this process, several, or a Ray cluster. One way for measurements and campaigns.

A result does not depend on who computes it. Work can be sent to another process, where it starts
once and then takes task after task; the process that asked is the only one that writes.
"""

import os
import signal
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from itertools import islice
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from threading import Thread
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch

from bitproof.core.errors import BitproofError, WorkerError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Workers
from bitproof.core.user_code import folders, look_in

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

MOST_DEATHS = 3
"""Workers that may die one after another without a task being finished between."""


@runtime_checkable
class Work(Protocol[T_contra, R_co]):
    """Something to be computed, task by task; it can be sent to another process."""

    def start(self) -> Callable[[T_contra], R_co]:
        """Read or build what all tasks need, and return what computes one."""
        ...


class Pool(Generic[T, R]):
    """Workers at one piece of work, kept from `run` to `run`; starts with the first task."""

    def __enter__(self) -> "Pool[T, R]":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @abstractmethod
    def run(self, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Yield each task with its result, as they are finished; taken as workers are free.

        Raises:
            WorkerError: workers die again and again.
        """

    def prepare(self) -> None:
        """Let workers that take long to start do so now, beside other work."""

    def close(self) -> None:
        """Stop the workers."""


class Executor(Spec):
    """A place to compute; tasks may be finished in any order."""

    kind: str

    @property
    def told(self) -> str:
        """Who computes, in words, for reports."""
        workers = getattr(self, "workers", None)
        name = self.kind.replace("_", " ")
        return name if workers is None else f"{name}, {workers} workers"

    @abstractmethod
    def open(self, work: Work[T, R]) -> Pool[T, R]:
        """Return a pool for one piece of work."""


EXECUTORS: Registry[Executor] = Registry("executors")


@EXECUTORS.register
class InProcess(Executor):
    """Compute here, one task after the other.

    Example:
        >>> InProcess().kind
        'in_process'
    """

    kind: Literal["in_process"] = "in_process"

    @property
    def told(self) -> str:
        """Who computes, in words."""
        return "one process"

    def open(self, work: Work[T, R]) -> Pool[T, R]:
        """Return a pool that works when it is asked for the next result."""
        return _Here(work)


class _Here(Pool[T, R]):
    def __init__(self, work: Work[T, R]) -> None:
        self.work = work
        self.compute: Callable[[T], R] | None = None

    def run(self, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        for task in tasks:
            self.compute = self.compute or self.work.start()
            yield task, self.compute(task)


@EXECUTORS.register
class Processes(Executor):
    """Compute in several processes of this machine, each with its share of the cores.

    A worker that dies is replaced, and its tasks are done again.

    Example:
        >>> Processes(workers=2).workers
        2
    """

    kind: Literal["processes"] = "processes"
    workers: Workers = 2
    """Processes."""

    @property
    def told(self) -> str:
        """Who computes, in words."""
        return f"{self.workers} processes"

    def open(self, work: Work[T, R]) -> Pool[T, R]:
        """Return a pool of processes."""
        return _ProcessPool(work, self.workers)


class _ProcessPool(Pool[T, R]):
    def __init__(self, work: Work[T, R], workers: int) -> None:
        self.work, self.workers = work, workers
        self.pool: ProcessPoolExecutor | None = None

    def run(self, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        left, again, deaths = iter(tasks), deque[T](), 0
        running: dict[Future[R], T] = {}
        while True:
            try:
                while len(running) < 2 * self.workers and (more := next_task(again, left)):
                    running[self._submit(_compute, more[0])] = more[0]
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    deaths = 0
                    yield running.pop(future), result
            except BrokenProcessPool:
                deaths += 1
                again.extendleft(reversed(running.values()))
                running.clear()
                self.close()
                if deaths >= MOST_DEATHS:
                    raise WorkerError(
                        f"workers: died {deaths} times in a row (out of memory?); what is "
                        "finished is kept, go on with --resume and fewer --workers"
                    ) from None

    def prepare(self) -> None:
        """Start the processes; a call that does nothing is what makes the pool do so."""
        self._submit(int)

    def _submit(self, function: Callable[..., Any], *values: T) -> Future[Any]:
        """Send a call to the processes; those that are started for it take no signals."""
        pool = self._started()
        resource_tracker.ensure_running()  # else started below, where it would let signals in
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            return pool.submit(function, *values)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _started(self) -> ProcessPoolExecutor:
        if self.pool is None:
            threads = max(1, (os.cpu_count() or 1) // self.workers)
            self.pool = ProcessPoolExecutor(
                self.workers,
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(self.work, threads, os.getpid(), folders()),
            )
        return self.pool

    def close(self) -> None:
        """Stop at once; nothing of the processes is needed any more."""
        if self.pool is None:
            return
        processes = list((getattr(self.pool, "_processes", None) or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with suppress(OSError, AttributeError):
                process.kill()
        self.pool = None


def next_task(again: deque[T], left: Iterator[T]) -> list[T]:
    """Return the next task in a list: one that has to be done again, or a new one; or nothing."""
    if again:
        return [again.popleft()]
    return list(islice(left, 1))


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What a terminal sends to workers as well, but is their parent's affair."""
_STARTED: list[Callable[[Any], Any]] = []
"""What computes in this process, if a pool started it."""


def _begin(work: Work[Any, Any], threads: int, parent: int, places: tuple[Path, ...]) -> None:
    """Make this process a worker, which ends when the process that started it does."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    Thread(target=_follow, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    look_in(places)
    try:
        _STARTED.append(work.start())
    except BitproofError as error:
        _STARTED.append(partial(_fail, error))


def _fail(error: BitproofError, _task: Any) -> Any:
    """Tell what went wrong at the start, to whoever asks for a result."""
    raise error


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _compute(task: Any) -> Any:
    return _STARTED[-1](task)
