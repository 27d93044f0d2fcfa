"""One worker against two on a whole campaign, for the benchmark of campaigns; one thread each."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import patch

from bitproof.data import Dataset
from bitproof.evaluation import Pool, Processes, Work
from bitproof.evaluation.executors import R, T
from bitproof.injection import Injection, carry_out_campaign, prepare_campaign
from bitproof.quant import IntegerNetwork

WARM_UP = 4
"""Chunks that are done for each worker before the clock starts."""


class Clocked(Processes):
    """Processes of one thread, and what they take once they have started."""

    def open(self, work: Work[T, R]) -> Pool[T, R]:
        """Return a pool that is timed."""
        return ClockedPool(super().open(work), self.workers)


class ClockedPool(Pool[T, R]):
    """Does the last task a few times before the others, unseen, and times these."""

    milliseconds = 0.0

    def __init__(self, pool: Pool[T, R], workers: int) -> None:
        self.pool, self.workers = pool, workers

    def run(self, tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Yield what the pool finds."""
        chunks, start = list(tasks), 0.0
        todo = [chunks[-1]] * WARM_UP * self.workers + chunks
        # `Processes` shares out as many threads as it sees cores.
        with patch.object(os, "cpu_count", return_value=self.workers):
            for done, found in enumerate(self.pool.run(todo), 1):
                if done > WARM_UP * self.workers:
                    yield found
                elif done == WARM_UP * self.workers:
                    start = time.perf_counter()
        ClockedPool.milliseconds = 1e3 * (time.perf_counter() - start)

    def close(self) -> None:
        """Stop the workers."""
        self.pool.close()


def time_workers(
    network: IntegerNetwork, injection: Injection, data: Dataset, *, rounds: int
) -> dict[int, list[float]]:
    """Return milliseconds that a campaign takes one worker and two, sorted; in turns."""
    times: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        begun, place = Path(folder) / "begun", Path(folder) / "run"
        prepare_campaign(begun, network, injection, data)
        for _ in range(rounds):
            for workers, taken in times.items():
                shutil.copytree(begun, place)
                carry_out_campaign(place, executor=Clocked(workers=workers))
                taken.append(ClockedPool.milliseconds)
                shutil.rmtree(place)
    return {workers: sorted(taken) for workers, taken in times.items()}
