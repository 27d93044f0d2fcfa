"""What a choice of multipliers costs on an accelerator: what every model of one promises.

Model:  a product takes the energy of its multiplier, `power / characterised_mhz`, and that of an
        adder; a word that moves takes that of a memory. Power is energy over the time of an image.
        The clock is given, or as fast as the slowest multiplier in use and the adders permit.
Source: METHODS B.4, predictors; energy and area of adders and memories at 45 nm: Horowitz,
        "Computing's Energy Problem", ISSCC 2014, as cited from memory: 0.1 pJ and 137 um2 for a
        32-bit addition, 10 pJ for 64 bits of an 8 KB memory.
"""

from abc import abstractmethod
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import BeforeValidator, SerializeAsAny

from bitproof.core.errors import SpecError, shorten
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import NonNegative, Positive
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.units import Choice, LayerShape, Units

FilterTable = Float64[np.ndarray, "filters blocks"]


@dataclass(frozen=True)
class HardwareFigures:
    """What a network takes on an accelerator."""

    power: float
    """Milliwatts, everything that is counted."""
    multiplier_power: float
    """Milliwatts of the multipliers alone."""
    area: float
    """Square micrometres of multipliers, adders and multiplexers."""
    latency: float
    """Milliseconds from an image to its answer."""
    interval: float
    """Milliseconds between two images."""
    energy: float
    """Microjoules for an image."""
    multiplier_energy: float
    """Microjoules for its products alone."""

    def relative_to(self, other: "HardwareFigures") -> "HardwareFigures":
        """Return each figure as a share of another's."""
        return HardwareFigures(
            *(getattr(self, one.name) / getattr(other, one.name) for one in fields(self))
        )


FIGURES = tuple(one.name for one in fields(HardwareFigures))


@dataclass(frozen=True)
class LayerLoad:
    """What one layer asks of the accelerator, for one image."""

    layer: str
    macs: int
    multipliers: int
    cycles: int
    bytes_moved: int
    bound: str
    """What limits it: `compute` or `memory`."""

    @property
    def utilisation(self) -> float:
        """Share of cycles in which a multiplier works."""
        return self.macs / (self.multipliers * self.cycles)

    @property
    def intensity(self) -> float:
        """Products for each byte that moves."""
        return self.macs / self.bytes_moved


class Accelerator(Spec):
    """A machine that runs networks, and what it makes of a choice of multipliers."""

    kind: str
    clock_mhz: Positive | None = 500.0
    """Clock; None: as fast as the slowest multiplier in use permits, so that power depends on the
    speed of multipliers as well."""
    characterised_mhz: Positive = 1000.0
    """Clock at which the power of multipliers was published: their energy for a product is power
    over clock."""
    adder_area_um2: NonNegative = 137.0
    """Area of the adder behind each multiplier."""
    adder_energy_pj: NonNegative = 0.1
    """Energy of an addition."""
    adder_delay_ns: NonNegative = 0.0
    """Added to the multiplier's delay; 0: a register lies between."""
    byte_energy_pj: NonNegative = 1.25
    """Energy of a byte that moves between memory and multipliers."""
    bandwidth: Positive = 16.0
    """Bytes that memory gives in a cycle."""

    @abstractmethod
    def figures(self, units: Units, blocks: MultiplierSet, chosen: Choice) -> HardwareFigures:
        """Return what a choice takes, with everything rounded as hardware does.

        `chosen` is the block of each filter.

        Raises:
            SpecError: a multiplier is too slow for the clock.
        """

    @abstractmethod
    def additive_area(self, units: Units, blocks: MultiplierSet) -> FilterTable:
        """Return area by filter and block, as if it could be cut at will; 0 where it cannot."""

    @abstractmethod
    def load(self, units: Units) -> list[LayerLoad]:
        """Return what each layer asks for: products, cycles, traffic."""

    @property
    @abstractmethod
    def shares_blocks(self) -> bool:
        """Whether all layers run on the same multipliers, so that each kind costs area once."""

    def groups(self, units: Units, harm: Float64[np.ndarray, " units"]) -> Choice:  # noqa: ARG002
        """Return the group of each unit, from 0: units that waste area unless they choose alike.

        `harm` is that of a usual multiplier in each unit: units that bear about as much belong
        together.
        """
        found: Choice = np.arange(units.count)
        return found

    def energy(self, units: Units, blocks: MultiplierSet) -> FilterTable:
        """Return picojoules of the products for one image, by filter and block."""
        power = np.concatenate(
            [np.tile(blocks.power(layer.name), (layer.filters, 1)) for layer in units.layers]
        )
        energy: FilterTable = units.macs[:, None] * (1000 * power / self.characterised_mhz)
        return energy

    def period_ns(self, blocks: MultiplierSet, chosen: Choice) -> float:
        """Return the length of a cycle.

        Raises:
            SpecError: the clock is faster than a multiplier in use, or nothing sets it.
        """
        delays = blocks.costs("delay_ns") + self.adder_delay_ns
        slowest = int(max(set(chosen.tolist()), key=lambda block: delays[block]))
        if self.clock_mhz is None:
            if not delays[slowest] > 0:
                raise SpecError(
                    "clock_mhz: wanted a clock, or multipliers with a delay; "
                    f"{blocks.names[slowest]} has none"
                )
            return float(delays[slowest])
        period = 1000 / self.clock_mhz
        if delays[slowest] > period:
            raise SpecError(
                f"clock_mhz: wanted a period of at least {delays[slowest]:g} ns, which "
                f"{blocks.names[slowest]} takes, got {period:g} ns"
            )
        return period

    def usable(self, blocks: MultiplierSet) -> list[int]:
        """Return the blocks that are fast enough for the clock."""
        if self.clock_mhz is None:
            return list(range(len(blocks)))
        delays = blocks.costs("delay_ns") + self.adder_delay_ns
        return [n for n, delay in enumerate(delays) if delay <= 1000 / self.clock_mhz]

    def _total(
        self,
        units: Units,
        blocks: MultiplierSet,
        chosen: Choice,
        *,
        area: float,
        latency_cycles: float,
        interval_cycles: float,
    ) -> HardwareFigures:
        """Return all figures, given area and cycles."""
        period = self.period_ns(blocks, chosen)
        rows = np.arange(len(chosen))
        products = float(self.energy(units, blocks)[rows, chosen].sum())
        moved = sum(one.bytes_moved for one in self.load(units))
        adders = float(units.macs.sum()) * self.adder_energy_pj
        energy = products + adders + moved * self.byte_energy_pj
        interval = interval_cycles * period  # nanoseconds: pJ over ns is mW
        return HardwareFigures(
            power=energy / interval,
            multiplier_power=products / interval,
            area=area,
            latency=latency_cycles * period * 1e-6,
            interval=interval * 1e-6,
            energy=energy * 1e-6,
            multiplier_energy=products * 1e-6,
        )


ACCELERATORS: Registry[Accelerator] = Registry("accelerators")
AnyAccelerator = Annotated[SerializeAsAny[Accelerator], BeforeValidator(ACCELERATORS.validate)]


def bound_by(cycles: int, bytes_moved: int, bandwidth: float) -> str:
    """Return what limits a layer: its products, or memory."""
    return "memory" if bytes_moved / bandwidth > cycles else "compute"


def check_layer(units: Units, name: str) -> LayerShape:
    """Return the layer of that name.

    Raises:
        SpecError: there is none.
    """
    for layer in units.layers:
        if layer.name == name:
            return layer
    known = ", ".join(layer.name for layer in units.layers)
    raise SpecError(f"folding: no layer {shorten(name)}; wanted some of {known}")
