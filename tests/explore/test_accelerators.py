import numpy as np
import pytest

from bitproof.core.errors import SpecError
from bitproof.explore import Folding, LayerShape, MultiplierSet, Spatial, Temporal, Units

LAYERS = (
    LayerShape("conv", "conv", filters=8, taps=9, places=16, groups=1, weights=72, words_in=64,
               words_out=128),
    LayerShape("fc", "linear", filters=6, taps=128, places=1, groups=1, weights=768, words_in=128,
               words_out=6),
)  # fmt: skip
UNITS = Units(LAYERS, "filter", ("conv", "fc"))
BARE = {"adder_area_um2": 0.0, "adder_energy_pj": 0.0, "byte_energy_pj": 0.0}
EXACT = np.zeros(14, np.int64)


def test_engines_are_counted_by_hand(blocks: MultiplierSet) -> None:
    engines = {"conv": Folding(pe=4, simd=3), "fc": Folding(pe=2, simd=16)}
    machine = Spatial(folding=engines, clock_mhz=100.0, **BARE)
    loads = {one.layer: one for one in machine.load(UNITS)}
    assert loads["conv"].cycles == 2 * 3 * 16
    assert loads["fc"].cycles == 3 * 8
    assert loads["conv"].utilisation == 1.0
    figures = machine.figures(UNITS, blocks, EXACT)
    macs = 8 * 9 * 16 + 6 * 128
    assert figures.area == (12 + 32) * 700
    assert figures.latency == pytest.approx((96 + 24) * 10e-6)
    assert figures.interval == pytest.approx(96 * 10e-6)
    assert figures.energy == pytest.approx(macs * 0.4e-6)  # 0.4 mW at 1 GHz: 0.4 pJ
    assert figures.power == pytest.approx(macs * 0.4 / (96 * 10))


def test_each_kind_takes_whole_elements(blocks: MultiplierSet) -> None:
    machine = Spatial(folding={"conv": Folding(pe=4, simd=3), "fc": Folding(pe=2, simd=16)}, **BARE)
    chosen = EXACT.copy()
    chosen[:3] = 2  # three of eight filters, two to an element: two elements, and three exact ones
    figures = machine.figures(UNITS, blocks, chosen)
    assert figures.area == 3 * (2 * 300 + 3 * 700) + 32 * 700
    added = machine.additive_area(UNITS, blocks)[np.arange(14), chosen].sum()
    assert added == pytest.approx(12 * (3 * 300 + 5 * 700) / 8 + 32 * 700)


def test_filters_that_bear_as_much_share_an_element() -> None:
    machine = Spatial(folding={"conv": Folding(pe=4, simd=3), "fc": Folding(pe=2, simd=16)}, **BARE)
    harm = np.array([8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 4.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = machine.groups(UNITS, harm)
    assert found.tolist() == [3, 0, 3, 0, 2, 1, 2, 1, 4, 4, 4, 5, 5, 5]
    assert Temporal().groups(UNITS, harm).tolist() == list(range(14))


def test_engines_are_balanced_within_the_multipliers_there_are() -> None:
    machine = Spatial(multipliers=40)
    engines = machine.engines(UNITS)
    assert sum(own.multipliers for own in engines.values()) <= 40
    for layer in LAYERS:
        assert layer.filters % engines[layer.name].pe == 0
        assert layer.taps % engines[layer.name].simd == 0
    slowest = max(one.cycles for one in machine.load(UNITS))
    more = Spatial(multipliers=80)
    assert max(one.cycles for one in more.load(UNITS)) < slowest
    fixed = Spatial(multipliers=40, folding={"fc": Folding(pe=6, simd=128)})
    assert fixed.engines(UNITS)["fc"].multipliers == 768


def test_each_kind_costs_area_once_on_an_array(blocks: MultiplierSet) -> None:
    machine = Temporal(rows=4, columns=4, mux_area_um2=10.0, **BARE)
    assert machine.figures(UNITS, blocks, EXACT).area == 16 * 700
    chosen = EXACT.copy()
    chosen[0] = 2
    assert machine.figures(UNITS, blocks, chosen).area == 16 * (700 + 300 + 10)
    chosen[:] = 2
    assert machine.figures(UNITS, blocks, chosen).area == 16 * 300
    assert not machine.additive_area(UNITS, blocks).any()


def test_cycles_of_an_array_are_those_of_its_tiles() -> None:
    machine = Temporal(rows=4, columns=4)
    loads = {one.layer: one for one in machine.load(UNITS)}
    assert loads["conv"].cycles == 3 * 2 * (4 + 16 + 4 + 4 - 2)
    assert loads["fc"].cycles == 32 * 2 * (4 + 1 + 4 + 4 - 2)
    assert loads["conv"].bytes_moved == 72 + 2 * 64 + 128


def test_cycles_of_tiles_equal_a_systolic_array_stepped_cycle_by_cycle() -> None:
    """Skewed inputs enter a loaded tile; the last sum leaves after places + rows + columns - 2."""
    rows, columns, places = 3, 5, 7
    left_at = [
        [place + row + column for column in range(columns)]
        for place in range(places)
        for row in [rows - 1]
    ]
    last = max(max(own) for own in left_at) + 1
    layer = LayerShape("l", "conv", columns, rows, places, 1, 15, 21, 35)
    machine = Temporal(rows=rows, columns=columns)
    (load,) = machine.load(Units((layer,), "layer", ("l",)))
    assert load.cycles == rows + last


def test_lanes_of_other_multipliers_wait_for_each_other(blocks: MultiplierSet) -> None:
    machine = Temporal(rows=8, columns=8, dataflow="lanes", clock_mhz=500.0, **BARE)
    alike = machine.figures(UNITS, blocks, EXACT).latency
    chosen = EXACT.copy()
    chosen[:5] = 2  # 80 and 48 outputs: two steps and one, in the place of two
    mixed = machine.figures(UNITS, blocks, chosen).latency
    assert alike == pytest.approx((2 * 9 + 1 * 128) * 2e-6)
    assert mixed == pytest.approx((3 * 9 + 1 * 128) * 2e-6)


def test_slow_multipliers_set_the_clock_or_are_refused(blocks: MultiplierSet) -> None:
    free = Temporal(clock_mhz=None)
    slow = free.figures(UNITS, blocks, EXACT).latency
    fast = free.figures(UNITS, blocks, np.full(14, 2)).latency
    assert fast / slow == pytest.approx(1.2 / 1.5)
    tight = Temporal(clock_mhz=700.0)
    assert tight.usable(blocks) == [1, 2]
    with pytest.raises(SpecError, match=r"at least 1.5 ns, which exact takes, got 1.42857 ns"):
        tight.figures(UNITS, blocks, EXACT)


def test_what_limits_a_layer_is_told() -> None:
    machine = Temporal(rows=4, columns=4, bandwidth=1.0)
    bounds = {one.layer: one.bound for one in machine.load(UNITS)}
    assert bounds == {"conv": "memory", "fc": "memory"}
    assert {one.bound for one in Temporal(bandwidth=64.0).load(UNITS)} == {"compute"}


def test_engines_of_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(SpecError, match="folding: no layer 'cnv'; wanted some of conv, fc"):
        Spatial(folding={"cnv": Folding(pe=1, simd=1)}).engines(UNITS)
