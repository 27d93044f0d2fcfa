"""Plain supervised training, from which everything starts."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bitproof.core.progress import SILENT, Progress
from bitproof.data.augment import Augmentation
from bitproof.data.dataset import Dataset
from bitproof.train.loop import Batch, History, fit_
from bitproof.train.optimization import Optimization


def train_(
    model: nn.Module,
    data: Dataset,
    optimization: Optimization | None = None,
    *,
    generator: torch.Generator,
    augmentation: Sequence[Augmentation] = (),
    progress: Progress = SILENT,
) -> History:
    """Train `model` in place on the cross-entropy; it ends in evaluation mode.

    Raises:
        DivergenceError: the loss is NaN or infinite.
    """

    def loss(batch: Batch) -> torch.Tensor:
        return cross_entropy(model(batch.inputs), batch.labels)

    model.train()
    history = fit_(
        model,
        data,
        optimization or Optimization(),
        loss=loss,
        generator=generator,
        augmentation=augmentation,
        progress=progress,
    )
    model.eval()
    return history
