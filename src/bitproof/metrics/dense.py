"""Answers of many parts: a class for every pixel, or for every place of a sequence.

Model:  accuracy is the share of parts that are right; the image is the unit of its interval. An
        image is `exact` if all of its parts are right. Parts with the label `ignore` are left out
        of everything. One output a part is read by its sign: labels are then 0 and 1.
        SDC-1: more than `tolerance` of the parts have another class than without the fault; SDC-10
        % and SDC-20 %: more than a tenth, a fifth of them.
        `miou` of segmentations: intersection over union, summed over all images, mean over the
        classes that occur in labels or answers.
"""

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import Field
from torch import Tensor

from bitproof.core.types import Probability
from bitproof.metrics.classes import (
    Scored,
    beyond,
    binary_loss,
    categorical_loss,
    class_margin,
    sign_margin,
)
from bitproof.metrics.task import TASKS, AllLabels, Labels, Outputs, finite, shapes

IGNORED = -100
"""Label of parts that are left out, unless a task names another: that of PyTorch's losses."""
NOTHING = -1
"""Stands for the class of an answer that is not finite."""


class Dense(Scored):
    """A class for every part of an answer."""

    tolerance: Probability = 0.0
    """Share of the parts that may change before the answer counts as changed (SDC-1)."""
    ignore: Annotated[int, Field(ge=-(2**31), lt=2**31)] = IGNORED
    """Label of parts that are left out."""

    @abstractmethod
    def split(self, outputs: Outputs) -> Float[Tensor, "n k parts"]:
        """Return outputs by class and part."""

    @abstractmethod
    def fits(self, outputs: Outputs, labels: AllLabels) -> bool:
        """Tell whether the shapes are such as the task takes."""

    def problem(self, outputs: Outputs, labels: AllLabels) -> str:
        """Say why outputs and labels do not fit the task; empty where they do."""
        if labels.is_floating_point() or not self.fits(outputs, labels):
            return f"wants {self._wanted}, got {shapes(outputs, labels)}"
        kept = labels[labels != self.ignore]
        if len(labels) and not len(kept):
            return f"wants labels, all are {self.ignore}, which is left out"
        return beyond(kept, max(self.split(outputs).shape[1], 2))

    @property
    @abstractmethod
    def _wanted(self) -> str: ...

    def answers(self, outputs: Outputs) -> Int64[Tensor, "n parts"]:
        """Return the class of every part; none where an image's outputs are not finite."""
        split = self.split(outputs)
        found = split.argmax(1) if split.shape[1] > 1 else (self.scores(split[:, 0]) > 0).long()
        return found.masked_fill(~finite(outputs)[:, None], NOTHING)

    def _kept(self, labels: Labels) -> Bool[Tensor, "n parts"]:
        return labels.flatten(1) != self.ignore

    def _hits(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, "n parts"]:
        return (self.answers(outputs) == labels.flatten(1)) & self._kept(labels)

    def right(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which images are right in all their parts."""
        return (self._hits(outputs, labels) | ~self._kept(labels)).all(1) & finite(outputs)

    def unfinished(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which images have a part that is right."""
        return self._hits(outputs, labels).any(1)

    def columns(self, outputs: Outputs) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of the counts."""
        return ("correct", "parts", "exact")

    def counts(self, outputs: Outputs, labels: Labels) -> Int64[Tensor, "n columns"]:
        """Return for each image its right parts, all its parts, and whether it is exact."""
        right, parts = self._hits(outputs, labels).sum(1), self._kept(labels).sum(1)
        return torch.stack([right, parts, self.right(outputs, labels).long()], 1)

    def changes(
        self, outputs: Outputs, golden: Outputs, labels: Labels
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Return where more than some share of the parts has another class."""
        kept = self._kept(labels)
        moved = ((self.answers(outputs) != self.answers(golden)) & kept).sum(1)
        share = moved.double() / kept.sum(1).clamp(min=1)
        return {"sdc1": share > self.tolerance, "sdc10": share > 0.1, "sdc20": share > 0.2}

    def loss(self, outputs: Outputs, labels: Labels) -> Float[Tensor, ""]:
        """Return the cross-entropy, its mean over the parts of each image."""
        split, flat, kept = self.split(outputs), labels.flatten(1), self._kept(labels)
        if split.shape[1] > 1:
            each = categorical_loss(
                split, flat, probabilities=bool(self.probabilities), ignore=self.ignore
            )
        else:
            known = flat.masked_fill(~kept, 0)
            each = binary_loss(split[:, 0], known, probabilities=bool(self.probabilities)) * kept
        return (each.sum(1) / kept.sum(1).clamp(min=1)).sum()

    def margin(self, outputs: Outputs, labels: Labels) -> Float[Tensor, " n"]:
        """Return how far parts are from being wrong, their mean."""
        split, flat, kept = self.split(outputs), labels.flatten(1), self._kept(labels)
        known = flat.masked_fill(~kept, 0)
        if split.shape[1] > 1:
            each = class_margin(split, known)
        else:
            each = sign_margin(self.scores(split[:, 0]), known)
        return torch.where(kept, each, 0.0).sum(1) / kept.sum(1).clamp(min=1)


@TASKS.register
class Segmentation(Dense):
    """Name the class of every pixel: outputs (n, k, h, w), labels (n, h, w); or of every voxel.

    Example:
        >>> outputs = torch.tensor([[[[2.0, 0.0]], [[1.0, 1.0]]]])  # one image, 2 classes, 1 x 2
        >>> Segmentation().tally(outputs, torch.tensor([[[0, 0]]])).acc
        0.5
    """

    kind: Literal["segmentation"] = "segmentation"
    tolerance: Probability = 0.01
    """Share of the pixels that may change before the answer counts as changed (SDC-1)."""

    @property
    def parts(self) -> str:
        """Pixels."""
        return "pixels"

    @property
    def _wanted(self) -> str:
        return "outputs (n, k, h, w) and integer labels (n, h, w), or both with a depth before h"

    def fits(self, outputs: Outputs, labels: AllLabels) -> bool:
        """Tell whether the shapes are such as the task takes; one class needs no axis."""
        axes = {3: {3, 4}, 4: {5}}.get(labels.ndim, set())
        return outputs.ndim in axes and outputs.shape[1 - labels.ndim :] == labels.shape[1:]

    def split(self, outputs: Outputs) -> Float[Tensor, "n k parts"]:
        """Return outputs by class and pixel."""
        return outputs.flatten(2) if outputs.ndim > 3 else outputs.flatten(1)[:, None]

    def _n_classes(self, outputs: Outputs) -> int:
        return max(outputs.shape[1] if outputs.ndim > 3 else 1, 2)

    def columns(self, outputs: Outputs) -> tuple[str, ...]:
        """Return the names of the counts."""
        classes = range(self._n_classes(outputs))
        unions = (name for k in classes for name in (f"intersection_{k}", f"union_{k}"))
        return (*super().columns(outputs), *unions)

    def counts(self, outputs: Outputs, labels: Labels) -> Int64[Tensor, "n columns"]:
        """Return what is counted of each image, intersection and union of every class too."""
        answers, flat, kept = self.answers(outputs), labels.flatten(1), self._kept(labels)
        found = []
        for k in range(self._n_classes(outputs)):
            mine, true = (answers == k) & kept, (flat == k) & kept
            found += [(mine & true).sum(1), (mine | true).sum(1)]
        return torch.cat([super().counts(outputs, labels), torch.stack(found, 1)], 1)

    def describe(self, outputs: Outputs) -> str:
        """Return the number of classes and pixels, and what SDC-1 is."""
        sizes = " x ".join(map(str, outputs.shape[2 if outputs.ndim > 3 else 1 :]))
        return (
            f"segmentation ({self._n_classes(outputs)} classes{self.read_as}, {sizes} pixels; "
            f"SDC-1: over {100 * self.tolerance:g} % of them change)"
        )


@TASKS.register
class Sequence(Dense):
    """Name the class of every place in a sequence: outputs (n, t, k), labels (n, t).

    Example:
        >>> outputs = torch.tensor([[[2.0, 0.0], [1.0, 3.0]]])  # one sequence of 2 places
        >>> Sequence().tally(outputs, torch.tensor([[0, -100]])).total
        1
    """

    kind: Literal["sequence"] = "sequence"

    @property
    def parts(self) -> str:
        """Places."""
        return "places"

    @property
    def _wanted(self) -> str:
        return "outputs (n, t, k) and integer labels (n, t)"

    def fits(self, outputs: Outputs, labels: AllLabels) -> bool:
        """Tell whether the shapes are such as the task takes."""
        return outputs.ndim == 3 and labels.ndim == 2 and outputs.shape[1] == labels.shape[1]

    def split(self, outputs: Outputs) -> Float[Tensor, "n k parts"]:
        """Return outputs by class and place."""
        return outputs.transpose(1, 2)

    def describe(self, outputs: Outputs) -> str:
        """Return the number of classes and places."""
        return (
            f"sequence ({max(outputs.shape[2], 2)} classes{self.read_as}, "
            f"{outputs.shape[1]} places each)"
        )
