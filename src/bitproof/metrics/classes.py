"""One answer an image: the class with the largest output, the sign of one output, a set of labels.

Model:  a network that ends in a softmax or a sigmoid gives `probabilities`; they are read as such,
        and neither is taken again. Of one output, a positive logit (a probability above 1/2) says
        1. SDC-10 % and SDC-20 %: the probability of the fault-free answer moves by more than a
        tenth, a fifth, of what it was; of a set of labels, more than that share of them differ.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    nll_loss,
)

from bitproof.metrics.outcomes import OUTCOMES, outcomes, relative_move
from bitproof.metrics.task import TASKS, AllLabels, Labels, Outputs, Task, finite, shapes

LEAST = 1e-12
"""Smallest probability of which a logarithm is taken."""


class Scored(Task):
    """A task whose outputs are logits, or probabilities."""

    probabilities: bool | None = None
    """The outputs are probabilities (the network ends in a softmax or sigmoid), not logits. None:
    as the network ends."""

    @property
    def read_as(self) -> str:
        """Return what is to be said of the outputs."""
        return ", probabilities" if self.probabilities else ""

    def scores(self, outputs: Tensor) -> Tensor:
        """Return numbers that are positive where an output of its own says 1."""
        return outputs - 0.5 if self.probabilities else outputs


@TASKS.register
class Classification(Scored):
    """Name one of several classes: the one with the largest output.

    Example:
        >>> task = Classification()
        >>> task.right(torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.tensor([1, 1])).tolist()
        [True, False]
    """

    outcomes: ClassVar[tuple[str, ...]] = OUTCOMES

    kind: Literal["classification"] = "classification"

    @property
    def identity(self) -> str:
        """Return nothing, so that counts from before there were tasks are still found."""
        return self.digest() if self.probabilities else ""

    def problem(self, outputs: Outputs, labels: AllLabels) -> str:
        """Say why outputs and labels do not fit the task; empty where they do."""
        if outputs.ndim != 2 or labels.ndim != 1 or labels.is_floating_point():
            return f"wants outputs (n, k) and integer labels (n), got {shapes(outputs, labels)}"
        if outputs.shape[1] < 2:
            return "wants at least two outputs, got one; task 'binary' reads its sign"
        return beyond(labels, outputs.shape[1])

    def right(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which images are given their class."""
        return (outputs.argmax(1) == labels) & finite(outputs)

    def unfinished(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which images are still given their class, as attacks have always asked."""
        return outputs.argmax(1) == labels

    def changes(
        self,
        outputs: Outputs,
        golden: Outputs,
        labels: Labels,  # noqa: ARG002
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Return the outcomes of `outcomes`, by name."""
        found = outcomes(outputs, golden, probabilities=bool(self.probabilities)).bool()
        return dict(zip(OUTCOMES, found.unbind(1), strict=True))

    def loss(self, outputs: Outputs, labels: Labels) -> Float[Tensor, ""]:
        """Return the cross-entropy."""
        return categorical_loss(outputs, labels, probabilities=bool(self.probabilities)).sum()

    def margin(self, outputs: Outputs, labels: Labels) -> Float[Tensor, " n"]:
        """Return how far the output of the true class is above the highest other one."""
        return class_margin(outputs, labels)

    def chance(self, n_classes: int) -> float | None:
        """Return one over the number of classes."""
        return 1 / n_classes

    def describe(self, outputs: Outputs) -> str:
        """Return the number of outputs."""
        return f"classification ({outputs.shape[1]} outputs{self.read_as}, one label an image)"


@TASKS.register
class Binary(Scored):
    """Say yes or no by one output: 1 where the logit is positive.

    Example:
        >>> Binary().right(torch.tensor([[-2.0], [0.5]]), torch.tensor([0, 1])).tolist()
        [True, True]
        >>> sure = Binary(probabilities=True)
        >>> sure.right(torch.tensor([0.4, 0.7]), torch.tensor([1, 1])).tolist()
        [False, True]
    """

    kind: Literal["binary"] = "binary"

    def problem(self, outputs: Outputs, labels: AllLabels) -> str:
        """Say why outputs and labels do not fit the task; empty where they do."""
        one = outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)
        if not one or labels.ndim != 1:
            return f"wants one output an image and labels (n), got {shapes(outputs, labels)}"
        return _not_zero_one(labels)

    def right(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which images are answered as labelled."""
        return ((self.scores(outputs.reshape(-1)) > 0) == labels.bool()) & finite(outputs)

    def changes(
        self,
        outputs: Outputs,
        golden: Outputs,
        labels: Labels,  # noqa: ARG002
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Return where the answer is the other one, and how far its probability moved."""
        now, was = (self.scores(each.reshape(-1)) > 0 for each in (outputs, golden))
        after, before = (
            torch.where(was, yes, 1 - yes)
            for yes in (self._probability(outputs), self._probability(golden))
        )
        moved = relative_move(after, before)
        return {"sdc1": now != was, "sdc10": moved > 0.1, "sdc20": moved > 0.2}

    def _probability(self, outputs: Outputs) -> Float[Tensor, " n"]:
        flat = outputs.reshape(-1).double()
        return flat if self.probabilities else flat.sigmoid()

    def loss(self, outputs: Outputs, labels: Labels) -> Float[Tensor, ""]:
        """Return the binary cross-entropy."""
        return binary_loss(
            outputs.reshape(-1), labels, probabilities=bool(self.probabilities)
        ).sum()

    def margin(self, outputs: Outputs, labels: Labels) -> Float[Tensor, " n"]:
        """Return how far the output lies on the right side."""
        return sign_margin(self.scores(outputs.reshape(-1)), labels)

    def chance(self, n_classes: int) -> float | None:  # noqa: ARG002
        """Return one half."""
        return 0.5

    def describe(self, outputs: Outputs) -> str:  # noqa: ARG002
        """Return what the output is."""
        what = "one output, a probability" if self.probabilities else "one output"
        return f"binary ({what}, labels 0/1)"


@TASKS.register
class MultiLabel(Scored):
    """Say yes or no to each of several labels; an image is right if all of them are.

    SDC-1: the set of labels differs. The share of single labels that are right is `label_acc`.

    Example:
        >>> outputs = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
        >>> MultiLabel().right(outputs, torch.tensor([[1, 0], [1, 0]])).tolist()
        [True, False]
    """

    kind: Literal["multi_label"] = "multi_label"

    def problem(self, outputs: Outputs, labels: AllLabels) -> str:
        """Say why outputs and labels do not fit the task; empty where they do."""
        if outputs.ndim != 2 or labels.ndim != 2 or outputs.shape[1:] != labels.shape[1:]:
            return f"wants outputs (n, k) and labels (n, k), got {shapes(outputs, labels)}"
        return _not_zero_one(labels)

    def _hits(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, "n k"]:
        hits = (self.scores(outputs) > 0) == labels.bool()
        return hits & finite(outputs)[:, None]

    def right(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which images are given exactly their labels."""
        return self._hits(outputs, labels).all(1)

    def columns(self, outputs: Outputs) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of the counts."""
        return ("correct", "labels_right", "labels")

    def counts(self, outputs: Outputs, labels: Labels) -> Int64[Tensor, "n columns"]:
        """Return for each image whether it is right, its right labels, and all of them."""
        hits = self._hits(outputs, labels)
        right = hits.sum(1)
        return torch.stack([hits.all(1).long(), right, torch.full_like(right, hits.shape[1])], 1)

    def changes(
        self,
        outputs: Outputs,
        golden: Outputs,
        labels: Labels,  # noqa: ARG002
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Return where labels differ, and where more than a tenth, a fifth of them do."""
        share = ((self.scores(outputs) > 0) != (self.scores(golden) > 0)).double().mean(1)
        return {"sdc1": share > 0, "sdc10": share > 0.1, "sdc20": share > 0.2}

    def loss(self, outputs: Outputs, labels: Labels) -> Float[Tensor, ""]:
        """Return the binary cross-entropy, its mean over the labels of each image."""
        return binary_loss(outputs, labels, probabilities=bool(self.probabilities)).mean(1).sum()

    def margin(self, outputs: Outputs, labels: Labels) -> Float[Tensor, " n"]:
        """Return how far the output nearest to the wrong side is from it."""
        return sign_margin(self.scores(outputs), labels).amin(1)

    def describe(self, outputs: Outputs) -> str:
        """Return the number of labels."""
        return f"multi_label ({outputs.shape[1]} outputs{self.read_as}, labels 0/1 for each)"


def categorical_loss(
    outputs: Float[Tensor, "n k *parts"],
    labels: Int64[Tensor, "n *parts"],
    *,
    probabilities: bool,
    ignore: int = -100,
) -> Float[Tensor, "n *parts"]:
    """Return the cross-entropy of each answer, of logits or of probabilities."""
    if probabilities:
        logs = outputs.clamp(min=LEAST).log()
        return nll_loss(logs, labels, ignore_index=ignore, reduction="none")
    return cross_entropy(outputs, labels, ignore_index=ignore, reduction="none")


def binary_loss(
    outputs: Float[Tensor, "*parts"], labels: Tensor, *, probabilities: bool
) -> Float[Tensor, "*parts"]:
    """Return the binary cross-entropy of each answer, of logits or of probabilities."""
    take = binary_cross_entropy if probabilities else binary_cross_entropy_with_logits
    return take(outputs, labels.to(outputs), reduction="none")


def class_margin(
    outputs: Float[Tensor, "n k *parts"], labels: Int64[Tensor, "n *parts"]
) -> Float[Tensor, "n *parts"]:
    """Return how far the output of the true class is above the highest other one.

    Example:
        >>> class_margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
        tensor([1.])
    """
    true = outputs.gather(1, labels[:, None])
    others = outputs.scatter(1, labels[:, None], -torch.inf)
    return true[:, 0] - others.amax(dim=1)


def sign_margin(scores: Float[Tensor, "*parts"], labels: Tensor) -> Float[Tensor, "*parts"]:
    """Return how far numbers lie on the side of zero that their labels ask for."""
    return torch.where(labels.bool(), scores, -scores)


def beyond(labels: Labels, n_classes: int) -> str:
    """Say that labels name no class; empty where all do."""
    if not labels.numel():
        return ""
    low, high = (int(end) for end in labels.aminmax())
    if low >= 0 and high < n_classes:
        return ""
    return f"wants labels from 0 to {n_classes - 1}, as there are outputs, got {low} to {high}"


def _not_zero_one(labels: Labels) -> str:
    odd = labels[(labels != 0) & (labels != 1)]
    return f"wants labels 0 and 1, got {odd[0].item():g}" if len(odd) else ""
