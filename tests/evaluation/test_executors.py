"""Whoever computes, the counts are the same: also when workers and nodes die half-way."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bitproof.attacks import LinfPGD
from bitproof.core.errors import DataError, WorkerError
from bitproof.data import Dataset
from bitproof.evaluation import (
    AdversarialExamples,
    Clean,
    Evaluation,
    Executor,
    InProcess,
    IntegerModel,
    MemoryFaults,
    Processes,
    Ray,
    TallyStore,
)

SMALL = Evaluation(
    threats=(
        Clean(),
        MemoryFaults(levels=(1e-2, 1e-1), chips=4, images=40),
        AdversarialExamples(attack=LinfPGD(epsilon=0.1, steps=2), levels=(0.1,), images=120),
    )
)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import this module, which the work that they get is defined in."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])


@dataclass(frozen=True)
class Squares:
    """Work that fails, dies or dawdles where it is told to."""

    fatal: Path | None = None
    """Where a worker that dies once leaves a note."""
    always_fatal: bool = False
    lacks_data: bool = False
    pause_s: float = 0.0

    def start(self) -> Callable[[int], int]:
        if self.lacks_data:
            raise DataError("no data here")
        return self._square

    def _square(self, number: int) -> int:
        time.sleep(self.pause_s)
        if self.always_fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fatal and number == 3 and not self.fatal.exists():
            self.fatal.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


def squares(executor: Executor, work: Squares, n: int = 8) -> dict[int, int]:
    with executor.open(work) as pool:
        found = dict(pool.run(range(n)))
        again = dict(pool.run(range(n, n + 2)))
    assert again == {n: n * n, n + 1: (n + 1) ** 2}
    return found


@pytest.mark.parametrize(
    "executor",
    [InProcess(), pytest.param(Processes(workers=2), marks=pytest.mark.slow)],
    ids=lambda one: one.kind,
)
def test_every_task_is_done_once_and_a_pool_goes_on(executor: Executor) -> None:
    assert squares(executor, Squares()) == {n: n * n for n in range(8)}


def test_tasks_are_taken_as_workers_are_free() -> None:
    taken = []

    def tasks() -> object:
        for number in range(5):
            taken.append(number)
            yield number

    with InProcess().open(Squares()) as pool:
        first = next(iter(pool.run(tasks())))  # type: ignore[arg-type]
    assert (first, taken) == ((0, 0), [0])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_replaced(workers: int, tmp_path: Path) -> None:
    work = Squares(fatal=tmp_path / "note")
    assert squares(Processes(workers=workers), work) == {n: n * n for n in range(8)}
    assert (tmp_path / "note").exists()


@pytest.mark.slow
def test_workers_that_die_again_and_again_are_told() -> None:
    with (
        Processes(workers=1).open(Squares(always_fatal=True)) as pool,
        pytest.raises(WorkerError, match="died 3 times in a row"),
    ):
        list(pool.run(range(4)))


@pytest.mark.parametrize(
    "executor",
    [InProcess(), pytest.param(Processes(workers=1), marks=pytest.mark.slow)],
    ids=lambda one: one.kind,
)
def test_what_goes_wrong_at_the_start_comes_back_as_it_is(executor: Executor) -> None:
    with (
        executor.open(Squares(lacks_data=True)) as pool,
        pytest.raises(DataError, match="no data here"),
    ):
        list(pool.run([1]))


def measured(executor: Executor, integers: IntegerModel, data: Dataset) -> object:
    store, keys = TallyStore(), SMALL.keys(integers.digest(), data)
    with SMALL.open({"v": integers}.__getitem__, data, executor) as pool:
        SMALL.measure("v", keys, pool=pool, store=store)
    return SMALL.counts(keys, store)


@pytest.mark.slow
def test_processes_measure_the_same_counts(integers: IntegerModel, data: Dataset) -> None:
    assert measured(Processes(workers=2), integers, data) == measured(InProcess(), integers, data)


@pytest.mark.slow
def test_a_ray_node_killed_half_way_costs_nothing() -> None:
    """A cluster of two nodes on this machine, one of which goes while both work."""
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        other = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        found: dict[int, int] = {}
        with Ray(workers=2).open(Squares(pause_s=0.2)) as pool:
            for number, square in pool.run(range(30)):
                found[number] = square
                if len(found) == 10:
                    cluster.remove_node(other, allow_graceful=False)
        assert found == {n: n * n for n in range(30)}
    finally:
        ray.shutdown()
        cluster.shutdown()
