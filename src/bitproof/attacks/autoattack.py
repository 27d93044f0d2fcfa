"""AutoAttack, run by its authors' own code (the optional package `pyautoattack`).

Model:  white box with gradients (APGD, FAB) and black box with scores (Square), one after the
        other; an image counts as robust when all fail.
Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an
        ensemble of diverse parameter-free attacks", ICML 2020.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bitproof.attacks.balls import Ball, Images, Labels
from bitproof.attacks.base import ATTACKS, Classifier, InputAttack, check_images
from bitproof.core.errors import InputShapeError
from bitproof.core.packages import Package
from bitproof.core.passes import STEP, Passes
from bitproof.core.rng import draw_seed

PACKAGE = Package(
    "pyautoattack",
    wanted_by="autoattack",
    install="pip install 'bitproof[autoattack]' (pyautoattack 0.2.0, which brings nothing else)",
)
LEAST_CLASSES = {"standard": 4, "rand": 3}
"""Classes that the losses of each version compare with each other."""
GRADIENTS = {"standard": 100 + 9 * 100 + 9 * 2 * 100, "rand": 2 * 20 * 100}
"""Gradients for an image that resists: of APGD 100 an attack, for each of nine targets where it has
some, and of FAB two in each of as many steps; in `rand` each is a mean of 20."""
QUERIES = {"standard": 5000, "rand": 0}
"""Queries of Square."""


@ATTACKS.register
class AutoAttack(InputAttack):
    """Run the parameter-free ensemble; images that it cannot break come back clean.

    Example:
        >>> AutoAttack(epsilon=8 / 255)
        AutoAttack(kind='autoattack', epsilon=0.03137254901960784, norm='Linf', version='standard')
    """

    packages: ClassVar[tuple[Package, ...]] = (PACKAGE,)
    needs_images: ClassVar[bool] = True

    kind: Literal["autoattack"] = "autoattack"
    norm: Ball = "Linf"
    """Norm that bounds the perturbation."""
    version: Literal["standard", "rand"] = "standard"
    """`standard`: APGD-CE, APGD-T, FAB-T and Square with 5000 queries. `rand`: APGD-CE and
    APGD-DLR with gradients averaged over 20 evaluations, for networks that are random."""

    @property
    def passes(self) -> Passes:
        """Return what an image takes that resists all of them."""
        return GRADIENTS[self.version] * STEP + Passes(QUERIES[self.version])

    @property
    def ball(self) -> Ball:
        """Return the norm that bounds the perturbation."""
        return self.norm

    def search(
        self, model: Classifier, inputs: Images, labels: Labels, *, generator: torch.Generator
    ) -> Images:
        """Return the adversarial inputs; `generator` advances by one draw, for the seed.

        Raises:
            AdapterError: the package `pyautoattack` is not installed.
            InputShapeError: the inputs are no images, or the model has too few classes.
        """
        check_images(inputs)
        package = PACKAGE.load()
        with torch.no_grad():
            classes = model(inputs[:1]).shape[1]
        if classes < LEAST_CLASSES[self.version]:
            raise InputShapeError(
                f"autoattack: version '{self.version}' wanted a model with at least "
                f"{LEAST_CLASSES[self.version]} classes, got {classes}"
            )
        with _process_state_kept():
            attack = package.AutoAttack(
                lambda points: _InputGradientOnly.apply(points, model),  # type: ignore[no-untyped-call]
                eps=self.epsilon,
                norm=self.norm,
                version=self.version,
                seed=draw_seed(generator),
                device=inputs.device,
            )
            for targeted in (attack.apgd_targeted, attack.fab):
                targeted.n_target_classes = min(9, classes - 1)
            found, *_ = attack.run_standard_evaluation(inputs, labels, batch_size=len(inputs))
        result: Tensor = found.to(inputs)
        return result


class _InputGradientOnly(torch.autograd.Function):
    """A forward pass on a graph of its own, from which only the input's gradient comes out.

    So parameters cannot receive gradients, even from a plain `backward`.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, model: Classifier) -> Tensor:
        with torch.set_grad_enabled(inputs.requires_grad):
            ctx.inputs = inputs.detach().requires_grad_(inputs.requires_grad)
            ctx.logits = model(ctx.inputs)
        logits: Tensor = ctx.logits.detach()
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = torch.autograd.grad(ctx.logits, ctx.inputs, gradients[0], retain_graph=True)
        return gradient, None


@contextmanager
def _process_state_kept() -> Iterator[None]:
    """Restore what the package changes: torch's global generators and the trace function."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    tracer = sys.gettrace()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        sys.settrace(tracer)
