"""Broken multipliers: changed words against arrays stepped cycle by cycle."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bitproof.approx import Drum, with_multipliers
from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.faults.broken_multipliers import (
    BrokenMultiplier,
    cycles_of,
    layer_words,
    on_array,
    run_broken,
)
from bitproof.faults.layer_words import LayerWords
from bitproof.faults.systolic import SystolicArray
from bitproof.kernels.forms import exact_products
from bitproof.quant import IntegerNetwork
from bitproof.quant.products import OperandEncoding
from tests.faults.slow_array import SLOW, SlowFault, SlowLayer
from tests.faults.test_systolic import Case, cases

DATAFLOWS = ("weight_stationary", "output_stationary", "row_stationary")
CHOSEN = ("padding", "groups", "linear", "stride, even kernel")


class Product(int):
    """A product that remembers the patterns it is of."""

    patterns: tuple[int, int]


@dataclass
class TabledLayer(SlowLayer):
    """A slow layer whose multipliers look their products up."""

    table: np.ndarray
    shifts: tuple[int, int]

    def multiply(self, g: int, n: int, word: int, weight: int) -> int:
        a, w = int(word) + self.shifts[0], int(weight) + self.shifts[1]
        zero, point = self.point + self.shifts[0], int(self.weight_points[g, n]) + self.shifts[1]
        raw = int(self.table[a % 256, w % 256])
        found = Product(raw - point * a - zero * w + zero * point)
        found.patterns = a % 256, w % 256
        return found


def random_errors(seed: int) -> Tensor:
    """Return errors of which some columns are nothing but zeros."""
    draw = make_generator(seed, "errors")
    errors = torch.randint(-5000, 5000, (256, 256), generator=draw).int()
    errors[:, torch.rand(256, generator=draw) < 0.3] = 0
    return errors


def slow_words(
    case: Case,
    network: IntegerNetwork,
    table: Tensor,
    array: SystolicArray,
    broken: list[BrokenMultiplier],
    *,
    signed: bool,
) -> Tensor:
    """Return the words of the slow arrays; changes of several multipliers are added."""
    at = LayerWords(network, case.node, case.codes)
    weight = network.tensors[f"{case.node.name}.weight"].grid
    first, second = (OperandEncoding.of(grid, signed=signed).shift for grid in (at.grid, weight))
    images = []
    for image in range(len(case.codes)):
        plain = case.slow_layer(image)
        layer = TabledLayer(**vars(plain), table=table.numpy(), shifts=(first, second))
        sizes = array.rows, array.columns, array.latency, array.stream
        slow = SLOW[array.dataflow](layer, *sizes)
        total = golden = slow.run()
        for one in broken:
            errors = one.errors.numpy()

            def strike(value: int, errors: np.ndarray = errors) -> int:
                assert isinstance(value, Product)
                return value + int(errors[value.patterns])

            row, column = divmod(one.element, array.columns)
            start = one.cycle if one.layer else None
            fault = SlowFault("pe_product", row, column, start, array.window, "pe_row", strike)
            total = total + slow.run(fault) - golden
        images.append(case.with_bias(total))
    return at.output(torch.stack(images))


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("name", CHOSEN)
def test_words_are_those_of_the_slow_array(name: str, dataflow: str, approximate: bool) -> None:
    case = cases()[name]
    array = SystolicArray.model_validate({"dataflow": dataflow, "rows": 3, "columns": 2})
    table = Drum(width=4, signed=True).table().products if approximate else None
    network = (
        with_multipliers(case.network, Drum(width=4, signed=True))
        if approximate
        else (case.network)
    )
    products = exact_products(signed=True) if table is None else table
    node = case.node
    cycles = array.cycles(network, node, tuple(case.codes.shape[1:]))
    sets = [
        [],
        [BrokenMultiplier(0, random_errors(0))],
        [BrokenMultiplier(3, random_errors(1)), BrokenMultiplier(4, random_errors(2))],
        *(
            [BrokenMultiplier(element, random_errors(3), node.name, cycle)]
            for element, cycle in ((0, cycles // 3), (1, cycles // 2), (5, cycles - 4))
        ),
    ]
    for broken in sets:
        found = layer_words(network, node, case.codes, array, broken, signed=True)
        wanted = slow_words(case, network, products, array, broken, signed=True)
        assert torch.equal(found, wanted), [(one.element, one.cycle) for one in broken]


def test_no_error_changes_nothing_and_layers_are_chosen() -> None:
    case = cases()["padding"]
    array = SystolicArray(rows=3, columns=2)
    network, images = case.network, case.images
    none = BrokenMultiplier(0, torch.zeros(256, 256, dtype=torch.int32))
    assert torch.equal(run_broken(network, images, array, [none], signed=True), network(images))
    elsewhere = replace(none, errors=random_errors(0), layer="another")
    found = run_broken(network, images, array, [elsewhere], signed=True)
    assert torch.equal(found, network(images))
    everywhere = run_broken(network, images, array, [replace(elsewhere, layer="")], signed=True)
    assert not torch.equal(everywhere, network(images))


def test_cycles_are_those_of_the_array() -> None:
    case, array = cases()["padding"], SystolicArray(rows=3, columns=2)
    found = cycles_of(case.network, case.images[:1], array)
    assert found == {
        case.node.name: array.cycles(case.network, case.node, tuple(case.codes.shape[1:]))
    }
    assert [node.name for node in on_array(case.network)] == [case.node.name]


def test_several_multipliers_in_a_layer_are_refused() -> None:
    case, array = cases()["padding"], SystolicArray(rows=3, columns=2)
    mixed = [Drum(width=3), Drum(width=4), Drum(width=5)]
    network = with_multipliers(case.network, {case.node.name: mixed})
    with pytest.raises(SpecError, match="wanted one multiplier for all filters"):
        layer_words(network, case.node, case.codes, array, [], signed=False)
