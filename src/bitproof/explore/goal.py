"""What a search is after: the least cost at a drop of accuracy, or the best accuracy in limits."""

from typing import Annotated

from pydantic import Field, model_validator

from bitproof.core.errors import shorten
from bitproof.core.spec import Spec
from bitproof.core.types import Fraction, Positive
from bitproof.explore.accelerator import FIGURES


class Goal(Spec):
    """What a search is after.

    Example:
        >>> Goal(minimize={"power": 1.0, "area": 0.5}, max_drop=0.02).limits
        {}
    """

    minimize: Annotated[dict[str, Positive], Field(min_length=1)] = Field(
        default_factory=lambda: {"power": 1.0}
    )
    """Weights of figures, each relative to exact products: power, multiplier_power, area, latency,
    interval, energy, multiplier_energy."""
    max_drop: Fraction | None = 0.01
    """Accuracy that a choice may lose, as a fraction; None: the best accuracy within `limits`."""
    limits: dict[str, Positive] = Field(default_factory=dict)
    """Largest figures, relative to exact products."""

    @model_validator(mode="after")
    def _check(self) -> "Goal":
        for name in (*self.minimize, *self.limits):
            if name not in FIGURES:
                raise ValueError(f"wanted one of {', '.join(FIGURES)}, got {shorten(name)}")
        if self.max_drop is None and not self.limits:
            raise ValueError("limits: wanted one where max_drop is none")
        return self
