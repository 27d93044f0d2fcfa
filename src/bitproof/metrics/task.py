"""What a task is: when an answer is right, when a fault changed it, and what an attacker climbs.

Model:  a network answers each image (input) with one or several numbers. A task reads them: as one
        answer, right or wrong, or as an answer of many parts (pixels, tokens), of which a share is
        right. The image stays the unit of every interval: parts of one image are not independent.
        Faults are judged against the fault-free answer, in the words of `outcomes`: *masked* (bit
        for bit the same), *SDC-1* (the answer differs), *SDC-10 %* and *SDC-20 %* (it differs by
        more than a tenth, a fifth), *DUE* (not finite). What has no meaning for a task is not
        among its `outcomes`, and not counted.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.errors import DataError
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.metrics.outcomes import OUTCOMES
from bitproof.metrics.tally import IMAGES, SQUARES, Number, Tally

Outputs = Float[Tensor, "n *answer"]
"""What a network answers."""
Labels = Shaped[Tensor, "n *label"]
"""What it should have answered."""
AllLabels = Shaped[Tensor, "all *label"]
"""Labels of all images, where outputs are those of the first ones."""
SHARES = ("masked", "sdc1", "sdc10", "sdc20", "due")
"""Outcomes of tasks without a ranking of classes."""


class Task(Spec):
    """What the outputs of a network answer.

    A subclass has a `kind`, says in `problem` what it takes, and judges in `right` and `changes`;
    where an answer has parts, it says so in `parts` and counts them in `counts`.
    """

    outcomes: ClassVar[tuple[str, ...]] = SHARES
    """What is counted of faults, in the order of `OUTCOMES`."""
    has_loss: ClassVar[bool] = True
    """Whether there is something that an attack can climb."""

    kind: str

    @property
    def parts(self) -> str:
        """What an answer consists of, in the plural; empty: it is right or wrong as a whole."""
        return ""

    @abstractmethod
    def problem(self, outputs: Outputs, labels: AllLabels) -> str:
        """Say why outputs and labels do not fit the task; empty where they do.

        `labels` are all labels; `outputs` those of the first images.
        """

    @abstractmethod
    def right(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return which answers are right, in all their parts; none that is not finite."""

    @abstractmethod
    def changes(
        self, outputs: Outputs, golden: Outputs, labels: Labels
    ) -> dict[str, Bool[Tensor, " n"]]:
        """Return which finite answers differ from the fault-free ones, by silent outcome."""

    @abstractmethod
    def loss(self, outputs: Outputs, labels: Labels) -> Float[Tensor, ""]:
        """Return what attacks climb: a sum over images, so that each sees only its own part."""

    @abstractmethod
    def margin(self, outputs: Outputs, labels: Labels) -> Float[Tensor, " n"]:
        """Return how far each answer is from being wrong, larger being safer; for attacks."""

    @abstractmethod
    def describe(self, outputs: Outputs) -> str:
        """Return what the task reads in such outputs, in a few words."""

    @property
    def identity(self) -> str:
        """Return what results depend on; empty for the task that everything was about before."""
        return self.digest()

    def unfinished(self, outputs: Outputs, labels: Labels) -> Bool[Tensor, " n"]:
        """Return the answers in which an attack still has something to spoil."""
        return self.right(outputs, labels)

    def columns(self, outputs: Outputs) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names of what `counts` counts; the first is `correct`."""
        return ("correct",)

    def counts(self, outputs: Outputs, labels: Labels) -> Int64[Tensor, "n columns"]:
        """Return what is counted of each image, in the order of `columns`."""
        return self.right(outputs, labels)[:, None].long()

    def errors(self, outputs: Outputs, labels: Labels) -> tuple[tuple[str, Number], ...]:  # noqa: ARG002
        """Return sums over images that a tally holds beside its counts."""
        return ()

    def chance(self, n_classes: int) -> float | None:  # noqa: ARG002
        """Return the accuracy of guessing, None where there is none to speak of."""
        return None

    @final
    def tally(self, outputs: Outputs, labels: Labels) -> Tally:
        """Count what is right.

        Where answers have parts, the parts are counted, and beside them what their spread between
        images is made of; see `Tally`.
        """
        names, counts = self.columns(outputs), self.counts(outputs, labels)
        sums = dict(zip(names, counts.sum(0).tolist(), strict=True))
        if not self.parts:
            others = tuple((n, sums[n]) for n in names[1:]) + self.errors(outputs, labels)
            return Tally(sums["correct"], len(outputs), tuple(sorted(others)))
        right, parts = counts[:, 0], counts[:, 1]
        squares = [int((a * b).sum()) for a, b in ((right, right), (right, parts), (parts, parts))]
        moments = zip((IMAGES, *SQUARES), (len(outputs), *squares), strict=True)
        others = (*moments, *((n, sums[n]) for n in names[2:]))
        return Tally(sums["correct"], sums["parts"], tuple(sorted(others)))

    @final
    def tally_each(self, outputs: Outputs, labels: Labels) -> Tally:
        """Count what is right, and keep which answers are, where they have no parts."""
        found = self.tally(outputs, labels)
        if self.parts:
            return found
        right = self.counts(outputs, labels)[:, 0].to(torch.uint8).cpu()
        return replace(found, right=right.numpy().tobytes())

    @final
    def judge(self, outputs: Outputs, golden: Outputs, labels: Labels) -> Int[Tensor, "n outcomes"]:
        """Return 1 for every outcome that holds, in the order of `OUTCOMES`, image by image.

        `golden` are the finite answers of the same images without faults. What is not among the
        task's `outcomes` is 0.
        """
        due = ~finite(outputs)
        masked = (outputs == golden).reshape(len(outputs), -1).all(1)
        safe = torch.where(per_image(due, outputs), golden, outputs)
        found = self.changes(safe, golden, labels)
        silent, no = ~due & ~masked, torch.zeros_like(due)
        columns = {"masked": masked, "due": due}
        columns |= {name: found.get(name, no) & silent for name in OUTCOMES if name not in columns}
        return torch.stack([columns[name] for name in OUTCOMES], 1).int()

    @final
    def check(self, outputs: Outputs, labels: AllLabels, *, name: str = "labels") -> None:
        """Check that outputs and labels are such as the task reads.

        Raises:
            DataError: they are not.
        """
        if problem := self.problem(outputs, labels):
            raise DataError(f"{name}: task '{self.kind}' {problem}")


TASKS: Registry[Task] = Registry("tasks")
AnyTask = Annotated[SerializeAsAny[Task], BeforeValidator(TASKS.validate)]


def finite(outputs: Outputs) -> Bool[Tensor, " n"]:
    """Return which answers hold finite numbers only."""
    return outputs.reshape(len(outputs), -1).isfinite().all(1)


def per_image(values: Shaped[Tensor, " n"], like: Tensor) -> Shaped[Tensor, "n *ones"]:
    """Return one value for each image, shaped to be combined with `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def shapes(outputs: Tensor, labels: Tensor) -> str:
    """Return the shapes of both in words."""
    kind = str(labels.dtype).removeprefix("torch.")
    return f"outputs of shape {letters(outputs)} and {kind} labels of shape {letters(labels)}"


def letters(tensor: Tensor) -> str:
    """Return a shape with n for the images.

    Example:
        >>> letters(torch.zeros(8, 3, 4)), letters(torch.zeros(8))
        ('(n, 3, 4)', '(n)')
    """
    return f"({', '.join(['n', *map(str, tensor.shape[1:])])})"
