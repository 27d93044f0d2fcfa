"""Plain supervised training, from which everything starts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bitproof.core.progress import SILENT, Progress
from bitproof.data.augment import Augmentation
from bitproof.data.dataset import Dataset
from bitproof.train.batches import Batch
from bitproof.train.checkpointing import Checkpointer
from bitproof.train.loop import History, fit_
from bitproof.train.optimization import Optimization
from bitproof.train.process_group import SINGLE_PROCESS, ProcessGroup


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
) -> History:
    """Train `model` in place on the cross-entropy; it ends in evaluation mode.

    Raises:
        DivergenceError: the loss is NaN or infinite.
        StoppedError: asked to stop; another call with the same arguments goes on.
    """
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
