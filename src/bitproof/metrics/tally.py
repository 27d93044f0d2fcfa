"""Counts of right answers, which add up."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Tally:
    """How many of how many answers were right.

    Example:
        >>> (Tally(3, 4) + Tally(1, 4)).acc
        0.5
    """

    correct: int
    total: int
    others: tuple[tuple[str, int], ...] = ()
    """How many of the same answers had other outcomes, by name; mostly none are counted."""

    def __add__(self, other: "Tally") -> "Tally":
        """Add counts; what only one of both counted cannot be added."""
        if not (self.total and other.total):
            return self if self.total else other
        theirs = dict(other.others)
        both = tuple((name, n + theirs[name]) for name, n in self.others if name in theirs)
        return Tally(self.correct + other.correct, self.total + other.total, both)

    @property
    def acc(self) -> float:
        """Accuracy, as a fraction; 0 where nothing was counted."""
        return self.correct / self.total if self.total else 0.0


def tally(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Tally:
    """Count the images whose largest logit is that of their label; NaN is never right."""
    right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
    return Tally(int(right.sum()), len(labels))
