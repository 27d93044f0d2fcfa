from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.bits import count_flips
from bitproof.core.rng import make_generator
from bitproof.faults import (
    FaultModel,
    Memory,
    RandomFlips,
    corrupt,
    corrupt_float32,
    faulty_activations,
    faulty_codes,
    memory,
)
from bitproof.quant import (
    AffineQuantizer,
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    quantize,
    run_integers,
)

X = torch.rand(12, 1, 6, 6, generator=make_generator(0))
SITES: list[tuple[Literal["weight", "bias"], ...]] = [("weight",), ("bias",), ("weight", "bias")]


class StuckAtZero(FaultModel):
    """Every word reads as zero: what changes depends on what is stored."""

    kind: Literal["stuck_at_zero"] = "stuck_at_zero"

    def inject_(self, memory: Memory, *, generator: torch.Generator) -> None:  # noqa: ARG002
        memory.codes.zero_()


def network(seed: int = 0, scheme: Scheme | None = None) -> IntegerNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 20),
            nn.Sigmoid(),
            nn.Linear(20, 5),
        )
    return quantize(model, X, scheme)


def masks(clean: IntegerNetwork, broken: IntegerNetwork) -> dict[str, Tensor]:
    return {name: clean.tensors[name].codes ^ broken.tensors[name].codes for name in clean.tensors}


def changed(clean: IntegerNetwork, broken: IntegerNetwork) -> set[str]:
    return {name for name, mask in masks(clean, broken).items() if bool(mask.any())}


@pytest.mark.parametrize("sites", SITES)
def test_faults_reach_the_chosen_words_and_no_others(
    sites: tuple[Literal["weight", "bias"], ...],
) -> None:
    clean = network()
    broken = corrupt(clean, RandomFlips(ber=0.3), generator=make_generator(1), sites=sites)
    assert changed(clean, broken) == {f"{layer}.{site}" for layer in "046" for site in sites}


def test_no_sites_mean_no_faults() -> None:
    """`network.codes()` without names means all words, which is not what nothing means here."""
    clean = network()
    broken = corrupt(clean, RandomFlips(ber=0.5), generator=make_generator(1), sites=())
    assert not changed(clean, broken)
    assert torch.equal(broken(X), clean(X))


def test_generator_advances_alike_whatever_the_sites_are() -> None:
    states = []
    for sites in [(), *SITES]:
        generator = make_generator(1)
        corrupt(network(), RandomFlips(ber=0.3), generator=generator, sites=sites)
        states.append(generator.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_argument_is_left_alone() -> None:
    clean = network()
    logits = clean(X)
    before = {name: coded.codes.clone() for name, coded in clean.tensors.items()}
    corrupt(clean, RandomFlips(ber=0.5), generator=make_generator(1))
    assert all(torch.equal(clean.tensors[name].codes, before[name]) for name in before)
    assert torch.equal(clean(X), logits)


def test_what_is_whole_is_shared_and_not_copied() -> None:
    clean = network()
    broken = corrupt(clean, RandomFlips(ber=0.5), generator=make_generator(1), sites=("bias",))
    for name, coded in clean.tensors.items():
        assert (broken.tensors[name] is coded) == name.endswith("weight")
    assert broken.grids is clean.grids
    assert all(broken.tensors[name].grid is coded.grid for name, coded in clean.tensors.items())


def test_words_are_corrupted_as_one_array_in_the_order_of_the_network() -> None:
    clean, fault = network(), RandomFlips(ber=0.05)
    broken = corrupt(clean, fault, generator=make_generator(1))
    array = torch.cat([coded.codes.flatten() for coded in clean.tensors.values()])
    faulty = fault.corrupt(array, bits=8, generator=make_generator(1))
    ours = torch.cat([coded.codes.flatten() for coded in broken.tensors.values()])
    assert torch.equal(ours, faulty)
    by_name = fault.corrupt_all(clean.codes(), generator=make_generator(1))
    assert all(torch.equal(broken.tensors[name].codes, by_name[name]) for name in by_name)


def test_faulty_network_computes_with_its_faulty_words() -> None:
    """The same network with the words put in by hand, prepared from scratch."""
    broken = corrupt(network(), RandomFlips(ber=0.1), generator=make_generator(1))
    fresh = IntegerNetwork(broken.nodes, broken.tensors, broken.grids, broken.rounding)
    assert torch.equal(broken(X), fresh(X))
    assert not torch.equal(broken(X), network()(X))


def test_networks_of_one_layout_meet_the_same_chip() -> None:
    one, other = network(seed=0), network(seed=5)
    broken = [
        corrupt(net, RandomFlips(ber=0.05), generator=make_generator(1, "chip", 3))
        for net in (one, other)
    ]
    first, second = masks(one, broken[0]), masks(other, broken[1])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_chips_are_nested_in_the_rate_and_differ_from_each_other() -> None:
    clean = network()

    def chip(ber: float, number: int = 0) -> dict[str, Tensor]:
        generator = make_generator(1, "chip", number)
        return masks(clean, corrupt(clean, RandomFlips(ber=ber), generator=generator))

    rates = [chip(ber) for ber in (0.003, 0.01, 0.03, 0.1)]
    for low, high in pairwise(rates):
        assert all(torch.equal(low[name] & high[name], low[name]) for name in low)
    assert any(bool(mask.any()) for mask in rates[0].values())
    assert any(not torch.equal(mask, chip(0.1, 1)[name]) for name, mask in rates[-1].items())


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_narrow_words_stay_narrow(bits: int) -> None:
    clean = network(scheme=Scheme(weight=AffineQuantizer(bits=bits)))
    broken = corrupt(clean, RandomFlips(ber=0.5), generator=make_generator(1), sites=("weight",))
    codes = [coded.codes for name, coded in broken.tensors.items() if name.endswith("weight")]
    assert max(int(words.max()) for words in codes) == (1 << bits) - 1


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Tensor, Tensor, Grid]]:
    """Everything that the activation memory was given and gave back."""
    notes: list[tuple[str, Tensor, Tensor, Grid]] = []

    def watched(
        net: IntegerNetwork, inputs: Tensor, *, corrupt: Callable[[Node, Tensor, Grid], Tensor]
    ) -> Tensor:
        def note(node: Node, words: Tensor, grid: Grid) -> Tensor:
            before = words.clone()
            after = corrupt(node, words, grid)
            assert torch.equal(words, before), "what was stored is not modified"
            notes.append((node.name, before, after, grid))
            return after

        return run_integers(net, inputs, corrupt=note)

    monkeypatch.setattr(memory, "run_integers", watched)
    return notes


