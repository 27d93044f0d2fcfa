"""An accelerator that all layers share, one after the other: an array, or the lanes of a soft GPU.

Model:  every place of the array has one multiplier of each kind that is used anywhere, and a
        multiplexer between them; so each distinct kind costs its area once, whatever part of the
        network uses it, and idle ones take no power. `weight_stationary`: taps lie in rows and
        filters in columns; a tile of weights is loaded, and the places of an image pass by.
        `lanes`: each lane works out one output, product by product; lanes run in lockstep, so
        that outputs of different multipliers go one after the other.
Source: METHODS B.4; Jouppi et al., ISCA 2017 (weight-stationary arrays); multiplexer: 16 cells of
        1.862 um2 (MUX2_X1 of the NanGate 45 nm library).
"""

from typing import Literal

import numpy as np
from jaxtyping import Int64

from bitproof.core.types import Count, NonNegative
from bitproof.explore.accelerator import (
    ACCELERATORS,
    Accelerator,
    FilterTable,
    HardwareFigures,
    LayerLoad,
    bound_by,
)
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.units import Choice, LayerShape, Units


@ACCELERATORS.register
class Temporal(Accelerator):
    """One array of multipliers for all layers.

    Example:
        >>> Temporal(rows=8, columns=8).places
        64
    """

    kind: Literal["temporal"] = "temporal"
    rows: Count = 16
    """Rows of the array."""
    columns: Count = 16
    """Columns of the array."""
    dataflow: Literal["weight_stationary", "lanes"] = "weight_stationary"
    """How layers are put on it: a systolic array, or the lanes of a soft GPU."""
    mux_area_um2: NonNegative = 29.8
    """Area of a multiplexer between two products, for each kind of multiplier but the first."""

    @property
    def places(self) -> int:
        """Places with a multiplier of each kind."""
        return self.rows * self.columns

    @property
    def shares_blocks(self) -> bool:
        """Return that layers share their multipliers."""
        return True

    def figures(self, units: Units, blocks: MultiplierSet, chosen: Choice) -> HardwareFigures:
        """Return what a choice takes; each kind that is used anywhere costs area once."""
        used = sorted(set(chosen.tolist()))
        areas = blocks.costs("area_um2")
        place = float(areas[used].sum()) + (len(used) - 1) * self.mux_area_um2
        cycles = sum(
            self._cycles(layer, np.bincount(chosen[first : first + layer.filters]))
            for layer, first in zip(units.layers, units.starts, strict=False)
        )
        return self._total(
            units,
            blocks,
            chosen,
            area=self.places * (place + self.adder_area_um2),
            latency_cycles=float(cycles),
            interval_cycles=float(cycles),
        )

    def additive_area(self, units: Units, blocks: MultiplierSet) -> FilterTable:
        """Return zeros: area follows the kinds that are used, not the filters that use them."""
        return np.zeros((units.starts[-1], len(blocks)))

    def load(self, units: Units) -> list[LayerLoad]:
        """Return what each layer asks for, all of one multiplier; weights are read once."""
        found = []
        for layer in units.layers:
            cycles = self._cycles(layer, np.array([layer.filters]))
            again = self._readings(layer)
            moved = layer.weights + again * layer.words_in + layer.words_out
            bound = bound_by(cycles, moved, self.bandwidth)
            found.append(LayerLoad(layer.name, layer.macs, self.places, cycles, moved, bound))
        return found

    def _cycles(self, layer: LayerShape, counts: Int64[np.ndarray, " kinds"]) -> int:
        """Return the cycles of one image, of a layer with so many filters of each kind."""
        if self.dataflow == "lanes":
            steps = -(-counts * layer.places // self.places)
            return int(steps.sum()) * layer.taps
        # Loading a tile takes a cycle for each row; the last sum leaves at the far corner.
        tile = self.rows + layer.places + self.rows + self.columns - 2
        tiles = -(-layer.taps // self.rows) * -(-(layer.filters // layer.groups) // self.columns)
        return layer.groups * tiles * tile

    def _readings(self, layer: LayerShape) -> int:
        """Return how often the input of a layer is read."""
        if self.dataflow == "lanes":
            return 1
        return -(-(layer.filters // layer.groups) // self.columns)
