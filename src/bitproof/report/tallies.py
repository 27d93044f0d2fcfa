"""The log of finished measurements, `tallies.jsonl`, as people know them: by network and threat.

`bitproof.evaluation.TallyStore` writes it and reads it by key; a report needs no keys, nor torch.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from bitproof.core.errors import DataError, shorten


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
    if not path.is_file():
        return ()
    *lines, _torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            one = _MEASUREMENT.validate_python(json.loads(line))
        except (ValueError, RecursionError):
            one = None
        if one is None or one.correct > one.total:
            raise DataError(f"{path}: line {number} is not a measurement: {shorten(line)}")
        if one.total:
            found.append(one)
    return tuple(found)
