"""What every weight attack promises, however it searches."""

import pytest
import torch
from torch import nn

from bitproof.core.bits import count_flips
from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.faults import (
    WEIGHT_ATTACKS,
    BitAscent,
    FaultTable,
    ProgressiveBitSearch,
    TargetedBitSearch,
    WeightAttack,
    with_flips,
)
from bitproof.quant import IntegerNetwork, quantize

SAMPLES: dict[str, WeightAttack] = {
    "bit_ascent": BitAscent(n_flips=5, iterations=5),
    "progressive_bit_search": ProgressiveBitSearch(n_flips=5),
    "targeted_bit_search": TargetedBitSearch(n_flips=5, target=1),
}
"""One attack of each kind, on three classes."""
X = torch.rand(24, 1, 5, 5, generator=make_generator(0))
Y = torch.arange(24) % 3

every_kind = pytest.mark.parametrize("kind", WEIGHT_ATTACKS.kinds())


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3))
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            weight.copy_(torch.randn(weight.shape, generator=make_generator(number)))
    return quantize(model, X)


def attack(kind: str, network: IntegerNetwork, seed: int = 0) -> FaultTable:
    return SAMPLES[kind].choose_bits(network, X, Y, generator=make_generator(seed))


def test_every_kind_has_a_sample() -> None:
    assert sorted(SAMPLES) == WEIGHT_ATTACKS.kinds()


@every_kind
def test_attack_survives_a_json_round_trip(kind: str) -> None:
    one = SAMPLES[kind]
    assert WEIGHT_ATTACKS.find(kind).model_validate_json(one.model_dump_json()) == one
    assert WEIGHT_ATTACKS.build(one.model_dump(mode="json")).digest() == one.digest()


@every_kind
def test_level_changes_alone(kind: str) -> None:
    one = SAMPLES[kind]
    assert one.at(9).model_dump() == one.model_dump() | {"n_flips": 9}
    with pytest.raises(SpecError, match="n_flips"):
        one.at(0)


@every_kind
def test_label_names_attack_and_level(kind: str) -> None:
    label = SAMPLES[kind].label
    assert (label.family, label.symbol) == ("bit_flip_attack", "flips")
    assert label.at(5.0).endswith("at flips = 5")


@every_kind
def test_network_is_untouched(kind: str, network: IntegerNetwork) -> None:
    before = network.digest()
    attack(kind, network)
    assert network.digest() == before


@every_kind
def test_bits_differ_and_are_bounded(kind: str, network: IntegerNetwork) -> None:
    found = attack(kind, network)
    assert 0 < len(found) <= 5
    assert found.n_trials == 1
    assert {(row[1], row[4], row[6]) for row in found.rows()} == {("weight", -1, "flip")}
    broken = with_flips(network, found)
    distance = sum(
        count_flips(one.codes, broken.tensors[name].codes, bits=8)
        for name, one in network.tensors.items()
    )
    assert distance == len(found)


@every_kind
def test_same_generator_same_flips(kind: str, network: IntegerNetwork) -> None:
    assert attack(kind, network).rows() == attack(kind, network).rows()


@every_kind
def test_global_generator_is_left_alone(kind: str, network: IntegerNetwork) -> None:
    before = torch.get_rng_state()
    attack(kind, network)
    assert torch.equal(torch.get_rng_state(), before)


@every_kind
def test_smaller_bounds_give_the_first_flips_where_promised(
    kind: str, network: IntegerNetwork
) -> None:
    one = SAMPLES[kind]
    if not one.nested:
        pytest.skip("not promised")
    few = one.at(3).choose_bits(network, X, Y, generator=make_generator(0))
    assert few.rows() == attack(kind, network).rows()[:3]
