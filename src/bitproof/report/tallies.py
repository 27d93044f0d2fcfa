"""The log of finished measurements, `tallies.jsonl`, as people know them: by network and threat.

`bitproof.evaluation.TallyStore` writes it and reads it by key; a report needs no keys, nor torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from bitproof.core.flags import unpack_right
from bitproof.core.json_lines import JsonLines


@dataclass(frozen=True)
class Measurement:
    """How many images one network got right in one trial.

    Example:
        >>> Measurement("s1", "random_flips", 0.01, trial=3, correct=90, total=100).acc
        0.9
    """

    variant: str
    """The network it was made on; others with the same digest share it."""
    threat: str
    level: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    trial: Annotated[int, Field(ge=0)]
    correct: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=0)]
    reference: bool = False
    """Whether it counts clean images to stand beside a threat that takes only these."""
    right: bytes | None = None
    """Which images were right, a byte 1 or 0 each, in the order of the data; None: not kept."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """What it took; 0: nobody looked at the clock."""

    @property
    def acc(self) -> float:
        """Accuracy, as a fraction."""
        return self.correct / self.total


_MEASUREMENT = TypeAdapter(Measurement)


def read_tallies(path: Path) -> tuple[Measurement, ...]:
    """Return all finished measurements; none where there is no log, nor from a torn last line.

    Those that counted no image are left out: a threat had nothing to measure on that network.

    Raises:
        DataError: a line is no measurement.
    """
    return tuple(one for one in JsonLines(path).read(_parsed) if one.total)


def _parsed(entry: dict[str, Any]) -> Measurement:
    entry = dict(entry)
    packed = entry.pop("right", None)
    one = _MEASUREMENT.validate_python(entry)
    if one.correct > one.total:
        raise ValueError("more right than there are")
    return replace(one, right=unpack_right(packed, one.correct, one.total))
