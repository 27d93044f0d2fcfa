"""Jobs of the C library that follow one another, run in one call for any number of inputs.

Model:  jobs are described once, for a few inputs at a time, and hold addresses of memory that one
        job after another uses again. Threads take such parts of the inputs, each with a plan of its
        own, and meet nowhere; where there are fewer parts than threads, they share the pieces of
        every job. Neither has an influence on the result.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import torch
from torch import Tensor

from bitproof.kernels.jobs import NUMBER, POINTER, Job, fields, is_dense, lies_last
from bitproof.kernels.threads import WORTH_A_THREAD, call_on_threads

MOST_VALUES = 1 << 15
"""Of the inputs of a part: more leave the second-level cache, fewer read weights more often."""
MOST_INPUTS = 256
"""Of a part, however small they are."""
WORTH_SHARING = 1 << 23
"""Bytes or products of a job below which threads do not share it."""
SHARES = 16
"""Of a job that threads share."""


class Step(ctypes.Structure):
    """A job in a plan."""

    _fields_ = (("job", POINTER), *fields(NUMBER, "kind pieces grain taken done"))


class _Plan(ctypes.Structure):
    _fields_ = (
        *fields(POINTER, "steps source result"),
        *fields(NUMBER, "count input_bytes output_bytes"),
    )


class Crew(ctypes.Structure):
    """What threads that run plans share."""

    _fields_ = (
        *fields(POINTER, "plans inputs outputs"),
        *fields(NUMBER, "level n_plans parts together joined taken failed"),
    )


class Room:
    """Memory for outputs, used again once they are let go.

    Example:
        >>> room = Room()
        >>> first = room((2, 3), torch.uint8, False)
        >>> room.keep([])
        >>> room((6,), torch.uint8, False).data_ptr() == first.data_ptr()
        True
    """

    def __init__(self) -> None:
        self.taken: list[Tensor] = []
        self.free: list[Tensor] = []

    def __call__(self, shape: Sequence[int], dtype: torch.dtype, last: bool) -> Tensor:
        """Return room for an output; with `last`, channels of maps lie last."""
        count = torch.Size(shape).numel()
        size = max(1, count * dtype.itemsize)
        fitting = [one for one in self.free if one.numel() >= size]
        if fitting:
            memory = min(fitting, key=Tensor.numel)
            self.free = [one for one in self.free if one is not memory]
        else:
            memory = torch.zeros(-(-size // 64) * 64, dtype=torch.uint8)
        self.taken.append(memory)
        flat = memory[: count * dtype.itemsize].view(dtype)
        if not last:
            return flat.reshape(tuple(shape))
        n, channels, height, width = shape
        return flat.reshape(n, height, width, channels).permute(0, 3, 1, 2)

    def keep(self, live: Sequence[Tensor]) -> None:
        """Let all memory go but what some tensors lie in."""
        held = {tensor.untyped_storage().data_ptr() for tensor in live}
        kept = [one for one in self.taken if one.untyped_storage().data_ptr() in held]
        self.free += [one for one in self.taken if one.untyped_storage().data_ptr() not in held]
        self.taken = kept


@dataclass(frozen=True, eq=False)
class Plan:
    """Jobs from some inputs to their outputs."""

    jobs: tuple[Job, ...]
    inputs: Tensor
    """That the first job reads first of all, and no other; any of the same shape can take their
    place."""
    result: Tensor
    """What is computed; without gaps, the inputs' axis outermost."""

    @property
    def work(self) -> int:
        """Return bytes or products of all jobs."""
        return sum(job.work for job in self.jobs)

    @property
    def shared_work(self) -> int:
        """Return bytes or products of the jobs that threads share."""
        return sum(job.work for job in self.jobs if job.work >= WORTH_SHARING)

    @cached_property
    def steps(self) -> ctypes.Array[Step]:
        """What the library runs."""
        steps = (Step * len(self.jobs))()
        for step, job in zip(steps, self.jobs, strict=True):
            shared = job.work >= WORTH_SHARING
            step.job, step.kind = ctypes.addressof(job), job.number
            step.pieces = job.pieces if job.work else 0
            step.grain = max(1, -(-job.pieces // SHARES) if shared else job.pieces)
        return steps

    @cached_property
    def fields(self) -> _Plan:
        """Return what the library is told."""
        assert is_dense(self.result), self.result.stride()
        return _Plan(
            *(ctypes.addressof(self.steps), ctypes.addressof(self.jobs[0])),
            *(self.result.data_ptr(), len(self.jobs)),
            *(tensor.numel() * tensor.element_size() for tensor in (self.inputs, self.result)),
        )


@dataclass(frozen=True, eq=False)
class Plans:
    """Plans of the same work, made when they are needed and kept for the next inputs."""

    level: int
    """Of the library."""
    run_crew: Callable[[ctypes.c_void_p], None]
    """The library's function that runs plans."""
    _idle: dict[int, list[Plan]] = field(default_factory=dict, init=False, repr=False)
    """By number of inputs."""
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def run(self, inputs: Tensor, make: Callable[[Tensor], Plan]) -> Tensor:
        """Return outputs for contiguous inputs, one after another on the first axis.

        `make` gets a few of the inputs and returns a plan for so many.

        Raises:
            MemoryError: a job had no memory for its scratch.
        """
        assert inputs.is_contiguous(), inputs.stride()
        threads, outputs, first = torch.get_num_threads(), None, 0
        while first < len(inputs):
            left = len(inputs) - first
            most = min(MOST_INPUTS, MOST_VALUES // inputs[0].numel(), left // threads)
            size = _power_of_two(max(1, most))
            parts = left // size
            few = inputs[first : first + size]
            plans = [self._take(few, make)]
            apart = max(1, min(threads, parts, plans[0].work * parts // WORTH_A_THREAD))
            together = min(threads, plans[0].shared_work // WORTH_A_THREAD)
            if together <= apart:
                together = 0
                plans += [self._take(few, make) for _ in range(apart - 1)]
            if outputs is None:
                order = (
                    torch.channels_last if lies_last(plans[0].result) else torch.contiguous_format
                )
                shape = len(inputs), *plans[0].result.shape[1:]
                outputs = torch.empty(shape, dtype=plans[0].result.dtype, memory_format=order)
            end = first + parts * size
            self._run(plans, inputs[first:end], outputs[first:end], together)
            for plan in plans:
                self._idle.setdefault(size, []).append(plan)
            first = end
        assert outputs is not None, inputs.shape
        return outputs

    def _take(self, inputs: Tensor, make: Callable[[Tensor], Plan]) -> Plan:
        """Return a plan that nobody else uses."""
        with self._lock:
            idle = self._idle.get(len(inputs))
            if idle:
                return idle.pop()
        return make(inputs)

    def _run(self, plans: list[Plan], inputs: Tensor, outputs: Tensor, together: int) -> None:
        """Run one plan by so many threads together, or each of several by a thread of its own."""
        parts = len(inputs) // len(plans[0].inputs)
        known = (_Plan * len(plans))(*(plan.fields for plan in plans))
        crew = Crew(
            *(ctypes.addressof(known), inputs.data_ptr(), outputs.data_ptr()),
            *(self.level, len(plans), parts, together > 0),
        )
        if not together:
            call_on_threads(self.run_crew, crew, len(plans))
        for part in range(parts if together else 0):
            for step in plans[0].steps:
                step.taken = step.done = 0
            source = ctypes.c_void_p.from_address(plans[0].fields.source)
            source.value = inputs.data_ptr() + part * plans[0].fields.input_bytes
            call_on_threads(self.run_crew, crew, together)
            size = plans[0].fields.output_bytes
            ctypes.memmove(outputs.data_ptr() + part * size, plans[0].result.data_ptr(), size)
        if crew.failed:
            raise MemoryError("wanted scratch memory for sums of products, got none")


def _power_of_two(count: int) -> int:
    """Return the largest power of two up to a number.

    Example:
        >>> _power_of_two(1), _power_of_two(13)
        (1, 8)
    """
    return 1 << (count.bit_length() - 1)
