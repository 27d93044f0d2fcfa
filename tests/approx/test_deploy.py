from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from bitproof.approx import Drum, EvoApprox, Exact, Perforated, Stored, Swapped, Truncated
from bitproof.approx.deploy import applicable, with_multipliers
from bitproof.core.errors import DataError, QuantizationError
from bitproof.core.rng import make_generator
from bitproof.quant import IntegerNetwork, quantize, run_integers


class Small(nn.Module):
    """A convolution, a grouped one, a product of activations, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2)
        self.head = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.relu(self.first(images))
        maps = functional.relu(self.grouped(maps)).flatten(2)
        return self.head((maps @ maps.transpose(1, 2)).flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 1, 6, 6, generator=make_generator(0, "images"))


@pytest.fixture(scope="module")
def network(images: torch.Tensor) -> IntegerNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return quantize(Small().eval(), images)


def words_of(network: IntegerNetwork, images: torch.Tensor) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}

    def note(node: Any, codes: torch.Tensor, grid: Any) -> torch.Tensor:
        seen[node.name] = codes
        return codes

    seen["logits"] = run_integers(network, images, corrupt=note)
    return seen


def test_nodes_that_multiply_are_named_in_order(network: IntegerNetwork) -> None:
    assert applicable(network) == ["first", "grouped", "matmul", "head"]


@pytest.mark.parametrize("signed", [False, True])
def test_an_exact_multiplier_goes_through_tables_and_changes_nothing(
    network: IntegerNetwork, images: torch.Tensor, signed: bool
) -> None:
    same = with_multipliers(network, Exact(signed=signed))
    assert list(same.products) == applicable(network)
    wanted, found = words_of(network, images), words_of(same, images)
    assert all(torch.equal(found[name], codes) for name, codes in wanted.items())


def test_one_multiplier_for_all_is_one_for_each(
    network: IntegerNetwork, images: torch.Tensor
) -> None:
    rough = Truncated(columns=7, signed=True)
    everywhere = with_multipliers(network, rough)
    one_by_one = with_multipliers(network, dict.fromkeys(reversed(applicable(network)), rough))
    assert everywhere.digest() == one_by_one.digest() != network.digest()
    assert not torch.equal(everywhere(images), network(images))


def test_nodes_that_are_not_named_multiply_exactly(
    network: IntegerNetwork, images: torch.Tensor
) -> None:
    rough = with_multipliers(network, Truncated(columns=7, signed=True))
    again = with_multipliers(rough, {"head": Drum(width=3, signed=True)})
    assert list(again.products) == ["head"]
    wanted, found = words_of(network, images), words_of(again, images)
    assert torch.equal(found["matmul"], wanted["matmul"])
    assert not torch.equal(found["logits"], wanted["logits"])
    assert with_multipliers(rough, {}).digest() == network.digest()


def test_filters_multiply_each_with_its_own(network: IntegerNetwork, images: torch.Tensor) -> None:
    kinds = [Exact(), Drum(width=3), Perforated(rows=3), Drum(width=3)]
    mixed = words_of(with_multipliers(network, {"first": kinds}), images)["first"]
    for channel, kind in enumerate(kinds):
        alone = words_of(with_multipliers(network, {"first": kind}), images)["first"]
        assert torch.equal(mixed[:, channel], alone[:, channel])


def test_equal_tables_are_stored_once(network: IntegerNetwork) -> None:
    same = Swapped(of=Drum(width=3))
    products = with_multipliers(
        network, {"first": [Exact(), Drum(width=3), same, Exact()]}
    ).products["first"]
    assert products.tables.shape[0] == 2
    assert products.choice.tolist() == [0, 1, 1, 0]
    assert products.names == ("exact", "drum:width=3")


def test_nodes_share_the_memory_of_their_tables(network: IntegerNetwork) -> None:
    products = with_multipliers(network, Drum(width=3)).products
    assert len({own.tables.data_ptr() for own in products.values()}) == 1


def test_a_circuit_is_found_in_the_data_folder(network: IntegerNetwork, data_dir: Path) -> None:
    circuit = EvoApprox(name="mul8s_1L2H")
    products = with_multipliers(network, {"head": circuit}, data_dir=data_dir).products["head"]
    assert torch.equal(products.tables[0], circuit.table(data_dir).products)
    assert (products.signed, products.names) == (True, ("mul8s_1L2H",))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"frist": Exact()}, "no node 'frist' that multiplies. Did you mean 'first'?"),
        ({"input": Exact()}, "no node 'input'"),
        ({"first": [Exact()] * 3}, "first: wanted the table of each of 4 filters, got 3"),
        ({"matmul": [Exact()] * 2}, "matmul: wanted the table of each of 1 filters, got 2"),
        ({"first": []}, "first: wanted 4 multipliers, got none"),
        (
            {"head": [Exact(), Exact(signed=True), Exact()]},
            "head: wanted multipliers that are all signed or all unsigned, "
            "got exact, exact:signed=true",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    network: IntegerNetwork, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(QuantizationError) as caught:
        with_multipliers(network, choice)
    assert message in str(caught.value)


def test_a_missing_file_is_an_error(network: IntegerNetwork, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        with_multipliers(network, Stored(path="none.npz", signed=True), data_dir=tmp_path)


def test_convolutions_over_three_axes_have_no_kernel() -> None:
    volumes = torch.rand(2, 1, 4, 4, 4, generator=make_generator(0))
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(16, 2))
    network = quantize(model, volumes)
    assert applicable(network) == ["2"]
    with pytest.raises(QuantizationError, match="over 3 axes"):
        with_multipliers(network, Exact())
    assert torch.equal(with_multipliers(network, {"2": Exact()})(volumes), network(volumes))
