"""Who computes the chunks of a campaign: this process, several, or a Ray cluster.

A chunk's result does not depend on who computes it. Workers read the campaign directory and return
columns; the process that started them is the only one that writes.
"""

import os
import signal
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np
import torch

from bitproof.core.errors import AdapterError, WorkerError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Count, NonNegative
from bitproof.injection.worker import Worker

Columns = dict[str, np.ndarray]
MOST_DEATHS = 3
"""Workers that may die one after another without a chunk being finished between."""


class Executor(Spec):
    """Computes chunks, in any order."""

    kind: str

    @abstractmethod
    def compute(
        self, folder: Path, chunks: Sequence[int], *, device: str
    ) -> Iterator[tuple[int, Columns]]:
        """Yield each chunk's number and columns as they are finished.

        Args:
            folder: the campaign directory, where workers can read it.
            chunks: their numbers.
            device: where to compute, `cpu` or `cuda`.

        Raises:
            WorkerError: workers die again and again.
        """


EXECUTORS: Registry[Executor] = Registry("executors")


@EXECUTORS.register
class InProcess(Executor):
    """Compute here, one chunk after the other.

    Example:
        >>> InProcess().kind
        'in_process'
    """

    kind: Literal["in_process"] = "in_process"

    def compute(
        self, folder: Path, chunks: Sequence[int], *, device: str
    ) -> Iterator[tuple[int, Columns]]:
        """Yield each chunk's number and columns, in order."""
        worker = Worker(folder, device)
        for chunk in chunks:
            yield chunk, worker.run(chunk)


@EXECUTORS.register
class Processes(Executor):
    """Compute in several processes of this machine, each with its share of the cores.

    A worker that dies is replaced, and its chunks are done again.

    Example:
        >>> Processes(workers=2).workers
        2
    """

    kind: Literal["processes"] = "processes"
    workers: Count = 2
    """Processes."""

    def compute(
        self, folder: Path, chunks: Sequence[int], *, device: str
    ) -> Iterator[tuple[int, Columns]]:
        """Yield each chunk's number and columns as they are finished.

        Raises:
            WorkerError: workers die again and again.
        """
        left, deaths = deque(chunks), 0
        while left:
            pool = self._pool(folder, device)
            running: dict[Future[Columns], int] = {}
            try:
                while left or running:
                    while left and len(running) < 2 * self.workers:
                        chunk = left.popleft()
                        running[pool.submit(_compute, chunk)] = chunk
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        columns = future.result()
                        chunk = running.pop(future)
                        deaths = 0
                        yield chunk, columns
            except BrokenProcessPool:
                deaths += 1
                left.extendleft(sorted(running.values(), reverse=True))
                if deaths >= MOST_DEATHS:
                    raise WorkerError(
                        f"workers: died {deaths} times in a row (out of memory?); what is "
                        "finished is kept, go on with --resume and fewer --workers"
                    ) from None
            finally:
                _kill(pool)

    def _pool(self, folder: Path, device: str) -> ProcessPoolExecutor:
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        return ProcessPoolExecutor(
            self.workers,
            mp_context=get_context("spawn"),
            initializer=_begin,
            initargs=(folder, device, threads),
        )


@EXECUTORS.register
class Ray(Executor):
    """Compute on a Ray cluster; its nodes must see the campaign directory.

    Address: that of `RAY_ADDRESS`, else a cluster of this machine alone. An actor that dies is
    replaced, and its chunk is done again. If the driver dies, `--resume` goes on.

    Example:
        >>> Ray(workers=4, gpus=0.25).gpus
        0.25
    """

    kind: Literal["ray"] = "ray"
    workers: Count = 2
    """Actors."""
    cpus: NonNegative = 1.0
    """Processor cores of each actor."""
    gpus: NonNegative = 0.0
    """GPUs of each actor; a fraction lets several share one."""

    def compute(
        self, folder: Path, chunks: Sequence[int], *, device: str
    ) -> Iterator[tuple[int, Columns]]:
        """Yield each chunk's number and columns as they are finished.

        Raises:
            AdapterError: Ray is not installed.
            WorkerError: actors die again and again.
        """
        ray = _import_ray()
        started = not ray.is_initialized()
        if started:
            self._start(ray)
        actor = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus)(_Actor)
        threads = max(1, int(self.cpus))

        def hire() -> Any:
            return actor.remote(str(folder.resolve()), device, threads)

        left, deaths = deque(chunks), 0
        running: dict[Any, tuple[Any, int]] = {}
        try:
            idle = [hire() for _ in range(min(self.workers, len(left)))]
            while left or running:
                while left and idle:
                    one, chunk = idle.pop(), left.popleft()
                    running[one.run.remote(chunk)] = (one, chunk)
                (done, *_), _ = ray.wait(list(running), num_returns=1)
                one, chunk = running.pop(done)
                try:
                    columns = ray.get(done)
                except ray.exceptions.RayActorError:
                    deaths += 1
                    if deaths >= MOST_DEATHS * self.workers:
                        raise WorkerError(
                            f"ray: actors died {deaths} times in a row; what is finished is kept, "
                            "go on with --resume"
                        ) from None
                    left.appendleft(chunk)
                    idle.append(hire())
                    continue
                deaths = 0
                idle.append(one)
                yield chunk, columns
        finally:
            if started:
                ray.shutdown()

    def _start(self, ray: Any) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if not os.environ.get("RAY_ADDRESS"):
            cores = max(os.cpu_count() or 1, int(-(-self.workers * self.cpus // 1)))
            options |= {"num_cpus": cores, "include_dashboard": False}
        ray.init(**options)


class _Actor:
    """A worker on a Ray node."""

    def __init__(self, folder: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.worker = Worker(Path(folder), device)

    def run(self, chunk: int) -> Columns:
        return self.worker.run(chunk)


_WORKERS: list[Worker] = []
"""The worker of this process, if a pool started it."""


def _begin(folder: Path, device: str, threads: int) -> None:
    """Make this process a worker, which ends when the process that started it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(threads)
    _WORKERS.append(Worker(folder, device))


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _compute(chunk: int) -> Columns:
    return _WORKERS[-1].run(chunk)


def _kill(pool: ProcessPoolExecutor) -> None:
    """Stop a pool at once; nothing of its processes is needed any more."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        with suppress(OSError, AttributeError):
            process.terminate()


def _import_ray() -> Any:
    try:
        import ray  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise AdapterError(
            "ray: wanted the optional package 'ray', which is not installed; run: "
            "pip install 'bitproof[ray]'"
        ) from error
    return ray
