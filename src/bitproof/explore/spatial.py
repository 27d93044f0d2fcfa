"""A dataflow accelerator: each layer has an engine of its own, and all work at the same time.

Model:  the engine of a layer has PE processing elements with SIMD multipliers each. A processing
        element works out one filter after the other, SIMD products in a cycle; so a layer takes
        ceil(filters / PE) * ceil(taps / SIMD) * places cycles for an image. All multipliers of a
        processing element are of one kind: where filters differ, they are sorted to elements by
        kind, and each kind takes whole elements. Weights stay in the engines. A new image starts
        when the slowest engine is done with the last one; latency is the sum of all engines, as
        if none began before the one in front of it has finished.
Source: METHODS B.4; Umuroglu et al., "FINN", FPGA 2017 (engines, folding).
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from bitproof.core.spec import Spec
from bitproof.core.types import Count
from bitproof.explore.accelerator import (
    ACCELERATORS,
    Accelerator,
    FilterTable,
    HardwareFigures,
    LayerLoad,
    bound_by,
    check_layer,
)
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.units import Choice, LayerShape, Units


class Folding(Spec):
    """The size of one engine.

    Example:
        >>> Folding(pe=4, simd=8).multipliers
        32
    """

    pe: Count
    """Processing elements; each works on a filter."""
    simd: Count
    """Multipliers of each."""

    @property
    def multipliers(self) -> int:
        """Multipliers of the engine."""
        return self.pe * self.simd

    def filters_of_element(self, layer: LayerShape) -> int:
        """Return how many filters one element works out, one after the other."""
        return -(-layer.filters // self.pe)

    def cycles(self, layer: LayerShape) -> int:
        """Return the cycles of one image."""
        return self.filters_of_element(layer) * -(-layer.taps // self.simd) * layer.places


@ACCELERATORS.register
class Spatial(Accelerator):
    """One engine for each layer, folded so that all take about as long.

    Example:
        >>> Spatial(multipliers=64, folding={"fc": Folding(pe=2, simd=8)}).shares_blocks
        False
    """

    kind: Literal["spatial"] = "spatial"
    multipliers: Count = 256
    """Multipliers of all engines that are not in `folding`, at most; at least one for each."""
    folding: dict[str, Folding] = Field(default_factory=dict)
    """Engines of single layers, by name."""

    @property
    def shares_blocks(self) -> bool:
        """Return that layers have multipliers of their own."""
        return False

    def engines(self, units: Units) -> dict[str, Folding]:
        """Return the engine of each layer.

        Raises:
            SpecError: `folding` names a layer that is not there.
        """
        for name in self.folding:
            check_layer(units, name)
        left = tuple(layer for layer in units.layers if layer.name not in self.folding)
        balanced = _balanced(left, self.multipliers)
        return {
            layer.name: self.folding.get(layer.name) or balanced[layer.name]
            for layer in units.layers
        }

    def figures(self, units: Units, blocks: MultiplierSet, chosen: Choice) -> HardwareFigures:
        """Return what a choice takes; each kind of multiplier takes whole elements."""
        engines, areas = self.engines(units), blocks.costs("area_um2") + self.adder_area_um2
        area = 0.0
        for layer, first in zip(units.layers, units.starts, strict=False):
            engine = engines[layer.name]
            own = chosen[first : first + layer.filters]
            counts = np.bincount(own, minlength=len(blocks))
            elements = -(-counts // engine.filters_of_element(layer))
            area += float((elements * engine.simd) @ areas)
        cycles = [engines[layer.name].cycles(layer) for layer in units.layers]
        return self._total(
            units,
            blocks,
            chosen,
            area=area,
            latency_cycles=float(sum(cycles)),
            interval_cycles=float(max(cycles)),
        )

    def additive_area(self, units: Units, blocks: MultiplierSet) -> FilterTable:
        """Return the share of its engine that each filter takes."""
        engines, areas = self.engines(units), blocks.costs("area_um2") + self.adder_area_um2
        shares = [
            np.full(layer.filters, engines[layer.name].multipliers / layer.filters)
            for layer in units.layers
        ]
        return np.concatenate(shares)[:, None] * areas

    def groups(self, units: Units, harm: Float64[np.ndarray, " units"]) -> Choice:
        """Return the element of each filter: those that bear about as much share one."""
        found: Choice = np.arange(units.count)
        if units.granularity != "filter":
            return found
        engines, count = self.engines(units), 0
        for layer, first in zip(units.layers, units.starts, strict=False):
            own = units.unit_of[first : first + layer.filters]
            if own[0] < 0:
                continue
            full = engines[layer.name].filters_of_element(layer)
            order = own[np.argsort(harm[own], kind="stable")]
            found[order] = count + np.arange(len(order)) // full
            count += -(-len(order) // full)
        return found

    def load(self, units: Units) -> list[LayerLoad]:
        """Return what each layer asks for; activations move once, weights not at all."""
        engines = self.engines(units)
        found = []
        for layer in units.layers:
            engine, moved = engines[layer.name], layer.words_in + layer.words_out
            cycles = engine.cycles(layer)
            bound = bound_by(cycles, moved, self.bandwidth)
            found.append(
                LayerLoad(layer.name, layer.macs, engine.multipliers, cycles, moved, bound)
            )
        return found


@lru_cache(maxsize=16)
def _balanced(layers: tuple[LayerShape, ...], multipliers: int) -> dict[str, Folding]:
    """Return the engines with the shortest interval that take no more multipliers."""
    if not layers:
        return {}
    low, high = 1, max(layer.macs for layer in layers)
    while low < high:
        middle = (low + high) // 2
        if sum(_smallest(layer, middle).multipliers for layer in layers) <= multipliers:
            high = middle
        else:
            low = middle + 1
    return {layer.name: _smallest(layer, high) for layer in layers}


@lru_cache(maxsize=100_000)
def _smallest(layer: LayerShape, cycles: int) -> Folding:
    """Return the smallest engine that is fast enough: PE divides filters, and SIMD taps."""
    choices = [
        Folding.model_construct(pe=pe, simd=simd)
        for pe in _divisors(layer.filters)
        for simd in _divisors(layer.taps)
    ]
    able = [engine for engine in choices if engine.cycles(layer) <= cycles]
    if not able:
        return Folding(pe=layer.filters, simd=layer.taps)
    # Of equals that with fewer elements, whose multipliers of one kind are more.
    return min(able, key=lambda engine: (engine.multipliers, engine.pe))


@lru_cache(maxsize=4096)
def _divisors(number: int) -> tuple[int, ...]:
    return tuple(n for n in range(1, number + 1) if number % n == 0)
