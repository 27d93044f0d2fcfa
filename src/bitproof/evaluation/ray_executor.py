"""Computing on a Ray cluster."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from bitproof.core.errors import WorkerError
from bitproof.core.packages import Package
from bitproof.core.types import NonNegative, Workers
from bitproof.core.user_code import folders, look_in
from bitproof.evaluation.executors import (
    EXECUTORS,
    MOST_DEATHS,
    Executor,
    Pool,
    R,
    T,
    Work,
    next_task,
)

RAY = Package("ray", wanted_by="ray", install="pip install 'bitproof[ray]'")


@EXECUTORS.register
class Ray(Executor):
    """Compute on a Ray cluster; what work reads from disk, its nodes must see.

    Address: that of `RAY_ADDRESS`, else a cluster of this machine alone. An actor that dies, or
    whose node does, is replaced as soon as there is room for another, and its task is done again.
    If the driver dies, `--resume` goes on.

    Example:
        >>> Ray(workers=4, gpus=0.25).gpus
        0.25
    """

    packages: ClassVar[tuple[Package, ...]] = (RAY,)

    kind: Literal["ray"] = "ray"
    workers: Workers = 2
    """Actors."""
    cpus: NonNegative = 1.0
    """Processor cores of each actor."""
    gpus: NonNegative = 0.0
    """GPUs of each actor; a fraction lets several share one."""

    def open(self, work: Work[T, R]) -> Pool[T, R]:
        """Return a pool of actors."""
        return _RayPool(work, self, RAY.load())


class _RayPool(Pool[T, R]):
    def __init__(self, work: Work[T, R], how: Ray, ray: Any) -> None:
        self.work, self.how, self.ray = work, how, ray
        self.coming: dict[Any, Any] = {}
        """Actors that are not there yet, by the call that they answer once they are."""
        self.idle: list[Any] = []
        self.started = False

    def run(self, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        left, again, deaths = iter(tasks), deque[T](), 0
        running: dict[Any, tuple[Any, T]] = {}
        while True:
            hired = len(self.idle) + len(running) + len(self.coming)
            if more := next_task(again, left) if self.idle or hired < self.how.workers else []:
                if self.idle:
                    actor = self.idle.pop()
                    running[actor.run.remote(more[0])] = (actor, more[0])
                else:
                    again.appendleft(more[0])
                    self._hire()
                continue
            if not running and not again:
                return
            (done, *_), _ = self.ray.wait([*running, *self.coming], num_returns=1)
            try:
                result = self.ray.get(done)
            except self.ray.exceptions.RayActorError:
                deaths += 1
                if deaths >= MOST_DEATHS * self.how.workers:
                    raise WorkerError(
                        f"ray: actors died {deaths} times in a row; what is finished is kept, "
                        "go on with --resume"
                    ) from None
                self.coming.pop(done, None)
                if done in running:
                    again.appendleft(running.pop(done)[1])
                continue
            if done in self.coming:
                self.idle.append(self.coming.pop(done))
                continue
            deaths = 0
            actor, task = running.pop(done)
            self.idle.append(actor)
            yield task, result

    def _hire(self) -> None:
        if not self.ray.is_initialized():
            self._start()
        kind = self.ray.remote(num_cpus=self.how.cpus, num_gpus=self.how.gpus)(_Actor)
        actor = kind.remote(self.work, max(1, int(self.how.cpus)), folders())
        self.coming[actor.is_there.remote()] = actor

    def _start(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if not os.environ.get("RAY_ADDRESS"):
            cores = max(os.cpu_count() or 1, int(-(-self.how.workers * self.how.cpus // 1)))
            options |= {"num_cpus": cores, "include_dashboard": False}
        self.ray.init(**options)
        self.started = True

    def close(self) -> None:
        """Let the actors go, and the cluster, if it was started here."""
        for actor in (*self.idle, *self.coming.values()):
            self.ray.kill(actor)
        self.idle.clear()
        self.coming.clear()
        if self.started:
            self.ray.shutdown()
            self.started = False


class _Actor:
    """A worker on a Ray node."""

    def __init__(self, work: Work[Any, Any], threads: int, places: tuple[Path, ...]) -> None:
        torch.set_num_threads(threads)
        look_in(places)
        self.compute: Callable[[Any], Any] = work.start()

    def is_there(self) -> None:
        """Answer once the work has started."""

    def run(self, task: Any) -> Any:
        return self.compute(task)
