from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.core.errors import DataError, StoppedError
from bitproof.core.stop_request import StopRequest
from bitproof.data import Dataset, Splits
from bitproof.evaluation import Clean, Evaluation, MemoryFaults, Processes
from bitproof.explore import CountStore, Emulator, Measuring, MultiplierSet, units_of
from bitproof.explore.units import Granularity
from bitproof.quant import IntegerNetwork

SMALL = Evaluation(threats=(Clean(), MemoryFaults(levels=(1e-2,), chips=2, images=100)))


def emulator(
    network: IntegerNetwork,
    blocks: MultiplierSet,
    images: Dataset,
    splits: Splits,
    *,
    granularity: Granularity = "filter",
    correct_means: bool = False,
) -> Emulator:
    units = units_of(network, images.inputs(slice(0, 1)), granularity=granularity)
    return Emulator(network, units, blocks, SMALL, images, splits.train.first(64), correct_means)


def choices(own: Emulator, count: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 3, own.units.count) for _ in range(count)]


@pytest.mark.parametrize("granularity", ["layer", "filter"])
@pytest.mark.parametrize("correct_means", [False, True])
def test_emulated_networks_are_those_of_their_arithmetic(  # noqa: PLR0917
    network: IntegerNetwork,
    blocks: MultiplierSet,
    images: Dataset,
    splits: Splits,
    granularity: Granularity,
    correct_means: bool,
) -> None:
    own = emulator(
        network, blocks, images, splits, granularity=granularity, correct_means=correct_means
    )
    for choice in choices(own, 3):
        arithmetic = own.arithmetic(choice)
        whole = arithmetic.apply(network, own.calibration.inputs())
        assert torch.equal(own.emulated(choice)(images.inputs()), whole(images.inputs()))


def test_exact_products_give_the_exact_network(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset, splits: Splits
) -> None:
    own = emulator(network, blocks, images, splits)
    exact = own.emulated(np.zeros(own.units.count, np.int64))
    assert not exact.products
    assert torch.equal(exact(images.inputs()), network(images.inputs()))


def test_counts_are_those_of_the_threats(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset, splits: Splits
) -> None:
    own = emulator(network, blocks, images, splits)
    (choice,) = choices(own, 1)
    clean, first, second = own.measure(choice).tallies
    right = own.emulated(choice)(images.inputs()).argmax(1) == images.labels
    assert (clean.correct, clean.total) == (int(right.sum()), 200)
    assert first.total == second.total == 100


@pytest.mark.slow
def test_workers_count_the_same(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset, splits: Splits
) -> None:
    own = emulator(network, blocks, images, splits)
    wanted = choices(own, 3)
    here = Measuring.opened(own, CountStore()).measure(wanted)
    there = Measuring.opened(own, CountStore(), Processes(workers=2))
    with there.pool:
        found = there.measure(wanted)
    assert [one.tallies for one in found] == [one.tallies for one in here]


def test_keys_follow_all_that_counts_depend_on(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset, splits: Splits
) -> None:
    own = emulator(network, blocks, images, splits)
    one, other, _ = choices(own, 3)
    keys = {
        own.key(one),
        own.key(other),
        own.on(splits.test.first(150)).key(one),
        emulator(network, blocks, images, splits, correct_means=True).key(one),
    }
    assert len(keys) == 4
    by_layer = emulator(network, blocks, images, splits, granularity="layer")
    alike = np.full(by_layer.units.count, 1)
    assert by_layer.key(alike) == own.key(np.full(own.units.count, 1))  # one arithmetic


def test_what_is_measured_is_kept_and_not_measured_again(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset, splits: Splits, tmp_path: Path
) -> None:
    own = emulator(network, blocks, images, splits)
    wanted, path = choices(own, 3), tmp_path / "counts.jsonl"
    first = Measuring.opened(own, CountStore(path)).measure(wanted[:2])
    torn = path.read_text()
    path.write_text(torn + '{"key": "abc')
    store = CountStore(path)
    again = Measuring.opened(own, store).measure(wanted)
    assert [one.tallies for one in again[:2]] == [one.tallies for one in first]
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert "\n".join(lines[:2]) + "\n" == torn


def test_a_stop_keeps_what_is_finished(  # noqa: PLR0917
    network: IntegerNetwork,
    blocks: MultiplierSet,
    images: Dataset,
    splits: Splits,
    tmp_path: Path,
    after: type[StopRequest],
) -> None:
    own = emulator(network, blocks, images, splits)
    store = CountStore(tmp_path / "counts.jsonl")
    measuring = Measuring.opened(own, store, stop=after(2))
    with pytest.raises(StoppedError):
        measuring.measure(choices(own, 4))
    assert len((tmp_path / "counts.jsonl").read_text().splitlines()) == 2


def test_damaged_counts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.jsonl"
    path.write_text('{"key": "a", "counts": [[1]], "seconds": 1}\n')
    with pytest.raises(DataError, match="line 1 is not a measurement"):
        CountStore(path)
