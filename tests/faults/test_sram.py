"""Simulated SRAM: against nested loops, against statistics, and as part of an evaluation."""

from itertools import pairwise, product
from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor, nn

from bitproof.core.bits import count_flips
from bitproof.core.errors import SpecError
from bitproof.core.rng import derive_seed, draw_seed, make_generator
from bitproof.data import Dataset
from bitproof.evaluation import IntegerModel, MemoryFaults
from bitproof.faults import FAULTS, Memory, SimulatedSram, corrupt, faulty_codes, sram
from bitproof.faults.sram import CHIP_1, CHIP_2, FaultyCells
from bitproof.faults.table import FLIP, STUCK0, STUCK1
from bitproof.quant import quantize

Stored = dict[str, tuple[Tensor, int]]

DTYPES = {torch.uint8: 8, torch.int8: 8, torch.int16: 16, torch.int32: 32, torch.int64: 64}
SMALL = SimulatedSram(ber=0.3, arrays=2, rows=3, columns=5, column_share=0.6, to_one=0.7)


# The slow, obvious version.


def source(seed: int, use: str) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(derive_seed(seed, "sram", use)))


def slow_thresholds(model: SimulatedSram) -> list[float]:
    n = model.arrays * model.columns
    draws = source(model.chip, "columns")
    part = draws.permutation(n).tolist()
    of_column = [(part[k] + draws.random()) / n for k in range(n)]
    follows, own = source(model.chip, "followers"), source(model.chip, "cells")
    thresholds = []
    for array in range(model.arrays):
        for _row in range(model.rows):
            for column in range(model.columns):
                alone = own.random()
                weak = of_column[array * model.columns + column]
                thresholds.append(weak if follows.random() < model.column_share else alone)
    return thresholds


def slow_corrupt(model: SimulatedSram, stored: Stored, *, seed: int) -> dict[str, list[int]]:
    """Read every bit of every word from its cell."""
    drawn = draw_seed(make_generator(seed))
    size = model.arrays * model.rows * model.columns
    value, steady = source(model.chip, "value"), source(model.chip, "persistence")
    high = [value.random() < model.to_one for _ in range(size)]
    always = [steady.random() < model.persistence for _ in range(size)]
    now = source(drawn, "reads").integers(2, size=size, dtype=bool).tolist()
    errs = [
        u < model.ber and (always[cell] or now[cell])
        for cell, u in enumerate(slow_thresholds(model))
    ]
    cell, read = drawn % size, {}
    for name, (codes, bits) in stored.items():
        words = []
        for code in codes.flatten().tolist():
            word = code & (1 << bits) - 1
            for bit in range(bits):
                if errs[cell]:
                    word = word | 1 << bit if high[cell] else word & ~(1 << bit)
                cell = (cell + 1) % size
            if codes.dtype.is_signed:
                words.append(word - (1 << bits) if word >> bits - 1 else word)
            else:
                words.append(code >> bits << bits | word)
        read[name] = words
    return read


def listed(read: dict[str, Tensor]) -> dict[str, list[int]]:
    return {name: codes.flatten().tolist() for name, codes in read.items()}


@st.composite
def stored_tensors(draw: st.DrawFn) -> Stored:
    stored = {}
    for number in range(draw(st.integers(0, 4))):
        dtype = draw(st.sampled_from(list(DTYPES)))
        bits = draw(st.integers(1, min(DTYPES[dtype], 62)))
        low = -(1 << bits - 1) if dtype.is_signed else 0
        size, generator = draw(st.integers(0, 9)), make_generator(draw(st.integers(0, 99)))
        codes = torch.randint(low, low + (1 << bits), (size,), generator=generator)
        stored[f"t{number}"] = (codes.to(dtype), bits)
    return stored


@st.composite
def models(draw: st.DrawFn) -> SimulatedSram:
    share = st.sampled_from([0.0, 0.3, 0.8, 1.0])
    sizes = [draw(st.integers(1, high)) for high in (3, 6, 9)]
    return SimulatedSram(
        ber=draw(share),
        chip=draw(st.integers(0, 5)),
        arrays=sizes[0],
        rows=sizes[1],
        columns=sizes[2],
        column_share=draw(share),
        to_one=draw(share),
        persistence=draw(share),
    )


