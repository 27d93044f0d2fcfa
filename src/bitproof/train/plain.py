"""Plain supervised training, from which everything starts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bitproof.core.progress import SILENT, Progress
from bitproof.data.augment import Augmentation
from bitproof.data.dataset import Dataset
from bitproof.train.batches import Batch
from bitproof.train.keeper import Keeper
from bitproof.train.loop import History, fit_
from bitproof.train.optimization import Optimization
from bitproof.train.team import ALONE, Team


def train_(
    model: nn.Module,
    data: Dataset,
    optimization: Optimization | None = None,
    *,
    generator: torch.Generator,
    augmentation: Sequence[Augmentation] = (),
    keeper: Keeper | None = None,
    team: Team = ALONE,
    progress: Progress = SILENT,
) -> History:
    """Train `model` in place on the cross-entropy; it ends in evaluation mode.

    Raises:
        DivergenceError: the loss is NaN or infinite.
        HaltedError: the keeper's halt asked; another call with the same arguments goes on.
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
        keeper=keeper,
        team=team,
        progress=progress,
    )
    model.eval()
    return history
