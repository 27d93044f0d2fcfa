"""Gradient ascent on the loss of a classifier, within a ball around its inputs: FGSM and PGD.

Model:  white box; the attacker knows weights, labels and the quantizer, and
        gradients pass rounding as if it were the identity.
Source: `fgsm`: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples",
        ICLR 2015. `linf_pgd`, `l2_pgd`: Madry et al., "Towards Deep Learning Models Resistant to
        Adversarial Attacks", ICLR 2018. One step from a random start, for training: Wong, Rice and
        Kolter, "Fast is better than free", ICLR 2020.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitproof.attacks.balls import Ball, Images, Labels, draw_l2, draw_linf, norms, project_linf
from bitproof.attacks.base import ATTACKS, CLASSES, Classifier, InputAttack, check_inputs
from bitproof.core.errors import ModelError
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Positive, Rounds
from bitproof.metrics import Task

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps logits and labels to a scalar: a sum over images, so that each sees only its own part."""

Move = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps points, the gradient there and the clean inputs to the next points, inside the ball."""


@ATTACKS.register
class FGSM(InputAttack):
    """Take one step of size `epsilon` in the direction of the gradient's sign, from the input.

    Images that are misclassified anyway stay clean. Nothing is random.

    Example:
        >>> x, y = torch.tensor([[0.75, 0.5]]), torch.tensor([0])
        >>> FGSM(epsilon=0.25).run(torch.nn.Identity(), x, y, generator=torch.Generator())
        tensor([[0.5000, 0.7500]])
    """

    any_task: ClassVar[bool] = True

    kind: Literal["fgsm"] = "fgsm"

    @property
    def passes(self) -> Passes:
        """Return a look, and a gradient."""
        return Passes(1) + STEP

    def search(
        self,
        model: Classifier,
        inputs: Images,
        labels: Labels,
        *,
        generator: torch.Generator,  # noqa: ARG002
        task: Task = CLASSES,
    ) -> Images:
        """Return the inputs after their step."""
        starts = [inputs]
        return ascend(model, inputs, labels, starts=starts, steps=1, move=self._move, task=task)

    def _move(self, points: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
        return self.project(points + self.epsilon * gradient.sign(), inputs)


class ProjectedAscent(InputAttack):
    """What the attacks below share; a subclass draws starts and takes steps in its ball."""

    any_task: ClassVar[bool] = True

    steps: Rounds = 20
    """Gradient evaluations per input and restart."""
    relative_step: Positive = 0.25
    """Length of one step, in units of `epsilon`."""
    restarts: Rounds = 1
    """Random starts, one after the other, for images that resist so far."""

    @property
    def passes(self) -> Passes:
        """Return a look and all gradients from each start, as of an image that resists them."""
        return self.restarts * (Passes(1) + self.steps * STEP)

    def search(
        self,
        model: Classifier,
        inputs: Images,
        labels: Labels,
        *,
        generator: torch.Generator,
        task: Task = CLASSES,
    ) -> Images:
        """Return the first misclassified iterates, or the last; starts are uniform in the ball."""
        draw = draw_linf if self.ball == "Linf" else draw_l2
        starts = (draw(inputs, self.epsilon, generator=generator) for _ in range(self.restarts))
        steps, move = self.steps, self._move
        return ascend(model, inputs, labels, starts=starts, steps=steps, move=move, task=task)

    @abstractmethod
    def _move(self, points: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor: ...


@ATTACKS.register
class LinfPGD(ProjectedAscent):
    """Climb the loss by signed steps, projecting after each.

    Example:
        >>> LinfPGD(epsilon=8 / 255, steps=10).relative_step
        0.25
    """

    kind: Literal["linf_pgd"] = "linf_pgd"

    def _move(self, points: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
        step = self.relative_step * self.epsilon * gradient.sign()
        return self.project(points + step, inputs)


@ATTACKS.register
class L2PGD(ProjectedAscent):
    """Climb the loss by steps of equal Euclidean length, projecting after each.

    Example:
        >>> L2PGD(epsilon=0.5).ball
        'L2'
    """

    kind: Literal["l2_pgd"] = "l2_pgd"

    @property
    def ball(self) -> Ball:
        """Return the Euclidean norm."""
        return "L2"

    def _move(self, points: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
        direction = gradient / norms(gradient).clamp(min=torch.finfo(gradient.dtype).tiny)
        return self.project(points + self.relative_step * self.epsilon * direction, inputs)


def ascend(
    model: Classifier,
    inputs: Images,
    labels: Labels,
    *,
    starts: Iterable[Tensor],
    steps: int,
    move: Move,
    task: Task = CLASSES,
) -> Images:
    """Climb the task's loss from each of `starts`, leaving an image alone once it is wrong.

    An image keeps the first point at which it was misclassified (of an answer with parts, in all of
    them), its clean input included; the others keep the last point of the last start. Only images
    that are still right are computed, so networks that fall at once cost little. Each of `starts`
    covers the whole batch and all of them are consumed, so what is drawn does not depend on how the
    model fares.

    Example:
        >>> model = torch.nn.Identity()  # two pixels are the two logits
        >>> def move(points, gradient, inputs):
        ...     return points + 0.25 * gradient.sign()
        >>> x, y = torch.tensor([[0.5, 0.25], [0.25, 0.5]]), torch.tensor([0, 0])
        >>> ascend(model, x, y, starts=[x], steps=2, move=move)  # the second was wrong already
        tensor([[0.2500, 0.5000],
                [0.2500, 0.5000]])
    """
    found = inputs.clone()
    active = torch.arange(len(inputs), device=inputs.device)
    for start in starts:
        if len(active):
            with torch.no_grad():
                active = active[task.unfinished(model(found[active]), labels[active])]
        found[active] = start[active]
        for _ in range(steps):
            if not len(active):
                break
            logits, gradient = input_gradient(model, found[active], labels[active], loss=task.loss)
            right = task.unfinished(logits, labels[active])
            active, gradient = active[right], gradient[right]
            found[active] = move(found[active], gradient, inputs[active])
    return found


def signed_ascent(
    model: Classifier,
    inputs: Images,
    labels: Labels,
    *,
    epsilon: float,
    step: float,
    steps: int,
    generator: torch.Generator,
    loss: Loss | None = None,
) -> Images:
    """Return inputs after signed steps up a loss from a random start, in the L-infinity ball.

    This is the adversary of training loops: every image takes every step. One step of length
    `epsilon` is the fast gradient sign method with a random start. Radius and step are in input
    units; `generator`, on the CPU, advances by one draw per pixel. Without a `loss`, the
    cross-entropy is climbed, summed over images.

    Raises:
        InputRangeError: an input lies outside [0, 1] or is not a number.
        InputShapeError: labels do not match the inputs.
        ModelError: the logits do not depend on the inputs in a differentiable way.

    Example:
        >>> model, labels = torch.nn.Identity(), torch.tensor([0])
        >>> signed_ascent(model, torch.tensor([[0.5, 0.5]]), labels, epsilon=0.25, step=0.25,
        ...     steps=2, generator=torch.Generator())
        tensor([[0.2500, 0.7500]])
    """
    check_inputs(inputs, labels)
    clean = inputs.detach()
    found = draw_linf(clean, epsilon, generator=generator)
    for _ in range(steps):
        _, gradient = input_gradient(model, found, labels, loss=loss)
        found = project_linf(found + step * gradient.sign(), clean, epsilon)
    return found


def input_gradient(
    model: Classifier, inputs: Images, labels: Labels, *, loss: Loss | None = None
) -> tuple[Float[Tensor, "n *answer"], Images]:
    """Return the logits and the gradient of the loss with respect to each input.

    Parameters receive no gradient. Entries that are not a number become 0: no step there.

    Raises:
        ModelError: the logits do not depend on the inputs in a differentiable way.

    Example:
        >>> _, gradient = input_gradient(torch.nn.Identity(), torch.zeros(1, 2), torch.tensor([0]))
        >>> gradient
        tensor([[-0.5000,  0.5000]])
    """
    with torch.enable_grad():
        points = inputs.detach().requires_grad_()
        logits = model(points)
        # A sum: images do not share a mean, so they stay independent.
        value = loss(logits, labels) if loss else cross_entropy(logits, labels, reduction="sum")
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, points, allow_unused=True)
    if gradient is None:
        raise ModelError(
            "model: wanted logits that depend on the inputs in a differentiable way, got none; "
            "let gradients pass rounding, or use an attack without gradients (linf_square)"
        )
    return logits.detach(), gradient.nan_to_num(nan=0.0)
