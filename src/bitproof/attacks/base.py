"""What every attack on inputs is: a search, whose answer cannot leave its ball.

Model:  a classifier maps inputs in [0, 1] to logits (normalisation is part of the classifier) and
        treats images independently, so it is in evaluation mode. Gradients, where an attack uses
        them, pass rounding straight through: the attacker sees the network that is deployed.
        A module is attacked in evaluation mode and keeps the mode that it is in.
"""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, final

import torch
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor, nn

from bitproof.attacks.balls import Ball, Images, Labels, per_image, project_l2, project_linf
from bitproof.core.errors import InputRangeError, InputShapeError, SpecError, shorten
from bitproof.core.passes import UNKNOWN, Passes
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import NonNegative
from bitproof.metrics import Classification, Task
from bitproof.models.norms import evaluating
from bitproof.stats.threats import ThreatLabel

Classifier = Callable[[Tensor], Tensor]
"""Maps inputs in [0, 1] of shape `n *features` to outputs of shape `n *answer`."""
CLASSES, PLAIN = Classification(), Classification(probabilities=False)
"""The task that attacks are about, unless another is named."""

TITLES = {
    **{"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"},
    **{"autoattack": "AutoAttack", "pgd": "PGD", "apgd": "APGD", "fgsm": "FGSM"},
    "square": "Square",
}
"""How people write the parts of a kind."""


class InputAttack(Spec):
    """A bounded adversary: finds inputs near the given ones that are answered wrongly."""

    any_task: ClassVar[bool] = False
    """Whether `search` takes a `task` that is no plain classification."""
    needs_images: ClassVar[bool] = False
    """Whether inputs must be images of shape `n c h w`."""

    kind: str
    epsilon: NonNegative
    """Perturbation radius in the norm of the attack, in input units: 8/255 is 8 grey levels."""

    @property
    def ball(self) -> Ball:
        """Return the norm that bounds the perturbation: L-infinity, unless overridden."""
        return "Linf"

    @property
    def label(self) -> ThreatLabel:
        """Return how results write the attack and its radii.

        Example:
            >>> from bitproof.attacks import LinfPGD
            >>> LinfPGD(epsilon=0.1).label.title
            'L∞ PGD'
        """
        codes = (TITLES.get(word, word) for word in self.kind.split("_"))
        return ThreatLabel("input_attack", " ".join(codes), "ε", "pixels")

    @property
    def passes(self) -> Passes:
        """Return what one image takes, at most; here, unknown."""
        return UNKNOWN

    @final
    def check(self, task: Task | None) -> None:
        """Check that the attack knows what to do with a task; None: a classification.

        Raises:
            SpecError: it does not.
        """
        if task is not None and not task.has_loss:
            raise SpecError(
                f"{self.kind}: wanted a task with a loss to climb, '{task.kind}' has none"
            )
        if task not in {None, CLASSES, PLAIN} and not self.any_task:
            raise SpecError(f"{self.kind}: wanted a classification by logits, got {shorten(task)}")

    @final
    def run(
        self,
        model: Classifier,
        inputs: Images,
        labels: Labels,
        *,
        generator: torch.Generator,
        task: Task | None = None,
    ) -> Images:
        """Return adversarial inputs, inside the ball around `inputs` and inside [0, 1].

        Where the search ends in numbers that are not finite (a broken network can give such
        gradients), the image comes back clean, which is a point of the ball like any other.

        The parameters of `model` and their gradients stay untouched. With `epsilon` 0 the inputs
        come back bit for bit, without a draw. All random choices are those of the CPU `generator`.
        `task` says what is right and what is climbed; None: a classification.

        Raises:
            SpecError: the attack does not know the task.
            InputRangeError: an input lies outside [0, 1] or is not a number.
            InputShapeError: labels do not match the inputs, or the attack needs images.
            ModelError: the attack needs gradients and the model gives none.
        """
        self.check(task)
        check_inputs(inputs, labels, task)
        clean = inputs.detach()
        if self.epsilon == 0 or not len(clean):
            return clean.clone()
        known = labels.to(clean.device)
        known = known if known.is_floating_point() else known.long()
        # An attack that knows classifications alone need not know of tasks.
        more: dict[str, Any] = {"task": task or CLASSES} if self.any_task else {}
        with evaluating(model) if isinstance(model, nn.Module) else nullcontext():
            found = self.search(model, clean, known, generator=generator, **more)
        finite = found.detach().flatten(1).isfinite().all(dim=1)
        return self.project(torch.where(per_image(finite, clean), found.detach(), clean), clean)

    @abstractmethod
    def search(
        self, model: Classifier, inputs: Images, labels: Labels, *, generator: torch.Generator
    ) -> Images:
        """Return the worst inputs found; `run` has checked the arguments and will project."""

    def project(self, points: Images, inputs: Images) -> Images:
        """Return `points`, moved into the ball around `inputs` and into [0, 1]."""
        move = project_linf if self.ball == "Linf" else project_l2
        return move(points, inputs, self.epsilon)

    def at(self, epsilon: float) -> "InputAttack":
        """Return the same attack with another radius.

        Raises:
            SpecError: `epsilon` is negative or not finite.
        """
        other = self.from_table({**self.model_dump(), "epsilon": epsilon})
        assert isinstance(other, InputAttack)
        return other


ATTACKS: Registry[InputAttack] = Registry("attacks")
AnyAttack = Annotated[SerializeAsAny[InputAttack], BeforeValidator(ATTACKS.validate)]


def check_inputs(inputs: Tensor, labels: Tensor, task: Task | None = None) -> None:
    """Check that inputs lie in [0, 1] and that there is one label, or several, for each.

    Raises:
        InputRangeError: an input lies outside [0, 1] or is not a number.
        InputShapeError: inputs are not of shape `n *features`, or tokens, or labels not of shape
            `n` (of a classification; for other tasks, `n ...`).
    """
    plain = task is None or isinstance(task, Classification)
    found = labels.shape if plain else labels.shape[:1]
    if inputs.ndim < 2 or found != inputs.shape[:1]:
        raise InputShapeError(
            f"inputs and labels: wanted shapes (n, ...) and {'(n)' if plain else '(n, ...)'}, "
            f"got {tuple(inputs.shape)} and {tuple(labels.shape)}"
        )
    if not inputs.is_floating_point():
        raise InputShapeError(f"inputs: wanted floats, got {inputs.dtype}; tokens have no ball")
    if not inputs.numel():
        return
    low, high = (float(bound) for bound in inputs.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise InputRangeError(
            f"inputs: wanted values in [0, 1], got {low:.4g} to {high:.4g}; "
            "put normalisation into the model"
        )


def check_images(inputs: Tensor) -> None:
    """Raise an InputShapeError unless inputs are images of shape `n c h w`."""
    if inputs.ndim != 4:
        raise InputShapeError(
            f"inputs: wanted images of shape (n, c, h, w), got {tuple(inputs.shape)}"
        )