@settings(max_examples=150, deadline=None)
@given(model=models(), stored=stored_tensors(), seed=st.integers(0, 2**32))
def test_words_are_those_of_nested_loops_over_arrays_rows_columns_words_and_bits(
    model: SimulatedSram, stored: Stored, seed: int
) -> None:
    read = model.corrupt_all(stored, generator=make_generator(seed))
    assert listed(read) == slow_corrupt(model, stored, seed=seed)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_block_size_does_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.arange(100, dtype=torch.int16)
    whole = SMALL.corrupt(codes, bits=12, generator=make_generator(0))
    monkeypatch.setattr(sram, "BLOCK", block)
    assert torch.equal(whole, SMALL.corrupt(codes, bits=12, generator=make_generator(0)))


def test_a_full_size_chip_equals_the_loops() -> None:
    model = SimulatedSram(ber=0.05, rows=16, column_share=0.5, persistence=0.5)
    codes = torch.randint(0, 256, (6000,), generator=make_generator(0)).to(torch.uint8)
    read = model.corrupt_all({"w": (codes, 8)}, generator=make_generator(1))
    assert listed(read) == slow_corrupt(model, {"w": (codes, 8)}, seed=1)


@pytest.mark.parametrize("stored", [{}, {"w": (torch.empty(0, 3, dtype=torch.int8), 4)}])
def test_an_empty_memory_stays_empty(stored: Stored) -> None:
    read = SMALL.corrupt_all(stored, generator=make_generator(0))
    assert {name: codes.shape for name, codes in read.items()} == {
        name: codes.shape for name, (codes, _) in stored.items()
    }


@pytest.mark.parametrize(
    ("action", "read"), [(FLIP, [0b0110, 0b1001]), (STUCK0, [0, 9]), (STUCK1, [6, 15])]
)
def test_a_cell_flips_or_reads_one_value(action: int, read: list[int]) -> None:
    memory = Memory.of({"w": (torch.tensor([0b0000, 0b1111], dtype=torch.uint8), 4)})
    cells = np.array([1, 2, 5, 6])
    FaultyCells(8, cells, np.full(4, action, np.uint8)).break_(memory, offset=0)
    assert memory.codes.tolist() == read


# Which cells are faulty.


def small_chips(count: int, *, column_share: float) -> np.ndarray:
    """Return the thresholds of many chips: chip, row, column."""
    return np.stack(
        [
            SimulatedSram(ber=0.1, chip=k, arrays=1, rows=3, columns=4, column_share=column_share)
            .thresholds()
            .reshape(3, 4)
            for k in range(count)
        ]
    )


@pytest.mark.parametrize("column_share", [0.0, 0.5, 1.0])
def test_the_threshold_of_each_cell_is_uniform(column_share: float) -> None:
    chips = small_chips(1500, column_share=column_share)
    for row, column in product(range(3), range(4)):
        assert kstest(chips[:, row, column], "uniform").pvalue > 1e-6


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("column_share", [0.0, 0.5, 1.0])
def test_cells_of_a_column_fail_together_as_often_as_derived(column_share: float, p: float) -> None:
    faulty = small_chips(1500, column_share=column_share) < p
    both = (faulty[:, 0] & faulty[:, 1]).sum()
    rate, n = column_share**2 * p + (1 - column_share**2) * p**2, 1500 * 4
    assert abs(both - n * rate) < 5 * sqrt(n * rate * (1 - rate))


@pytest.mark.parametrize("ber", [1e-4, 1e-3, 0.01, 0.2])
@pytest.mark.parametrize("column_share", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("chip", [1, 2])
def test_share_of_faulty_cells_is_ber_on_each_chip(
    ber: float, column_share: float, chip: int
) -> None:
    model = SimulatedSram(ber=ber, chip=chip, column_share=column_share)
    found, n = len(model.faulty_cells().cells), model.n_cells
    one_column = model.rows * column_share  # the last weak column is weak, or it is not
    assert abs(found - n * ber) <= 3 * sqrt(n * ber * (1 - ber)) + one_column


def test_column_share_of_the_faulty_cells_lies_in_weak_columns() -> None:
    model = SimulatedSram(ber=0.02, column_share=0.75)
    faulty = (model.thresholds() < model.ber).reshape(32, 512, 64)
    weak = faulty.mean(axis=1) > 0.5  # one array's column
    assert abs(weak.sum() - 0.02 * 32 * 64) <= 1
    aligned, n = (faulty & weak[:, None]).sum(), faulty.sum()
    expected = 0.75 + 0.25 * 0.02  # a weak column also holds cells that fail by themselves
    assert abs(aligned - n * expected) < 5 * sqrt(n * 0.25) + 512


def test_faults_without_column_share_are_spread_evenly() -> None:
    faulty = (CHIP_1.thresholds() < 0.02).reshape(32, 512, 64)
    expected = 512 * 0.02
    assert abs(faulty.sum(axis=1) - expected).max() < 6 * sqrt(expected)


@settings(max_examples=40, deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), chip=st.integers(0, 3))
def test_faulty_cells_nest_in_ber(low: float, high: float, chip: int) -> None:
    low, high = sorted((low, high))
    few, many = (
        {(int(cell), int(action)) for cell, action in zip(found.cells, found.actions, strict=True)}
        for found in (
            SimulatedSram(ber=ber, chip=chip, rows=4, column_share=0.5).faulty_cells()
            for ber in (low, high)
        )
    )
    assert few <= many


