"""The adversary inside a training step: images moved against the network, and features with them.

Source: METHODS A.3 (2), the distance of features.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, kl_div, log_softmax

from bitproof.attacks.ascent import Loss, signed_ascent
from bitproof.models.norms import evaluating
from bitproof.train.batches import Batch

FeatureDistance = Literal["relative", "cosine"]


def perturbed(
    model: nn.Module,
    batch: Batch,
    *,
    epsilon: float,
    relative_step: float = 1.0,
    steps: int = 1,
    loss: Loss | None = None,
) -> Tensor:
    """Return the images of a batch after signed steps, made with the model in evaluation mode.

    Modes and gradients of the model stay as they are; draws come from `batch.image_generator`.
    `epsilon` is the radius of the L-infinity ball, input units; `relative_step` is in units of it;
    `loss` is what to climb, see `signed_ascent`.
    """
    with evaluating(model):
        return signed_ascent(
            model,
            batch.inputs,
            batch.labels,
            epsilon=epsilon,
            step=relative_step * epsilon,
            steps=steps,
            generator=batch.image_generator,
            loss=loss,
        )


def perturbed_off_answers(
    model: nn.Module, batch: Batch, *, epsilon: float, relative_step: float, steps: int
) -> Tensor:
    """Return the images of a batch after steps away from what the model answers, labels unused.

    Arguments are those of `perturbed`. What is climbed is the divergence of TRADES.
    """
    with evaluating(model), torch.no_grad():
        target = model(batch.inputs)

    def loss(logits: Tensor, _labels: Tensor) -> Tensor:
        return divergence(logits, target) * len(logits)

    return perturbed(
        model, batch, epsilon=epsilon, relative_step=relative_step, steps=steps, loss=loss
    )


def divergence(logits: Float[Tensor, "n k"], target: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Return the mean Kullback-Leibler divergence of predictions from those of `target`.

    Example:
        >>> float(divergence(torch.ones(1, 4), torch.ones(1, 4)))
        0.0
    """
    return kl_div(
        log_softmax(logits, 1), log_softmax(target, 1), log_target=True, reduction="batchmean"
    )


def feature_distance(
    clean: Float[Tensor, "n f"], moved: Float[Tensor, "n f"], kind: FeatureDistance
) -> Float[Tensor, ""]:
    """Return the mean over images of `|a - b|^2 / (|a|^2 + 1e-8)`, or of `1 - cos(a, b)`.

    Example:
        >>> float(feature_distance(torch.ones(1, 4), torch.zeros(1, 4), "relative"))
        1.0
    """
    clean, moved = clean.float(), moved.float()
    if kind == "cosine":
        return (1 - cosine_similarity(clean, moved, dim=1)).mean()
    squared = (clean - moved).square().sum(1)
    return (squared / (clean.square().sum(1) + 1e-8)).mean()
