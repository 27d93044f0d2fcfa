"""No threat: accuracy on clean images and a network without faults."""

from typing import Literal

from bitproof.core.types import Count
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel
from bitproof.evaluation.threat import THREATS, Threat, count, first
from bitproof.metrics import Tally
from bitproof.stats.threats import ThreatLabel


@THREATS.register
class Clean(Threat):
    """Classify clean images.

    Example:
        >>> Clean(images=1000).title
        'clean'
    """

    kind: Literal["clean"] = "clean"
    images: Count | None = None
    """Test images, the first ones; None: all."""

    @property
    def label(self) -> ThreatLabel:
        """Return that it is none."""
        return ThreatLabel("none", "Clean")

    def measure(
        self,
        model: EvaluatedModel,
        data: Dataset,
        *,
        level: float,  # noqa: ARG002
        trial: int,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Tally:
        """Return how many clean images are classified right."""
        return count(model.predict, first(data, self.images))