@pytest.mark.parametrize("persistence", [1.0, 0.4])
def test_wrong_bits_nest_in_ber(persistence: float) -> None:
    model = CHIP_2.model_copy(update={"persistence": persistence})
    codes = torch.randint(0, 256, (300_000,), generator=make_generator(0)).to(torch.uint8)
    changes = [
        model.at(ber).corrupt(codes, bits=8, generator=make_generator(1)) ^ codes
        for ber in (0.0, 1e-4, 1e-3, 0.01, 0.3)
    ]
    assert all(torch.equal(few & many, few) for few, many in pairwise(changes))
    assert count_flips(changes[1], changes[4], bits=8) > 0


def test_nothing_is_faulty_at_ber_0_and_everything_at_ber_1() -> None:
    assert len(SimulatedSram(ber=0.0).faulty_cells().cells) == 0
    assert len(SimulatedSram(ber=1.0, column_share=0.5).faulty_cells().cells) == 2**20


def test_chips_differ_and_each_stays_the_same() -> None:
    first, second = (SimulatedSram(ber=0.1, chip=chip).thresholds() for chip in (0, 1))
    assert not np.isin(first, second).any()
    sram._thresholds.cache_clear()
    assert np.array_equal(first, SimulatedSram(ber=0.1, to_one=0.9).thresholds())


def test_shared_arrays_cannot_be_changed() -> None:
    found = SMALL.faulty_cells()
    for array in (SMALL.thresholds(), found.cells, found.actions):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# What they read.