def test_every_image_meets_the_same_weak_cells(
    reads: list[tuple[str, Tensor, Tensor, Grid]],
) -> None:
    faulty = faulty_activations(network(), RandomFlips(ber=0.1), generator=make_generator(1))
    faulty(X)
    faulty(1 - X)
    assert [name for name, *_ in reads] == ["input", "0", "4", "5"] * 2
    cells: dict[str, Tensor] = {}
    for name, before, after, _ in reads:
        for mask in before ^ after:
            assert torch.equal(mask, cells.setdefault(name, mask))
    assert all(bool(mask.any()) for mask in cells.values())


def test_weak_cells_are_as_many_as_asked(
    reads: list[tuple[str, Tensor, Tensor, Grid]],
) -> None:
    net, ber, flips, bits = network(), 0.05, 0, 0
    for chip in range(40):
        fault = RandomFlips(ber=ber)
        faulty_activations(net, fault, generator=make_generator(1, chip))(X[:1])
    for _, before, after, _ in reads:
        mask = before ^ after
        flips += sum(int((mask >> bit & 1).sum()) for bit in range(8))
        bits += 8 * mask.numel()
    assert abs(flips - ber * bits) < 5 * (bits * ber * (1 - ber)) ** 0.5


def test_split_into_batches_does_not_matter() -> None:
    net, fault = network(), RandomFlips(ber=0.05)
    whole = faulty_activations(net, fault, generator=make_generator(1))(X)
    one = faulty_activations(net, fault, generator=make_generator(1))
    assert torch.equal(torch.cat([one(x[None]) for x in X]), whole)
    parts = faulty_activations(net, fault, generator=make_generator(1))
    assert torch.equal(torch.cat([parts(part) for part in torch.split(X, 5)]), whole)
    assert not torch.equal(whole, net(X))


def test_without_faults_the_logits_are_the_clean_ones() -> None:
    net = network()
    faulty = faulty_activations(net, RandomFlips(ber=0.0), generator=make_generator(1))
    assert torch.equal(faulty(X), net(X))


