"""Counts of right answers, which add up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from jaxtyping import Float, Int
from torch import Tensor

IMAGES = "images"
"""Name of the number of images, where answers have parts."""
Number = int | float
"""What is counted, or summed."""
SQUARES = ("right_right", "right_parts", "parts_parts")
"""Names of the sums over images of products of their right parts and parts."""


@dataclass(frozen=True)
class Tally:
    """How many of how many answers were right, or parts of answers.

    Where answers have parts (pixels, tokens), `others` holds the number of images and sums of
    squares, so that the image stays the unit of intervals.

    Example:
        >>> (Tally(3, 4) + Tally(1, 4)).acc
        0.5
    """

    correct: int
    total: int
    others: tuple[tuple[str, Number], ...] = ()
    """What else is counted of the same answers, by name; mostly nothing."""
    right: bytes | None = field(default=None, compare=False, repr=False)
    """Which answers were right, a byte 1 or 0 each, in the order of the images; mostly not kept.
    Equal counts are equal tallies, whether it is or not."""
    seconds: float = field(default=0.0, compare=False, repr=False)
    """What counting took, where somebody looked at the clock."""

    def __add__(self, other: "Tally") -> "Tally":
        """Add counts, `other` after this one; what only one of both counted cannot be added."""
        if not (self.total and other.total):
            return self if self.total else other
        theirs = dict(other.others)
        both = tuple((name, n + theirs[name]) for name, n in self.others if name in theirs)
        right = self.right + other.right if self.right and other.right else None
        spent = self.seconds + other.seconds
        return Tally(self.correct + other.correct, self.total + other.total, both, right, spent)

    @property
    def acc(self) -> float:
        """Accuracy, as a fraction; 0 where nothing was counted."""
        return self.correct / self.total if self.total else 0.0

    @property
    def images(self) -> int:
        """Images whose answers were counted."""
        return int(dict(self.others).get(IMAGES, self.total))

    @property
    def metrics(self) -> dict[str, float]:
        """Return what else the counts come to, by name; see `metrics_of`."""
        return metrics_of(dict(self.others))


def metrics_of(counts: Mapping[str, Number]) -> dict[str, float]:
    """Return what counts beside right answers come to.

    `miou`: the mean over classes of intersection over union, classes that are neither in labels nor
    in answers left out. `exact`: the share of images with all parts right. `label_acc`: the share
    of single labels that are right. `mae`: the mean absolute error, only where all are finite.

    Example:
        >>> metrics_of({"intersection_0": 2, "union_0": 4, "intersection_1": 3, "union_1": 3})
        {'miou': 0.75}
    """
    found = {}
    unions = {n.removeprefix("union_"): u for n, u in counts.items() if n.startswith("union_")}
    if unions:
        shares = [counts[f"intersection_{k}"] / union for k, union in unions.items() if union]
        found["miou"] = fmean(shares) if shares else 0.0
    if counts.get("labels"):
        found["label_acc"] = counts["labels_right"] / counts["labels"]
    if "exact" in counts and counts.get(IMAGES):
        found["exact"] = counts["exact"] / counts[IMAGES]
    if counts.get("finite") and counts["finite"] == counts["answers"]:
        found["mae"] = counts["abs_error"] / counts["answers"]
    return found


def tally(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Tally:
    """Count the images whose largest logit is that of their label; NaN is never right."""
    right = (logits.argmax(1) == labels) & logits.isfinite().all(1)
    return Tally(int(right.sum()), len(labels))
