"""Adversarial bit errors: their bounds, and how much harm they do."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitproof.core.bits import count_flips
from bitproof.core.rng import make_generator
from bitproof.faults import BitAscent, FaultTable, RandomFlips, adversarial_codes, with_flips
from bitproof.faults.bit_ascent import project, random_start
from bitproof.quant import AffineQuantizer, CodedTensor, IntegerNetwork, Scheme, quantize

X = torch.rand(40, 6, generator=make_generator(0))
Y = (X[:, 0] > X[:, 1]).long() + (X[:, 2] > 0.5).long()


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            draws = torch.randn(weight.shape, generator=make_generator(1, number))
            weight.copy_(draws * 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        cross_entropy(model(X), Y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return quantize(model.eval(), X)


def loss_of(network: IntegerNetwork) -> float:
    return float(cross_entropy(network(X), Y))


def draw_codes(quantizer: AffineQuantizer, seed: int) -> dict[str, CodedTensor]:
    shapes = {"a.weight": (4, 3, 2), "b.weight": (5, 2)}
    generator = make_generator(seed)
    return {
        name: quantizer.encode(torch.randn(shape, generator=generator))
        for name, shape in shapes.items()
    }


def distances(codes: dict[str, CodedTensor], faulty: dict[str, Tensor]) -> list[int]:
    """Return the Hamming distance of each word."""
    return [
        count_flips(before, after, bits=coded.grid.bits)
        for name, coded in codes.items()
        for before, after in zip(coded.codes.flatten(), faulty[name].flatten(), strict=True)
    ]


@given(
    quantizer=st.builds(
        AffineQuantizer,
        bits=st.integers(2, 8),
        signed=st.booleans(),
        symmetric=st.booleans(),
        per_channel=st.booleans(),
    ),
    budget=st.integers(0, 40),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=60)
def test_at_most_one_bit_in_a_word_and_the_budget_in_all(
    quantizer: AffineQuantizer, budget: int, seed: int
) -> None:
    codes = draw_codes(quantizer, seed)
    noise = make_generator(seed, "noise")

    def gradient(values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: torch.randn(v.shape, generator=noise) for n, v in values.items()}

    faulty = adversarial_codes(
        codes, gradient, budget=budget, iterations=3, generator=make_generator(seed)
    )
    found = distances(codes, faulty)
    assert max(found) <= 1
    assert sum(found) <= budget
    for name, coded in codes.items():
        assert (faulty[name].dtype, faulty[name].shape) == (coded.codes.dtype, coded.codes.shape)
        assert int(faulty[name].min()) >= coded.grid.low
        assert int(faulty[name].max()) <= coded.grid.high


@given(
    signed=st.booleans(), bits=st.integers(2, 8), code=st.integers(0, 255), move=st.floats(-3, 3)
)
@settings(deadline=None, max_examples=200)
def test_the_bit_that_stays_is_the_most_significant_and_goes_the_same_way(
    signed: bool, bits: int, code: int, move: float
) -> None:
    coded = AffineQuantizer(bits=bits, signed=signed).encode(torch.linspace(-1, 1, 1 << bits))
    at = code % (1 << bits)
    moves = torch.zeros(1 << bits)
    moves[at] = move
    faulty = project({"w": coded}, {"w": coded.codes}, {"w": moves}, budget=1)["w"]
    before, after = int(coded.codes[at]), int(faulty[at])
    target = before + round(float(moves[at] / coded.grid.scale))
    end = min(max(target, coded.grid.low), coded.grid.high)
    low = (1 << bits) - 1
    if end == before:
        assert after == before
    else:
        assert (after - before) * move > 0
        assert ((before ^ after) & low).bit_length() == ((before ^ end) & low).bit_length()
    assert torch.equal(
        faulty.index_fill(0, torch.tensor(at), 0), coded.codes.index_fill(0, torch.tensor(at), 0)
    )


def test_the_words_that_have_moved_farthest_are_kept() -> None:
    coded = {"w": AffineQuantizer(margin=0.0).encode(torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))}
    moves = {"w": torch.tensor([0.1, -0.4, 0.3, 0.001, -0.2])}
    faulty = project(coded, {"w": coded["w"].codes}, moves, budget=2)["w"]
    assert (faulty != coded["w"].codes).tolist() == [False, True, True, False, False]


def test_random_starts_have_every_number_of_flips_and_reach_every_word() -> None:
    codes = draw_codes(AffineQuantizer(bits=3), 0)
    sizes, seen = set(), set()
    for trial in range(400):
        start = random_start(codes, budget=4, generator=make_generator(trial))
        sizes.add(sum(len(places) for places, _ in start.values()))
        for name, (places, bits) in start.items():
            seen |= set(zip(itertools.repeat(name), places.tolist(), bits.tolist(), strict=False))
    assert sizes == {0, 1, 2, 3, 4}
    assert len(seen) == 3 * 34


def test_all_words_may_be_flipped() -> None:
    codes = draw_codes(AffineQuantizer(), 0)
    start = random_start(codes, budget=10**6, generator=make_generator(3))
    assert sum(len(places) for places, _ in start.values()) <= 34


def test_ascent_hurts_far_more_than_random_flips(network: IntegerNetwork) -> None:
    found = BitAscent(n_flips=6, iterations=30).choose_bits(
        network, X, Y, generator=make_generator(0)
    )
    assert 0 < len(found) <= 6
    elements = [row[2:4] for row in found.rows()]
    assert len(set(elements)) == len(elements)
    words = sum(network.tensors[f"{name}.weight"].codes.numel() for name in ("0", "2"))
    random = []
    for trial in range(20):
        fault = RandomFlips(ber=6 / (8 * words))
        codes = fault.corrupt_all(network.codes("weight"), generator=make_generator(trial))
        random.append(loss_of(network.with_codes(codes)))
    assert loss_of(with_flips(network, found)) > max(random)


@pytest.mark.slow
def test_one_flip_is_nearly_the_worst_one(network: IntegerNetwork) -> None:
    every = [
        loss_of(with_flips(network, FaultTable.from_rows([(0, "weight", name, at, -1, 7, "flip")])))
        for name in ("0", "2")
        for at in range(network.tensors[f"{name}.weight"].codes.numel())
    ]
    found = BitAscent(n_flips=1, iterations=30, restarts=3).choose_bits(
        network, X, Y, generator=make_generator(0)
    )
    rank = sum(loss > loss_of(with_flips(network, found)) for loss in every)
    assert rank < len(every) / 20


def test_more_runs_are_never_weaker(network: IntegerNetwork) -> None:
    losses = []
    for subsets in (("all",), ("all", "first"), ("all", "first", "last")):
        attack = BitAscent(n_flips=5, iterations=10, layers=subsets)
        found = attack.choose_bits(network, X, Y, generator=make_generator(0))
        losses.append(loss_of(with_flips(network, found)))
    assert losses == sorted(losses)


def test_layers_restrict_the_flips(network: IntegerNetwork) -> None:
    for subset, name in (("first", "0"), ("last", "2")):
        attack = BitAscent(n_flips=5, iterations=10, layers=(subset,))
        found = attack.choose_bits(network, X, Y, generator=make_generator(0))
        assert {row[2] for row in found.rows()} == {name}


@pytest.mark.parametrize("signed", [False, True])
def test_any_grid_is_attacked(network: IntegerNetwork, signed: bool) -> None:
    scheme = Scheme(weight=AffineQuantizer(bits=4, signed=signed, per_channel=True))
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    other = quantize(model, X, scheme)
    found = BitAscent(n_flips=4, iterations=10).choose_bits(
        other, X, Y, generator=make_generator(0)
    )
    assert loss_of(with_flips(other, found)) > loss_of(other)
    assert max(row[5] for row in found.rows()) < 4