def test_weak_activation_cells_are_nested_in_the_rate(
    reads: list[tuple[str, Tensor, Tensor, Grid]],
) -> None:
    for ber in (0.01, 0.1):
        faulty_activations(network(), RandomFlips(ber=ber), generator=make_generator(1))(X[:1])
    for (_, a, b, _), (_, c, d, _) in zip(reads[:4], reads[4:], strict=True):
        low, high = a ^ b, c ^ d
        assert torch.equal(low & high, low)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_activation_words_stay_words_of_their_width(
    bits: Literal[2, 4, 8], signed: bool, reads: list[tuple[str, Tensor, Tensor, Grid]]
) -> None:
    net = network(scheme=Scheme(activation_bits=bits, activation_signed=signed))
    logits = faulty_activations(net, RandomFlips(ber=0.5), generator=make_generator(1))(X)
    assert logits.isfinite().all()
    reached = set()
    for _, before, after, grid in reads:
        assert after.dtype == before.dtype
        assert grid.low <= int(after.min())
        assert int(after.max()) <= grid.high
        reached |= {int(after.min()) == grid.low, int(after.max()) == grid.high}
    assert any(reached), "a range that is never used would pass this test"


def test_weights_and_biases_are_left_alone() -> None:
    net = network()
    before = {name: coded.codes.clone() for name, coded in net.tensors.items()}
    faulty_activations(net, RandomFlips(ber=0.5), generator=make_generator(1))(X)
    assert all(torch.equal(net.tensors[name].codes, before[name]) for name in before)


def test_generator_advances_once_and_alone_decides() -> None:
    net, generator = network(), make_generator(1)
    first = faulty_activations(net, RandomFlips(ber=0.05), generator=generator)
    second = faulty_activations(net, RandomFlips(ber=0.05), generator=generator)
    again = faulty_activations(net, RandomFlips(ber=0.05), generator=make_generator(1))
    assert torch.equal(first(X), again(X))
    assert not torch.equal(first(X), second(X))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_faulty_codes_are_those_of_the_fault_model(bits: int, signed: bool) -> None:
    quantizer = AffineQuantizer(bits=bits, signed=signed)
    weights = {
        name: torch.randn(40, 30, generator=make_generator(0, name)) for name in ("one", "two")
    }
    words = {name: quantizer.encode(values) for name, values in weights.items()}
    fault = RandomFlips(ber=0.05)
    wanted = fault.corrupt_all(
        {name: (coded.codes, bits) for name, coded in words.items()}, generator=make_generator(1)
    )
    came = faulty_codes(words, fault, generator=make_generator(1))
    for name, coded in words.items():
        assert torch.equal(came[name], wanted[name])
        assert not torch.equal(came[name], coded.codes)
    there = {name: coded.to("meta") for name, coded in words.items()}  # has no words to fetch
    assert faulty_codes(there, fault, generator=make_generator(1))["one"].device.type == "meta"


def test_weights_take_any_kind_of_fault() -> None:
    broken = corrupt(network(), StuckAtZero(), generator=make_generator(1))
    assert not any(bool(coded.codes.any()) for coded in broken.tensors.values())


def test_flips_of_floats_are_those_of_the_words_read_as_integers() -> None:
    values, fault = torch.randn(500, generator=make_generator(0)), RandomFlips(ber=0.01)
    faulty = corrupt_float32({"w": values}, fault, generator=make_generator(1))["w"]
    codes = fault.corrupt(values.view(torch.int32), bits=32, generator=make_generator(1))
    assert torch.equal(faulty.view(torch.int32), codes)
    assert count_flips(values.view(torch.int32), codes, bits=32) > 100


def test_flipping_every_bit_inverts_every_pattern_of_floats() -> None:
    values = torch.tensor([[0.0, 1.0], [-2.5, 3e38]])
    faulty = corrupt_float32({"w": values}, RandomFlips(ber=1.0), generator=make_generator(0))["w"]
    assert torch.equal(faulty.view(torch.int32), ~values.view(torch.int32))
    assert bool(faulty[0, 0].isnan())


def test_float_tensors_are_one_array_and_parameters_are_left_alone() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 4))
    fault = RandomFlips(ber=0.2)
    parts = {"weight": weight, "bias": torch.zeros(5)}
    faulty = corrupt_float32(parts, fault, generator=make_generator(2))
    flat = torch.cat([weight.detach().flatten(), torch.zeros(5)])
    whole = corrupt_float32({"all": flat}, fault, generator=make_generator(2))["all"]
    joined = torch.cat([part.flatten() for part in faulty.values()])
    assert torch.equal(joined.view(torch.int32), whole.view(torch.int32))
    assert not faulty["weight"].requires_grad
    assert torch.equal(weight, torch.ones(3, 4))
