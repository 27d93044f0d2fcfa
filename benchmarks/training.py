"""Training steps: with faults against quantized, and the whole loop against the usual one.

Fault-aware step, ResNet-20 (128 images of 32x32) and ResNet-18 (32 on CPU, 128 on CUDA), float32
and, where the processor has it, bfloat16:
  rival: a plain quantization-aware step, `StraightThrough` in the same loop.
  ours:  the step of `FaultAware`: every layer critical, BER 0.5 %, no third branch, faults always.
  limit: two bare forward and backward passes of the float network on one batch, and the optimizer.
  wanted: ours at most 2.1 times the rival, which makes one pass where ours makes two.
RandBET's step: as the fault-aware one, with every stored parameter on its grid in both passes, and
errors at BER 1 % in all of them; rival is the step of `QuantizationAware`.
Outside step: torch.ao's quantization-aware layers as rival, ours is `StraightThrough` (weights
alone in both), one bare pass is the limit.
Training loop: ResNet-20 with crop and flip. rival: DataLoader, one image at a time through Pillow,
in this process or in two others; ours: `train_`; limit: bare passes on a batch that is there.
Compiled: rival is `train_` as it is, ours with `compiled = true`, from the second step on.

Steps are timed inside `fit_`, by who watches its progress; the first of each run does not count.
As many threads as torch takes, or OMP_NUM_THREADS says; images and weights are random, which does
not change the time.
"""

import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from table import Row, json_path, save, show
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from usual_training import OneByOne, with_torch_layers

from bitproof.core.progress import Silent
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.data.augment import Flip, PadCrop
from bitproof.harden import (
    Candidate,
    FaultAware,
    HardeningStage,
    QuantizationAware,
    RandBET,
    TrainingContext,
)
from bitproof.models import ImageModelSpec, ResNet18, ResNet20
from bitproof.quant import Scheme
from bitproof.quant.straight_through import StraightThrough
from bitproof.train import Optimization, train_
from bitproof.train.loop import fit_

T = TypeVar("T")
Precision = Literal["float32", "bfloat16"]

SIDE, N_CLASSES = 32, 10
STEPS = 4
"""Steps of a run; the first warms up."""
LOOP_STEPS = 6
ROUNDS = 3
WANTED = 2.1


class StepClock(Silent):
    """Watches a training, and notes how long its first step takes, and each of the others."""

    def __init__(self) -> None:
        self.first_s, self.step_ms = 0.0, 0.0

    def track(self, items: Iterable[T], *, label: str, total: int) -> Iterator[T]:  # noqa: ARG002
        """Yield `items`, one step after each."""
        begun = started = now()
        for number, item in enumerate(items):
            if number == 1:
                started = now()
                self.first_s = started - begun
            yield item
        self.step_ms = 1e3 * (now() - started) / (total - 1)


