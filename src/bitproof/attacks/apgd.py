"""Gradient ascent that sets its own step length, with two losses: strong without being tuned.

Model:  white box, as `ascent`. The step begins at twice the radius and is halved, from the best
        point so far, at checkpoints where the loss rose in less than three quarters of the steps
        since the last one, or where neither step nor best loss changed. `cross_entropy` first; then
        `targeted`: the difference of logits ratio towards each of the classes that the network
        finds next likely, one climb each. An image that falls is left alone.
Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020: algorithm 1, equations 6 and 7. Its APGD-CE and APGD-T
        are the first two parts of AutoAttack, without FAB and Square.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitproof.attacks.ascent import input_gradient
from bitproof.attacks.balls import Images, Labels, per_image
from bitproof.attacks.base import ATTACKS, Classifier, InputAttack
from bitproof.core.errors import InputShapeError
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Rounds
from bitproof.metrics.classes import class_margin

AscentLoss = Literal["cross_entropy", "dlr", "targeted"]
LEAST_CLASSES: dict[AscentLoss, int] = {"cross_entropy": 2, "dlr": 3, "targeted": 4}
"""Classes that each loss compares with each other."""
MOMENTUM = 0.75
"""Share of the new step; the rest goes on as before."""
RISING = 0.75
"""Share of steps in which the loss has to rise."""
CHECKPOINTS = (22, 41, 57, 70, 80, 87, 93, 99)
"""When step lengths are looked at, in per cent of all steps: first after 22, then after 3 less each
time, but not before 6."""

TINY = 1e-12
"""Added to what is divided by, as the authors do."""


@ATTACKS.register
class LinfAPGD(InputAttack):
    """Climb two losses by signed steps with momentum, halving the step where it stalls.

    Example:
        >>> LinfAPGD(epsilon=8 / 255).losses
        ('cross_entropy', 'targeted')
    """

    kind: Literal["linf_apgd"] = "linf_apgd"
    steps: Rounds = 100
    """Steps of one climb, a gradient evaluation each."""
    restarts: Rounds = 1
    """Random starts of each climb, one after the other, for images that resist so far."""
    losses: Annotated[tuple[AscentLoss, ...], Field(min_length=1, max_length=3)] = (
        "cross_entropy",
        "targeted",
    )
    """What is climbed, one after the other: the cross-entropy, the difference of logits ratio, or
    that towards each of `targets` classes."""
    targets: Rounds = 9
    """Classes that `targeted` climbs towards, the likeliest first; all, if there are fewer."""

    @property
    def passes(self) -> Passes:
        """Return all gradients of all climbs, as of an image that resists them."""
        climbs = sum(self.targets if loss == "targeted" else 1 for loss in self.losses)
        return Passes(1) + self.restarts * climbs * (self.steps + 1) * STEP

    def search(
        self, model: Classifier, inputs: Images, labels: Labels, *, generator: torch.Generator
    ) -> Images:
        """Return the first misclassified points; of other images, the best of the last climb.

        Raises:
            InputShapeError: the model has too few classes for a loss.
        """
        with torch.no_grad():
            clean = model(inputs)
        self._check_classes(clean.shape[1])
        found = inputs.clone()
        right = clean.argmax(1) == labels
        for _ in range(self.restarts):
            for loss, place in self._climbs(clean.shape[1]):
                # All starts are drawn, so that draws do not depend on how the model fares.
                start = _start(inputs, self.epsilon, generator=generator)
                index = right.nonzero().flatten()
                if not len(index):
                    continue
                others = clean[index].scatter(1, labels[index, None], -torch.inf)
                target = others.argsort(dim=1, stable=True)[:, -place] if place else labels[index]
                climb = _Climb(self, model, loss, inputs[index], labels[index], target)
                points, fell = climb.run(self.project(start[index], inputs[index]))
                found[index] = points
                right[index[fell]] = False
        return found

    def _climbs(self, classes: int) -> Iterator[tuple[AscentLoss, int]]:
        """Yield the loss of each climb, and the rank of the class it leads to; 0: none."""
        for loss in self.losses:
            if loss == "targeted":
                yield from ((loss, place) for place in range(1, min(self.targets, classes - 1) + 1))
            else:
                yield loss, 0

    def _check_classes(self, classes: int) -> None:
        for loss in self.losses:
            if classes < LEAST_CLASSES[loss]:
                raise InputShapeError(
                    f"linf_apgd: loss '{loss}' wanted a model with at least {LEAST_CLASSES[loss]} "
                    f"classes, got {classes}; losses = ['cross_entropy'] takes two"
                )


@dataclass(frozen=True)
class _State:
    """Where each image stands, images on the first axis of everything."""

    index: Int64[Tensor, " n"]
    x: Tensor
    before: Tensor
    """The point before `x`."""
    gradient: Tensor
    value: Tensor
    """Loss at `x`."""
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    step: Tensor
    rises: Tensor
    """Steps since the last checkpoint in which the loss rose."""
    step_then: Tensor
    """Step length at the last checkpoint."""
    best_then: Tensor
    """Best loss at the last checkpoint."""

    def keep(self, which: Tensor) -> "_State":
        """Return the same of some images."""
        if bool(which.all()):
            return self
        return _State(*(getattr(self, each.name)[which] for each in fields(self)))


@dataclass(frozen=True)
class _Climb:
    """One ascent from one start."""

    attack: LinfAPGD
    model: Classifier
    loss: AscentLoss
    inputs: Images
    labels: Labels
    target: Tensor
    """The class that each image is led to, for `targeted`."""

    def run(self, start: Images) -> tuple[Images, Tensor]:
        """Return the first points that are misclassified, else the best, and which those are."""
        index = torch.arange(len(start), device=start.device)
        value, gradient, right = self._look(start, index)
        found, fell = start.clone(), ~right
        zeros = torch.zeros_like(value)
        step = torch.full_like(start.flatten(1)[:, 0], 2 * self.attack.epsilon)
        state = _State(
            *(index, start, start, gradient, value, start, gradient, value),
            *(step, zeros, step, value),
        )
        state = state.keep(right)
        checkpoints = checkpoints_of(self.attack.steps)
        last = 0
        for number in range(1, self.attack.steps + 1):
            if not len(state.index):
                break
            state, right = self._move(state, share=1.0 if number == 1 else MOMENTUM)
            found[state.index[~right]] = state.x[~right]
            fell[state.index[~right]] = True
            state = state.keep(right)
            if number in checkpoints:
                state = _look_back(state, steps=number - last)
                last = number
        found[state.index] = state.best
        return found, fell

    def _move(self, state: _State, *, share: float) -> tuple[_State, Tensor]:
        """Return where each image stands after a step, and which are still right."""
        clean = self.inputs[state.index]
        step = per_image(state.step, state.x)
        ahead = self.attack.project(state.x + step * state.gradient.sign(), clean)
        moved = state.x + share * (ahead - state.x) + (1 - share) * (state.x - state.before)
        moved = self.attack.project(moved, clean)
        value, gradient, right = self._look(moved, state.index)
        better = value > state.best_value
        wide = per_image(better, moved)
        return replace(
            state,
            x=moved,
            before=state.x,
            gradient=gradient,
            value=value,
            best=torch.where(wide, moved, state.best),
            best_gradient=torch.where(wide, gradient, state.best_gradient),
            best_value=torch.where(better, value, state.best_value),
            rises=state.rises + (value > state.value),
        ), right

    def _look(self, points: Images, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of each image, its gradient, and which are still right."""
        labels, target = self.labels[index], self.target[index]

        def summed(logits: Tensor, labels: Tensor) -> Tensor:
            return self._losses(logits, labels, target).sum()

        logits, gradient = input_gradient(self.model, points, labels, loss=summed)
        value = self._losses(logits, labels, target)
        value = torch.where(value.isnan(), -torch.inf, value)  # of a broken network: never best
        return value, gradient, logits.argmax(1) == labels

    def _losses(self, logits: Tensor, labels: Tensor, target: Tensor) -> Float[Tensor, " n"]:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.loss == "cross_entropy":
            return cross_entropy(logits, labels, reduction="none")
        return logits_ratio(logits, labels, None if self.loss == "dlr" else target)


