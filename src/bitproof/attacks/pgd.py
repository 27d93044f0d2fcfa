"""Gradient ascent on the cross-entropy: one step from the input, or many from random starts.

Model:  white box; the attacker knows weights, labels and the quantizer, and
        gradients pass rounding as if it were the identity.
Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015
        (FGSM); Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR
        2018 (PGD). What happens to images that are already wrong is in `bitproof.attacks.ascent`.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from bitproof.attacks.ascent import ascend
from bitproof.attacks.balls import Ball, Images, Labels, draw_l2, draw_linf, norms
from bitproof.attacks.base import ATTACKS, Classifier, InputAttack
from bitproof.core.types import Count, Positive


@ATTACKS.register
class FGSM(InputAttack):
    """Take one step of size `epsilon` in the direction of the gradient's sign, from the input.

    Images that are misclassified anyway stay clean. Nothing is random.

    Example:
        >>> x, y = torch.tensor([[0.75, 0.5]]), torch.tensor([0])
        >>> FGSM(epsilon=0.25).run(torch.nn.Identity(), x, y, generator=torch.Generator())
        tensor([[0.5000, 0.7500]])
    """

    kind: Literal["fgsm"] = "fgsm"

    def search(
        self,
        model: Classifier,
        inputs: Images,
        labels: Labels,
        *,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Images:
        """Return the inputs after their step."""
        return ascend(model, inputs, labels, starts=[inputs], steps=1, move=self._move)

    def _move(self, points: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
        return self.project(points + self.epsilon * gradient.sign(), inputs)


class ProjectedAscent(InputAttack):
    """What the attacks below share; a subclass draws starts and takes steps in its ball."""

    steps: Count = 20
    """Gradient evaluations per input and restart."""
    relative_step: Positive = 0.25
    """Length of one step, in units of `epsilon`."""
    restarts: Count = 1
    """Random starts, one after the other, for images that resist so far."""

    def search(
        self, model: Classifier, inputs: Images, labels: Labels, *, generator: torch.Generator
    ) -> Images:
        """Return the first misclassified iterates, or the last; starts are uniform in the ball."""
        draw = draw_linf if self.ball == "Linf" else draw_l2
        starts = (draw(inputs, self.epsilon, generator=generator) for _ in range(self.restarts))
        return ascend(model, inputs, labels, starts=starts, steps=self.steps, move=self._move)

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
