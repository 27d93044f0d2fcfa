"""Choices of multipliers measured, each once, in this process or in others."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bitproof.core.progress import SILENT, Progress
from bitproof.core.stop_request import StopRequest
from bitproof.evaluation.executors import Executor, InProcess, Pool
from bitproof.explore.count_store import Counted, CountStore
from bitproof.explore.emulation import Emulator
from bitproof.explore.units import Choice


@dataclass(frozen=True, eq=False)
class Measuring:
    """An emulator with workers, and a memory of what was measured."""

    emulator: Emulator
    store: CountStore
    pool: Pool[bytes, Counted]
    progress: Progress = SILENT
    stop: StopRequest | None = None
    _spent: list[float] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Seconds that calls of `measure` took so far."""
        return sum(self._spent, 0.0)

    @classmethod
    def opened(
        cls,
        emulator: Emulator,
        store: CountStore,
        executor: Executor | None = None,
        *,
        progress: Progress = SILENT,
        stop: StopRequest | None = None,
    ) -> "Measuring":
        """Return it with a pool that starts with the first choice."""
        executor = executor or InProcess()
        sent = emulator if isinstance(executor, InProcess) else emulator.bare()
        return cls(emulator, store, executor.open(sent), progress, stop)

    def check_stop(self) -> None:
        """Raise a StoppedError if asked to stop."""
        if self.stop:
            self.stop.check()

    def measure(self, choices: Sequence[Choice], label: str = "emulate") -> list[Counted]:
        """Return the counts of each choice; what is in the store is not measured again.

        Raises:
            StoppedError: asked to stop; what is finished is in the store.
        """
        begin = time.perf_counter()
        keys = [self.emulator.key(choice) for choice in choices]
        missing = {
            key: np.ascontiguousarray(choice, np.int64).tobytes()
            for key, choice in zip(keys, choices, strict=True)
            if self.store.get(key) is None
        }
        key_of = {choice: key for key, choice in missing.items()}

        def tasks() -> Iterator[bytes]:
            for choice in missing.values():
                self.check_stop()
                yield choice

        if missing:
            found = self.pool.run(tasks())
            for choice, counted in self.progress.track(found, label=label, total=len(missing)):
                self.store.add(key_of[choice], counted)
        self._spent.append(time.perf_counter() - begin)
        results = [self.store.get(key) for key in keys]
        return [one for one in results if one is not None]
