"""One plain epoch loop; the loss is an argument."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bitproof.core.errors import DivergenceError
from bitproof.core.progress import SILENT, Progress
from bitproof.core.rng import global_draws
from bitproof.data.augment import Augmentation, augment
from bitproof.data.dataset import Dataset
from bitproof.train.optimization import Optimization


@dataclass(frozen=True)
class Batch:
    """What a loss sees of one step."""

    inputs: Float[Tensor, "n c h w"]
    """Augmented images in [0, 1]."""
    labels: Int[Tensor, " n"]
    done: float
    """Fraction of all steps that lies behind, in [0, 1)."""
    epoch: int
    generator: torch.Generator
    """CPU generator of the run."""


Loss = Callable[[Batch], Tensor]
"""Returns a scalar with gradients to the weights."""


@dataclass(frozen=True)
class History:
    """What training leaves behind for the report."""

    loss: list[float] = field(default_factory=list)
    """Mean loss of each epoch."""


def fit_(
    model: nn.Module,
    data: Dataset,
    optimization: Optimization,
    *,
    loss: Loss,
    generator: torch.Generator,
    augmentation: Sequence[Augmentation] = (),
    after_backward: Callable[[Batch], None] | None = None,
    progress: Progress = SILENT,
    label: str = "training",
) -> History:
    """Train `model` in place.

    Args:
        model: its parameters with `requires_grad` move; the loss sets training or evaluation mode.
        data: images on the device of the model.
        optimization: how weights move.
        loss: gives the scalar to descend.
        generator: CPU generator for order, augmentation and whatever the loss draws; its seed
            also decides what layers such as dropout draw.
        augmentation: applied to each batch, in order.
        after_backward: sees each batch when gradients are there, before the step.
        progress: who watches.
        label: what the work is called there.

    Raises:
        DivergenceError: the loss is NaN or infinite.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = optimization.build(weights)
    history = History()
    totals: list[Tensor] = []
    steps = steps_per_epoch(len(data), optimization)
    batches = batches_of(data, optimization, generator=generator, augmentation=augmentation)
    with global_draws(generator.initial_seed(), data.labels.device):
        for number, batch in enumerate(
            progress.track(batches, label=label, total=steps * optimization.epochs)
        ):
            for group in optimizer.param_groups:
                group["lr"] = optimization.rate(batch.done)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(
                batch.inputs.device.type,
                torch.bfloat16,
                enabled=optimization.precision == "bfloat16",
            ):
                value = loss(batch)
            value.backward()  # type: ignore[no-untyped-call]
            if after_backward:
                after_backward(batch)
            if optimization.max_norm:
                nn.utils.clip_grad_norm_(weights, optimization.max_norm)
            optimizer.step()
            totals.append(value.detach())
            if (number + 1) % steps == 0 or number % 50 == 0:
                _check_finite(torch.stack(totals), label, batch.epoch)
            if (number + 1) % steps == 0:
                history.loss.append(float(torch.stack(totals).mean()))
                totals.clear()
    return history


def steps_per_epoch(n: int, optimization: Optimization) -> int:
    """Return the number of batches of an epoch; a last, smaller batch counts."""
    images = min(n, optimization.images_per_epoch or n)
    return -(-images // optimization.batch_size)


def batches_of(
    data: Dataset,
    optimization: Optimization,
    *,
    generator: torch.Generator,
    augmentation: Sequence[Augmentation] = (),
) -> Iterator[Batch]:
    """Yield the batches of all epochs, each epoch in a new order."""
    steps = steps_per_epoch(len(data), optimization)
    images = min(len(data), optimization.images_per_epoch or len(data))
    for epoch in range(optimization.epochs):
        order = torch.randperm(len(data), generator=generator)[:images]
        for step, index in enumerate(torch.split(order, optimization.batch_size)):
            inputs = data.inputs(index.to(data.labels.device))
            inputs = augment(inputs, augmentation, generator=generator)
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield Batch(
                inputs=inputs,
                labels=data.labels[index.to(data.labels.device)],
                done=(epoch * steps + step) / (steps * optimization.epochs),
                epoch=epoch,
                generator=generator,
            )


def _check_finite(losses: Tensor, label: str, epoch: int) -> None:
    if not bool(losses.isfinite().all()):
        raise DivergenceError(
            f"{label}: the loss became {float(losses[~losses.isfinite()][0])} "
            f"in epoch {epoch + 1}; "
            "try a smaller learning rate"
        )
