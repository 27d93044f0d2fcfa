"""The adversary inside a training step: images moved against the network as it is then."""

from torch import Tensor, nn

from bitproof.attacks.ascent import Loss, signed_ascent
from bitproof.models.norms import evaluating
from bitproof.train.batches import Batch


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

    Args:
        model: its modes and gradients stay as they are.
        batch: clean images; draws come from its `image_generator`.
        epsilon: radius of the L-infinity ball, input units.
        relative_step: length of one step, in units of `epsilon`.
        steps: gradient evaluations per image.
        loss: what to climb; see `signed_ascent`.
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
