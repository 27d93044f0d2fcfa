"""One plain epoch loop; the loss is an argument, plain supervised training the simplest case."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bitproof.core.errors import DivergenceError, shorten
from bitproof.core.progress import SILENT, Progress
from bitproof.core.rng import draw_seed, global_draws, seed_layers
from bitproof.data.augment import Augmentation
from bitproof.data.dataset import Dataset
from bitproof.models.norms import unlearned_statistics
from bitproof.train.batches import Batch, Batches
from bitproof.train.checkpointing import Checkpointable, Checkpointer, Snapshot
from bitproof.train.optimization import Optimization, RunningMean, sam_perturbation
from bitproof.train.process_group import SINGLE_PROCESS, ProcessGroup, shared_statistics

LOOK_EVERY = 50
"""Steps between looks at the loss, each of which makes a GPU wait."""

LOOK_TOGETHER = 10
"""Steps between looks at the checkpointer, where several processes have to agree on the answer."""

Loss = Callable[[Batch], Tensor | Iterator[Tensor]]
"""Returns a scalar with gradients to the weights, a mean over the batch; or yields terms of it.
Each term is differentiated before the next is made: what it needs is in memory no longer."""


def fit_(
    model: nn.Module,
    data: Dataset,
    optimization: Optimization,
    *,
    loss: Loss,
    generator: torch.Generator,
    augmentation: Sequence[Augmentation] = (),
    after_backward: Callable[[Batch], None] | None = None,
    after_epoch: Callable[[], bool] | None = None,
    replays: int = 1,
    checkpointed: Mapping[str, Checkpointable] | None = None,
    checkpointer: Checkpointer | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    progress: Progress = SILENT,
    label: str = "training",
    identity: str = "",
) -> list[float]:
    """Train `model` in place and return the mean loss of each epoch.

    `loss` sets training or evaluation mode; it is called twice a step where `optimization.sam` is
    on. `generator`, of the CPU, is advanced by one draw, which decides order, augmentation and what
    losses and layers draw: step by step, so that training can go on anywhere. `after_backward` sees
    each batch when gradients are there, before the step; `after_epoch` says whether training ends.
    `replays` are the steps in a row on one batch. `checkpointed` is what learns beside the model,
    saved and restored with it. From the snapshots of `checkpointer` the same call goes on
    exactly; those of another `identity` (what decides the loss) are refused.

    Raises:
        DivergenceError: the loss is NaN or infinite, or a weight is after the last step.
        StoppedError: asked to stop; a snapshot is there.
        ResumeError: the checkpointer's file is damaged or belongs to another training.
    """
    seed = draw_seed(generator)
    batches = Batches(
        data, optimization, seed=seed, augmentation=augmentation, group=group, replays=replays
    )
    if not group.is_main:
        progress = SILENT
    with (
        channels_last(model),
        global_draws(seed, data.labels.device),
        shared_statistics(model, group),
    ):
        task = _Training(model, optimization, checkpointed or {}, f"{label} {seed:x} {identity}")
        steps = range(task.restore(checkpointer), len(batches))
        for step in progress.track(steps, label=label, total=len(steps)):
            batch = batches[step]
            seed_layers(batches.layer_seed(step), data.labels.device)
            value = task.gradients(loss, batch, group)
            if optimization.sam:
                with sam_perturbation(task.weights, optimization.sam), unlearned_statistics(model):
                    seed_layers(batches.layer_seed(step), data.labels.device)
                    task.gradients(loss, batches.again(batch, step), group)
            if after_backward:
                after_backward(batch)
            task.move(batch.done, step)
            task.losses.append(value)
            ends = (step + 1) % batches.per_epoch == 0
            if ends or step % LOOK_EVERY == 0:
                _check_finite(torch.stack(task.losses), label, batch.epoch)
            if ends:
                task.history.append(float(torch.stack(task.losses).mean()))
                task.losses.clear()
                if after_epoch and after_epoch():
                    break
            looks = group.size == 1 or (step + 1) % LOOK_TOGETHER == 0
            if checkpointer and looks and step + 1 < len(batches):
                task.save_if_due(checkpointer, step + 1, group)
        task.finish()
    _check_weights(model, label)
    return task.history


def train_(
    model: nn.Module,
    data: Dataset,
    optimization: Optimization | None = None,
    *,
    generator: torch.Generator,
    augmentation: Sequence[Augmentation] = (),
    checkpointer: Checkpointer | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    progress: Progress = SILENT,
) -> list[float]:
    """Train `model` in place on the cross-entropy, as `fit_` does; it ends in evaluation mode."""
    optimization = optimization or Optimization()
    call: Callable[[Tensor], Tensor] = torch.compile(model) if optimization.compiled else model

    def loss(batch: Batch) -> Tensor:
        return batch.error(call(batch.inputs))

    model.train()
    history = fit_(
        model,
        data,
        optimization,
        loss=loss,
        generator=generator,
        augmentation=augmentation,
        checkpointer=checkpointer,
        group=group,
        progress=progress,
    )
    model.eval()
    return history


@contextmanager
def channels_last(model: nn.Module) -> Iterator[None]:
    """Lay the weights of convolutions out as the batches are, for the block.

    Kernels then need not turn them around at every pass; the numbers are the same.

    Example:
        >>> layer = nn.Conv2d(2, 2, 3)
        >>> with channels_last(layer):
        ...     print(layer.weight.stride())
        (18, 1, 6, 2)
        >>> layer.weight.stride()
        (18, 9, 3, 1)
    """
    maps = [w for w in model.parameters() if w.ndim == 4 and w.is_contiguous()]
    for weight in maps:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for weight in maps:
            weight.data = weight.data.contiguous()


class _Training:
    """What moves: weights, optimizer, their running mean, and the record of losses."""

    def __init__(
        self,
        model: nn.Module,
        optimization: Optimization,
        checkpointed: Mapping[str, Checkpointable],
        identity: str,
    ) -> None:
        self.model, self.optimization, self.checkpointed = model, optimization, checkpointed
        self.identity = f"{identity} {optimization.digest()[:16]} {sorted(checkpointed)}"
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = optimization.build(self.weights)
        decay = optimization.ema
        self.mean = None if decay is None else RunningMean(model, decay=decay)
        self.history: list[float] = []
        self.losses: list[Tensor] = []

    def gradients(self, loss: Loss, batch: Batch, group: ProcessGroup) -> Tensor:
        """Put the gradients of the loss on the weights; return the loss of the whole batch."""
        self.optimizer.zero_grad(set_to_none=True)
        autocast = torch.autocast(
            batch.inputs.device.type,
            torch.bfloat16,
            enabled=self.optimization.precision == "bfloat16",
        )
        with autocast:
            value = loss(batch)
        terms = iter([value]) if isinstance(value, Tensor) else value
        total = torch.zeros((), device=batch.inputs.device)
        while True:
            with autocast:
                term = next(terms, None)
            if term is None:
                break
            # Before the backward pass: shared batch norms add up gradients over all processes.
            (term * batch.share).backward()  # type: ignore[no-untyped-call]
            total = total + term.detach() * batch.share
            del term
        held = [weight.grad for weight in self.weights if weight.grad is not None]
        group.add_([*held, total.reshape(1)])
        return total

    def move(self, done: float, step: int) -> None:
        """Take the step down the gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.optimization.rate(done)
        if self.optimization.max_norm:
            nn.utils.clip_grad_norm_(self.weights, self.optimization.max_norm)
        self.optimizer.step()
        if self.mean is not None:
            self.mean.follow(self.model, step)

    def finish(self) -> None:
        """Leave the weights that training is for."""
        if self.mean is not None:
            self.mean.install_(self.model)

    def save_if_due(self, checkpointer: Checkpointer, step: int, group: ProcessGroup) -> None:
        """Save where it is time for it or where work has to stop; then stop."""
        stopping = group.agree(checkpointer.stop.requested)
        if group.agree(checkpointer.is_due) or stopping:
            self.save(checkpointer, step, group)
        if stopping:
            checkpointer.stop.request()
            checkpointer.stop.check()

    def save(self, checkpointer: Checkpointer, step: int, group: ProcessGroup) -> None:
        """Save everything."""
        snapshot = Snapshot(step, notes={"history": self.history})
        snapshot.add("model", self.model.state_dict())
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors = {name: value for name, value in entries.items() if value is not None}
            snapshot.add(f"optimizer.{index}", tensors)
        if self.mean is not None:
            snapshot.add("mean", {str(i): value for i, value in enumerate(self.mean.means)})
        if self.losses:
            snapshot.add("losses", {"pending": torch.stack(self.losses)})
        for name, part in self.checkpointed.items():
            tensors, notes = part.state()
            snapshot.add(f"part.{name}", tensors)
            snapshot.notes[f"part.{name}"] = notes
        if group.is_main:
            checkpointer.save(snapshot, self.identity)
        group.wait()

    def restore(self, checkpointer: Checkpointer | None) -> int:
        """Take back what was saved; return the number of steps that lie behind."""
        snapshot = checkpointer.load(self.identity) if checkpointer else None
        if snapshot is None:
            return 0
        self.model.load_state_dict(snapshot.part("model"))
        frozen = self.optimizer.state_dict()
        for index, weight in enumerate(self.weights):
            if entries := snapshot.part(f"optimizer.{index}"):
                frozen["state"][index] = {
                    name: _laid_out_as(weight, value) for name, value in entries.items()
                }
        self.optimizer.load_state_dict(frozen)
        if self.mean is not None:
            saved = snapshot.part("mean")
            for i, value in enumerate(self.mean.means):
                value.copy_(saved[str(i)])
        device = next(iter(self.weights)).device
        self.losses = list(snapshot.part("losses").get("pending", torch.empty(0)).to(device))
        self.history.extend(snapshot.notes["history"])
        for name, part in self.checkpointed.items():
            notes = snapshot.notes[f"part.{name}"]
            part.restore(snapshot.part(f"part.{name}"), notes)
        return snapshot.step


def _laid_out_as(weight: Tensor, value: Tensor) -> Tensor:
    """Return `value` in the memory layout of `weight`, if it has its shape."""
    return torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value


def _check_finite(losses: Tensor, label: str, epoch: int) -> None:
    if not bool(losses.isfinite().all()):
        raise DivergenceError(
            f"{label}: the loss became {float(losses[~losses.isfinite()][0])} "
            f"in epoch {epoch + 1}; try a smaller learning rate"
        )


def _check_weights(model: nn.Module, label: str) -> None:
    """Raise a DivergenceError for what no loss has seen: what the last step made of the weights."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise DivergenceError(
                f"{label}: {shorten(name)} is no longer finite after the last step; "
                "try a smaller learning rate"
            )