def now() -> float:
    """Return the time in seconds, when the GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Case:
    """A network, a batch size, an arithmetic and a device."""

    name: str
    spec: ImageModelSpec
    batch: int
    precision: Precision
    device: str

    def data(self, steps: int = STEPS) -> Dataset:
        """Return noise for as many steps."""
        generator, n = make_generator(0, "images"), steps * self.batch
        images = torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        labels = torch.randint(N_CLASSES, (n,), generator=generator)
        return Dataset.from_arrays(images.to(self.device), labels.to(self.device))

    def model(self) -> nn.Module:
        """Return the network, in training mode."""
        model = self.spec.build(
            in_channels=3, image_size=SIDE, n_classes=N_CLASSES, generator=make_generator(0)
        )
        return model.to(self.device).train()

    def optimization(self, *, compiled: bool = False) -> Optimization:
        """Return one epoch of SGD with momentum."""
        return Optimization(
            epochs=1,
            batch_size=self.batch,
            learning_rate=1e-3,
            precision=self.precision,
            compiled=compiled,
        )

    def fitted(self, model: nn.Module) -> float:
        """Return milliseconds per step of plain training of `model`, as it is called."""
        clock = StepClock()
        fit_(
            model,
            self.data(),
            self.optimization(),
            loss=lambda batch: batch.error(model(batch.inputs)),
            generator=make_generator(0),
            progress=clock,
        )
        return clock.step_ms

    def fault_aware(self) -> float:
        """Return milliseconds per step of the stage, with faults in every layer."""
        stage = FaultAware(
            top=1000,
            ber_start=0.005,
            ber_end=0.005,
            inject_below=None,
            lam_keep=0.0,
            lam_adv=0.0,
            warmup_steps=0,
            optimization=self.optimization(),
        )
        return self._staged(stage)

    def quantization_aware(self) -> float:
        """Return milliseconds per step of the stage, with clipping."""
        return self._staged(QuantizationAware(w_max=0.1, optimization=self.optimization()))

    def randbet(self) -> float:
        """Return milliseconds per step of the same with bit errors in every step."""
        stage = RandBET(
            rates=(0.01,), w_max=0.1, activate_below=None, optimization=self.optimization()
        )
        return self._staged(stage)

    def _staged(self, stage: HardeningStage) -> float:
        clock = StepClock()
        stage.apply(Candidate(self.model()), TrainingContext(self.data(), progress=clock))
        return clock.step_ms

    def trained(self, *, compiled: bool = False) -> StepClock:
        """Return the clock of `train_`, with crop and flip."""
        clock = StepClock()
        train_(
            self.model(),
            self.data(LOOP_STEPS),
            self.optimization(compiled=compiled),
            generator=make_generator(0),
            augmentation=[PadCrop(), Flip()],
            progress=clock,
        )
        return clock

    def bare(self, *, passes: int) -> float:
        """Return milliseconds of forward and backward passes on one batch, and the optimizer."""
        model, data = self.model(), self.data(1)
        inputs = data.inputs(slice(None)).contiguous(memory_format=torch.channels_last)
        optimizer = self.optimization().build(model.parameters())

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            for _ in range(passes):
                descend(model, inputs, data.labels, self.precision)
            optimizer.step()

        clock = StepClock()
        for _ in clock.track(range(STEPS), label="bare", total=STEPS):
            step()
        return clock.step_ms

    def usual_loop(self, workers: int) -> float:
        """Return milliseconds per step of the loop that everybody writes."""
        model = self.model()
        optimizer = self.optimization().build(model.parameters())
        images = self.data(LOOP_STEPS)
        loader = DataLoader(
            OneByOne(images), batch_size=self.batch, shuffle=True, num_workers=workers
        )
        clock = StepClock()
        for inputs, labels in clock.track(loader, label="usual", total=LOOP_STEPS):
            optimizer.zero_grad(set_to_none=True)
            descend(model, inputs.to(self.device), labels.to(self.device), self.precision)
            optimizer.step()
        return clock.step_ms


def descend(model: nn.Module, inputs: Tensor, labels: Tensor, precision: Precision) -> None:
    """Add the gradients of one pass to those of the model."""
    device = inputs.device.type
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
        loss = cross_entropy(model(inputs), labels)
    loss.backward()  # type: ignore[no-untyped-call]


def take_turns(work: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return what each case measures, sorted; they take turns, so that noise hits them alike."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, call in work.items():
            times[name].append(call())
    return {name: sorted(taken) for name, taken in times.items()}


def measured(name: str, work: Mapping[str, Callable[[], float]]) -> tuple[Row, Row]:
    """Return the row of the minima and that of the medians."""
    times = take_turns(work)
    best, middle = (
        Row(name, *(rank(times[case]) for case in ("rival", "ours", "limit")))
        for rank in (min, statistics.median)
    )
    return best, middle


def step_cases() -> Iterator[Case]:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for spec, name, batch in ((ResNet20(), "ResNet-20", 128), (ResNet18(), "ResNet-18", 32)):
            size = 128 if device == "cuda" else batch
            for precision in precisions(device):
                title = f"{name}, {size} images, {precision}, {device}"
                yield Case(title, spec, size, precision, device)


def precisions(device: str) -> list[Precision]:
    """Return float32, and bfloat16 where the device multiplies it."""
    able = torch.cpu.get_capabilities()
    quick = device == "cuda" or able.get("avx512_bf16") or able.get("amx_bf16")
    return ["float32", "bfloat16"] if quick else ["float32"]


def compare_compiled(case: Case) -> Row | None:
    """Return the row of compiled training: one run of it between two that are not."""
    if case.device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        print("compiled: skipped, there is no C++ compiler")
        return None
    before = case.trained().step_ms
    clock = case.trained(compiled=True)
    after = case.trained().step_ms
    print(f"{case.name}: compiled in the first step, {clock.first_s:.0f} s")
    return Row(f"compiled: {case.name}", min(before, after), clock.step_ms, case.bare(passes=1))


def main() -> None:
    path = json_path("Training steps with faults, and the training loop.")
    print(f"{torch.get_num_threads()} threads")
    random.seed(0)
    best: list[Row] = []
    middle: list[Row] = []

    def add(name: str, work: Mapping[str, Callable[[], float]]) -> None:
        start = now()
        rows = measured(name, work)
        print(f"{name}: measured in {now() - start:.0f} s", flush=True)
        best.append(rows[0])
        middle.append(rows[1])

    cases = list(step_cases())
    for case in cases:
        work: dict[str, Callable[[], float]] = {
            "rival": lambda case=case: case.fitted(StraightThrough(case.model(), Scheme())),
            "ours": case.fault_aware,
            "limit": lambda case=case: case.bare(passes=2),
        }
        add(f"fault-aware step: {case.name}", work)
    for case in cases:
        work = {
            "rival": case.quantization_aware,
            "ours": case.randbet,
            "limit": lambda case=case: case.bare(passes=2),
        }
        add(f"RandBET's step: {case.name}", work)
    n_steps = len(best)
    for case in (case for case in cases if case.precision == "float32"):
        work = {
            "rival": lambda case=case: case.fitted(with_torch_layers(case.model())),
            "ours": lambda case=case: case.fitted(StraightThrough(case.model(), Scheme())),
            "limit": lambda case=case: case.bare(passes=1),
        }
        add(f"torch.ao's step: {case.name}", work)
    small = [case for case in cases if case.name.startswith("ResNet-20, 128 images, float32")]
    for case in small:
        for workers in (0, 2):
            work = {
                "rival": lambda case=case, workers=workers: case.usual_loop(workers),
                "ours": lambda case=case: case.trained().step_ms,
                "limit": lambda case=case: case.bare(passes=1),
            }
            add(f"training loop, {workers} workers: {case.name}", work)
    compiled = [row for case in small if (row := compare_compiled(case))]
    show(f"Minima of {ROUNDS} rounds, ms per step (the rows of --json)", best + compiled)
    show(f"Medians of {ROUNDS} rounds", middle)
    for low, row in zip(best[:n_steps], middle[:n_steps], strict=True):
        print(
            f"{row.name}: {low.ours / low.rival:.2f} plain quantization-aware steps "
            f"(medians {row.ours / row.rival:.2f}; wanted at most {WANTED})"
        )
    if path:
        save(path, best + compiled)


if __name__ == "__main__":
    main()
