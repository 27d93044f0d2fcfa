"""Answers that are numbers: right within a tolerance.

Model:  an image is right if each of its outputs is within `tolerance` of its label. SDC-1: an
        output moves by more than the tolerance from what it is without the fault; SDC-10 %, SDC-20
        %: by more than a tenth, a fifth, of what it is without the fault. `mae` is the mean
        absolute error over all outputs.
"""

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from bitproof.core.types import Positive
from bitproof.metrics.outcomes import relative_move
from bitproof.metrics.tally import Number
from bitproof.metrics.task import TASKS, AllLabels, Labels, Outputs, Task, shapes

SHARE_OF_SPREAD = 0.1
"""Tolerance where none is named, in standard deviations of the labels."""


@TASKS.register
class Regression(Task):
    """Name numbers, one or several an image.

    Example:
        >>> import torch
        >>> Regression(tolerance=0.5).right(torch.tensor([[1.0], [2.0]]), torch.tensor([1.4, 3.0]))
        tensor([ True, False])
    """

    kind: Literal["regression"] = "regression"
    tolerance: Positive
    """How far an output may be from its label, in units of the label."""

    @classmethod
    def of_labels(cls, labels: AllLabels) -> "Regression | None":
        """Return the task with a tenth of the labels' standard deviation as tolerance, if any."""
        spread = float(labels.double().std()) if labels.numel() > 1 else 0.0
        tolerance = float(f"{SHARE_OF_SPREAD * spread:.2g}")
        return cls(tolerance=tolerance) if tolerance > 0 else None

    def problem(self, outputs: Outputs, labels: AllLabels) -> str:
        """Say why outputs and labels do not fit the task; empty where they do."""
        if outputs[:1].numel() != labels[:1].numel() or not labels.is_floating_point():
            return f"wants as many outputs as float labels, got {shapes(outputs, labels)}"
        return "" if bool(labels.isfinite().all()) else "wants finite labels, got others"

    def _off(self, outputs: Outputs, wanted: Tensor) -> Float[Tensor, "n outputs"]:
        return (outputs.reshape(len(outputs), -1) - wanted.reshape(len(wanted), -1)).abs()

    def right(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which images have all their outputs within the tolerance."""
        return (self._off(outputs, labels) <= self.tolerance).all(1)

    def errors(self, outputs: Outputs, labels: Labels) -> tuple[tuple[str, Number], ...]:
        """Return the outputs, those that are finite, and the sum of their absolute errors."""
        off = self._off(outputs.detach(), labels).double()
        known = off.isfinite()
        total = float(off[known].sum())
        return (("answers", off.numel()), ("finite", int(known.sum())), ("abs_error", total))

    def changes(
        self,
        outputs: Outputs,
        golden: Outputs,
        labels: Labels,  # noqa: ARG002
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Return where an output moves by more than it may."""
        after, before = (each.reshape(len(each), -1).double() for each in (outputs, golden))
        moved = relative_move(after, before)
        return {
            "sdc1": ((after - before).abs() > self.tolerance).any(1),
            "sdc10": (moved > 0.1).any(1),
            "sdc20": (moved > 0.2).any(1),
        }

    def loss(self, outputs: Outputs, labels: Labels) -> Float[Tensor, ""]:
        """Return the squared error, its mean over the outputs of each image."""
        return self._off(outputs, labels.to(outputs)).square().mean(1).sum()

    def margin(self, outputs: Outputs, labels: Labels) -> Float[Tensor, " n"]:
        """Return how much of the tolerance the worst output leaves."""
        return self.tolerance - self._off(outputs, labels).amax(1)

    def describe(self, outputs: Outputs) -> str:
        """Return the number of outputs, and the tolerance."""
        n = outputs[:1].numel()
        return f"regression ({n} output{'s' * (n > 1)}, right within {self.tolerance:g})"