@pytest.mark.parametrize("to_one", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_direction_decides_which_stored_values_suffer(to_one: float) -> None:
    model = SimulatedSram(ber=0.05, to_one=to_one)
    n = 8 * 100_000
    for stored, share in ((0, to_one), (255, 1 - to_one)):
        codes = torch.full((100_000,), stored, dtype=torch.uint8)
        read = model.corrupt(codes, bits=8, generator=make_generator(1))
        rate = 0.05 * share
        wrong = count_flips(codes, read, bits=8)
        assert abs(wrong - n * rate) <= 3 * sqrt(n * rate * (1 - rate))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("ber", [1e-3, 0.01, 0.1])
@pytest.mark.parametrize("persistence", [1.0, 0.4])
def test_rate_of_wrong_bits_in_random_words(bits: int, ber: float, persistence: float) -> None:
    model = SimulatedSram(ber=ber, chip=3, persistence=persistence)
    shape = (model.n_cells // bits,)  # every cell holds one bit
    codes = torch.randint(0, 1 << bits, shape, generator=make_generator(0)).to(torch.uint8)
    read = model.corrupt(codes, bits=bits, generator=make_generator(1))
    rate, n = ber / 2 * (1 + persistence) / 2, model.n_cells
    assert abs(count_flips(codes, read, bits=bits) - n * rate) < 3 * sqrt(n * rate * (1 - rate))


def test_cells_that_are_not_persistent_err_in_half_of_the_draws() -> None:
    model = SimulatedSram(ber=1.0, to_one=1.0, persistence=0.25, arrays=1, rows=20, columns=10)
    clean, draws = torch.zeros(200, dtype=torch.uint8), 400
    errors = torch.zeros(200)
    for trial in range(draws):
        generator = make_generator(trial)
        start = draw_seed(make_generator(trial)) % 200
        errors += model.corrupt(clean, bits=1, generator=generator).roll(start)
    persistent = errors == draws
    assert 25 < int(persistent.sum()) < 75
    assert (errors[~persistent] / draws - 0.5).abs().max() < 5 * 0.5 / sqrt(draws)


# Where words lie.


def test_a_draw_moves_the_network_on_the_same_silicon() -> None:
    model = SimulatedSram(ber=0.3, to_one=1.0, arrays=2, rows=5, columns=10)
    clean = torch.zeros(100, dtype=torch.uint8)
    reads = []
    for trial in range(20):
        start = draw_seed(make_generator(trial)) % 100
        read = model.corrupt(clean, bits=1, generator=make_generator(trial))
        reads.append(read.roll(start).tolist())
    faulty = (model.thresholds() < 0.3).astype(int).tolist()
    assert reads == [faulty] * 20


def test_a_network_larger_than_the_memory_meets_each_cell_again() -> None:
    model = SimulatedSram(ber=0.3, to_one=1.0, arrays=1, rows=6, columns=8)
    read = model.corrupt(torch.zeros(30, dtype=torch.uint8), bits=8, generator=make_generator(0))
    assert torch.equal(read[:24], read[6:])
    assert read.any()


def test_words_wider_or_narrower_take_the_cells_that_they_need() -> None:
    zeros = torch.zeros(12, dtype=torch.uint8)
    apart = SMALL.corrupt_all(
        {"a": (zeros[:5], 3), "b": (zeros[:6].int(), 20), "c": (zeros[:1], 2)},
        generator=make_generator(1),
    )
    # The same bits one after another, in one-bit words.
    single = SMALL.corrupt(torch.zeros(137, dtype=torch.uint8), bits=1, generator=make_generator(1))
    digits = [
        code >> bit & 1
        for name, bits in (("a", 3), ("b", 20), ("c", 2))
        for code in apart[name].tolist()
        for bit in range(bits)
    ]
    # The top bit of a signed word is its sign; shifting an int keeps it.
    assert digits == single.tolist()


def test_generator_advances_by_one_draw_whatever_ber_is() -> None:
    reference = make_generator(8)
    draw_seed(reference)
    for ber in (0.0, 0.01, 1.0):
        used = make_generator(8)
        SMALL.at(ber).corrupt(torch.zeros(9, dtype=torch.uint8), bits=8, generator=used)
        assert torch.equal(used.get_state(), reference.get_state())


# As a component.


def test_a_table_and_a_call_build_equal_models() -> None:
    table = {"kind": "simulated_sram", "ber": 0.01, "chip": 4, "column_share": 0.5}
    assert FAULTS.build(table) == SimulatedSram(ber=0.01, chip=4, column_share=0.5)


@pytest.mark.parametrize("field", ["ber", "column_share", "to_one", "persistence"])
def test_a_share_above_1_is_refused(field: str) -> None:
    with pytest.raises(SpecError, match=rf"{field}: should be less than or equal to 1, got 1\.5"):
        SimulatedSram.from_table({"ber": 0.1, field: 1.5})


def test_a_chip_too_large_for_this_computer_is_refused() -> None:
    with pytest.raises(SpecError, match="wanted at most 268435456 cells in all, got 2048000000"):
        SimulatedSram.from_table({"ber": 0.1, "rows": 1_000_000})


def test_the_two_chips_are_as_described() -> None:
    assert (CHIP_1.column_share, CHIP_1.to_one) == (0.0, 0.5)
    assert CHIP_2.column_share > 0.5
    assert CHIP_2.to_one > 0.5
    assert CHIP_1.label.at(0.0086) == "Simulated SRAM, chip 1 at BER = 8.6×10⁻³"


def network() -> IntegerModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 5))
    return IntegerModel(quantize(model, torch.rand(12, 1, 8, 8, generator=make_generator(0))))


def test_faulty_codes_are_those_of_corrupt() -> None:
    clean = network().network
    stored = {name: tensor for name, tensor in clean.tensors.items() if "weight" in name}
    fault = CHIP_2.at(0.1)
    codes = faulty_codes(stored, fault, generator=make_generator(1))
    broken = corrupt(clean, fault, generator=make_generator(1), sites=("weight",))
    assert all(torch.equal(codes[name], broken.tensors[name].codes) for name in stored)
    assert any(not torch.equal(codes[name], stored[name].codes) for name in stored)


def test_an_evaluation_sweeps_the_rate() -> None:
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=make_generator(1)).to(torch.uint8)
    model = network()
    labels = model.predict(images / 255).argmax(1)
    data = Dataset.from_arrays(images, labels, name="own answers", n_classes=5)
    threat = MemoryFaults(fault=CHIP_1, levels=(1e-9, 0.5), chips=4, sites=("weight", "activation"))
    right = [
        [threat.measure(model, data, level=level, trial=trial, seed=0).correct for trial in (0, 1)]
        for level in threat.levels
    ]
    assert right[0] == [40, 40]
    assert max(right[1]) < 40
    assert right[1][0] != right[1][1]
