"""How far an integer network is from the float network it was made of, as plain data.

Model:  the signal-to-quantization-noise ratio is `10 log10(sum x**2 / sum (x - y)**2)` with `x` the
        float network's and `y` the integer network's output, over some calibration images.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

LEAST_DB, LEAST_AGREEMENT = 15.0, 0.9
"""Below one of them, `Fidelity.warning` says so."""
MOST_DB = 200.0
"""Stands for outputs without any error; minus as much, for errors without any signal."""
NAMED = 3
"""Layers that a warning names."""
REMEDIES = (
    "per-channel weights and int32 biases (preset 'accurate'), equalize = true, bias_correction = "
    "true, 'relative_mse' or 'percentile' calibration, more calibration images, more bits"
)


@dataclass(frozen=True)
class LayerFidelity:
    """What quantization does to the output of one node."""

    name: str
    op: str
    sqnr_db: float
    """Of its output in the integer network, with the errors of all nodes before it."""
    own_sqnr_db: float
    """Of its output where it reads what the float network gives, put on the grids that it reads:
    the error of its own words and grids alone."""


@dataclass(frozen=True)
class Fidelity:
    """What quantization does to the outputs and to each layer.

    Example:
        >>> layer = LayerFidelity("conv1", "conv", 12.0, 14.0)
        >>> found = Fidelity(images=256, sqnr_db=11.5, agreement=0.875, layers=(layer,))
        >>> found.line
        'integers against floats on 256 calibration images: 87.5 % same answers, 11.5 dB'
        >>> Fidelity.from_dict(found.to_dict()) == found
        True
    """

    images: int
    """Calibration images compared."""
    sqnr_db: float
    """Of the outputs."""
    agreement: float
    """Share of the answers that are the same, as a fraction: the largest of several outputs along
    the first axis behind the images, or the sign of a single one."""
    layers: tuple[LayerFidelity, ...] = ()
    """Nodes that compute, in order of execution."""

    @property
    def line(self) -> str:
        """Agreement and signal-to-noise ratio in words."""
        return (
            f"integers against floats on {self.images} calibration images: "
            f"{100 * self.agreement:.1f} % same answers, {self.sqnr_db:.1f} dB"
        )

    @property
    def worst(self) -> tuple[LayerFidelity, ...]:
        """Layers by the error of their own, the largest first."""
        return tuple(sorted(self.layers, key=lambda layer: layer.own_sqnr_db))

    @property
    def warning(self) -> str:
        """What is wrong, where it arises and what usually helps; empty where all is well."""
        if self.sqnr_db >= LEAST_DB and self.agreement >= LEAST_AGREEMENT:
            return ""
        layers = (f"{layer.name} ({layer.own_sqnr_db:.1f} dB)" for layer in self.worst[:NAMED])
        return (
            f"{self.line} (wanted {LEAST_DB:g} dB and {100 * LEAST_AGREEMENT:g} %); most error "
            f"arises in {', '.join(layers)}; what usually helps: {REMEDIES}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Fidelity":
        """Return what `to_dict` gave."""
        layers = tuple(LayerFidelity(**layer) for layer in table["layers"])
        return cls(**{**table, "layers": layers})


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two sums of squares in dB, to two decimals.

    Example:
        >>> decibels(1.0, 0.1), decibels(1.0, 0.0), decibels(0.0, 0.0), decibels(0.0, 1.0)
        (10.0, 200.0, 200.0, -200.0)
    """
    if noise <= 0:
        return MOST_DB
    ratio = 10 * math.log10(signal / noise) if signal > 0 else -MOST_DB
    return round(min(max(ratio, -MOST_DB), MOST_DB), 2)