def logits_ratio(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], target: Int64[Tensor, " n"] | None
) -> Float[Tensor, " n"]:
    """Return the difference of logits ratio, of which shift and scale of the logits are taken out.

    Without a target, how far the highest other logit lies above that of the label, by the distance
    of first and third; with one, how far that of the target does, by the distance of the first from
    the mean of third and fourth.

    Example:
        >>> logits, label = torch.tensor([[4.0, 3.0, 2.0, 0.0]]), torch.tensor([0])
        >>> logits_ratio(logits, label, None), logits_ratio(logits, label, torch.tensor([2]))
        (tensor([-0.5000]), tensor([-0.6667]))
    """
    ordered = logits.sort(dim=1, stable=True).values
    if target is None:
        spread = ordered[:, -1] - ordered[:, -3]
        return -class_margin(logits, labels) / (spread + TINY)
    own, other = (logits.gather(1, each[:, None])[:, 0] for each in (labels, target))
    spread = ordered[:, -1] - (ordered[:, -3] + ordered[:, -4]) / 2
    return (other - own) / (spread + TINY)


def checkpoints_of(steps: int) -> frozenset[int]:
    """Return after which of so many steps the step length is looked at.

    Example:
        >>> sorted(checkpoints_of(100))
        [22, 41, 57, 70, 80, 87, 93, 99]
    """
    return frozenset(-(-share * steps // 100) for share in CHECKPOINTS)


def _start(inputs: Images, epsilon: float, *, generator: torch.Generator) -> Images:
    """Return random points, at least one entry of each image at the edge of its ball."""
    noise = 2 * torch.rand(inputs.shape, generator=generator).to(inputs) - 1
    largest = noise.flatten(1).abs().amax(1).clamp(min=torch.finfo(noise.dtype).tiny)
    return inputs + epsilon * noise / per_image(largest, noise)


def _look_back(state: _State, *, steps: int) -> _State:
    """Return the state after a checkpoint: shorter steps, from the best point, where it stalls."""
    slow = state.rises < RISING * steps
    stuck = (state.step == state.step_then) & (state.best_value <= state.best_then)
    halved = slow | stuck
    wide = per_image(halved, state.x)
    return replace(
        state,
        step=torch.where(halved, state.step / 2, state.step),
        x=torch.where(wide, state.best, state.x),
        gradient=torch.where(wide, state.best_gradient, state.gradient),
        value=torch.where(halved, state.best_value, state.value),
        rises=torch.zeros_like(state.rises),
        step_then=state.step,
        best_then=state.best_value,
    )
