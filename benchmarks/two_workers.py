"""One worker against two on a whole campaign, for the benchmark of campaigns; one thread each."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from bitproof.data import Dataset
from bitproof.injection import Injection, Processes, carry_out_campaign, prepare_campaign
from bitproof.quant import IntegerNetwork

WARM_UP = 4
"""Chunks that are done for each worker before the clock starts."""


class Clocked:
    """Processes of one thread, and what they take once they have started."""

    def __init__(self, workers: int) -> None:
        self.processes = Processes(workers=workers)
        self.milliseconds = 0.0

    def compute(
        self, folder: Path, chunks: Sequence[int], *, device: str
    ) -> Iterator[tuple[int, Mapping[str, np.ndarray]]]:
        """Yield what `Processes` finds; the last chunk is done a few times before, unseen."""
        workers = self.processes.workers
        todo = [chunks[-1]] * WARM_UP * workers + list(chunks)
        start = 0.0
        # `Processes` shares out as many threads as it sees cores.
        with patch.object(os, "cpu_count", return_value=workers):
            for done, result in enumerate(self.processes.compute(folder, todo, device=device), 1):
                if done > WARM_UP * workers:
                    yield result
                elif done == WARM_UP * workers:
                    start = time.perf_counter()
        self.milliseconds = 1e3 * (time.perf_counter() - start)


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
                clock = Clocked(workers)
                shutil.copytree(begun, place)
                carry_out_campaign(place, executor=clock)
                taken.append(clock.milliseconds)
                shutil.rmtree(place)
    return {workers: sorted(taken) for workers, taken in times.items()}
