"""What every protection promises, whatever it does with broken bits."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from bitproof.core.rng import make_generator
from bitproof.faults import (
    PROTECTIONS,
    FtClipAct,
    Parity,
    Protection,
    RandomFlips,
    Ranger,
    Secded,
    Signatures,
    TripleModular,
)
from bitproof.faults.table import COLUMNS
from bitproof.faults.word_faults import changed_bits, read_words
from bitproof.quant import IntegerNetwork, quantize

SAMPLES: dict[str, Protection] = {
    "ft_clip_act": FtClipAct(percentile=99.0),
    "parity": Parity(),
    "ranger": Ranger(),
    "secded": Secded(),
    "signatures": Signatures(words=8),
    "triple_modular": TripleModular(),
}

every_kind = pytest.mark.parametrize("kind", PROTECTIONS.kinds())


def network_of() -> IntegerNetwork:
    draw = make_generator(0)
    layers = torch.nn.Linear(16, 9), torch.nn.ReLU(), torch.nn.Linear(9, 3)
    with torch.no_grad():
        for weight in torch.nn.ModuleList(layers).parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw))
    return quantize(torch.nn.Sequential(*layers), torch.rand(20, 16, generator=draw))


NETWORK = network_of()
STORED = NETWORK.codes()


def broken(ber: float = 0.01) -> dict[str, Tensor]:
    return RandomFlips(ber=ber).corrupt_all(STORED, generator=make_generator(1))


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def clean() -> dict[str, Tensor]:
    return {name: codes for name, (codes, _) in STORED.items()}


def test_every_kind_has_a_sample() -> None:
    assert sorted(SAMPLES) == PROTECTIONS.kinds()


@every_kind
def test_protection_survives_a_json_round_trip(kind: str) -> None:
    protection = SAMPLES[kind]
    assert PROTECTIONS.find(kind).model_validate_json(protection.model_dump_json()) == protection
    assert PROTECTIONS.build(protection.model_dump(mode="json")).digest() == protection.digest()


@every_kind
def test_arguments_are_untouched(kind: str) -> None:
    words, table = broken(), changed_bits(STORED, broken())
    before = {name: getattr(table, name).copy() for name in COLUMNS}
    kept = {name: codes.clone() for name, codes in clean().items()}
    SAMPLES[kind].repair(table, NETWORK)
    SAMPLES[kind].read(NETWORK, words)
    assert all((getattr(table, name) == column).all() for name, column in before.items())
    assert equal(words, broken())
    assert equal(clean(), kept)


@every_kind
def test_whole_words_are_read_as_they_are(kind: str) -> None:
    protection = SAMPLES[kind]
    whole = {name: words for name, (words, _) in protection.redundancy(NETWORK).items()}
    assert equal(protection.read(NETWORK, clean()), clean())
    assert equal(protection.read(NETWORK, clean(), whole), clean())
    assert len(protection.repair(changed_bits(STORED, clean()), NETWORK).table) == 0


@every_kind
def test_words_are_read_as_the_list_is_repaired(kind: str) -> None:
    if kind == "triple_modular":
        pytest.skip("a list is of all copies together, words are those of one")
    table = SAMPLES[kind].repair(changed_bits(STORED, broken()), NETWORK).table
    assert equal(SAMPLES[kind].read(NETWORK, broken()), read_words(STORED, table))


@every_kind
def test_words_that_did_not_break_may_be_left_out(kind: str) -> None:
    some = {name: codes for name, codes in broken().items() if name.endswith("weight")}
    read = SAMPLES[kind].read(NETWORK, some)
    assert equal(read, {name: SAMPLES[kind].read(NETWORK, broken())[name] for name in some})


@every_kind
def test_what_is_stored_beside_belongs_to_words_and_counts(kind: str) -> None:
    beside = SAMPLES[kind].redundancy(NETWORK)
    assert beside.keys() <= NETWORK.tensors.keys()
    overhead = SAMPLES[kind].overhead_bits(NETWORK)
    assert overhead >= sum(words.numel() * bits for words, bits in beside.values())
    # They are words that any fault model can break.
    RandomFlips(ber=0.5).corrupt_all(beside, generator=make_generator(2))
