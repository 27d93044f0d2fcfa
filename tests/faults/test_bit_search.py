"""The bit search: against one that is slow and obvious, and what each flip must do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bitproof.core.bits import count_flips
from bitproof.core.errors import DataError, FaultListError, InputRangeError
from bitproof.core.rng import make_generator
from bitproof.faults import (
    FaultTable,
    ProgressiveBitSearch,
    TargetedBitSearch,
    WeightAttack,
    with_flips,
)
from bitproof.faults.flip_effect import CodeChange, logits_after
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme, quantize
from bitproof.quant.weight_gradient import KeptRun, weighted_layers

QUANTIZERS = {
    "default": AffineQuantizer(),
    "signed": AffineQuantizer(symmetric=True, signed=True),
    "signed, asymmetric, 4 bits, per channel": AffineQuantizer(
        bits=4, signed=True, per_channel=True
    ),
    "2 bits": AffineQuantizer(bits=2),
}
X = torch.rand(30, 2, 6, 6, generator=make_generator(0))
Y = torch.randint(3, (30,), generator=make_generator(1))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3, stride=2)
        self.last = nn.Linear(16, 3)
        with torch.no_grad():
            for number, weight in enumerate(self.parameters()):
                draws = torch.randn(weight.shape, generator=make_generator(2, number))
                weight.copy_(draws * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        result: Tensor = self.last(x.flatten(1))
        return result


@pytest.fixture(params=QUANTIZERS)
def network(request: pytest.FixtureRequest) -> IntegerNetwork:
    return quantize(Small().eval(), X, Scheme(weight=QUANTIZERS[request.param]))


@pytest.fixture
def plain() -> IntegerNetwork:
    return quantize(Small().eval(), X)


def loss_of(network: IntegerNetwork) -> float:
    return float(cross_entropy(network(X), Y))


def attack(attack: WeightAttack, network: IntegerNetwork) -> FaultTable:
    return attack.choose_bits(network, X, Y, generator=make_generator(0))


def change_of(code: int, bit: int, bits: int, signed: bool) -> int:
    """Return the change of a stored code by a flip, word by word."""
    raw = (code % (1 << bits)) ^ (1 << bit)
    return raw - code - ((1 << bits) if signed and raw >> (bits - 1) else 0)


def search_slowly(network: IntegerNetwork, n_flips: int, top_k: int) -> list[tuple[Any, ...]]:
    """Return the flips of the published procedure: every layer's candidate is executed in full."""
    chosen: list[tuple[Any, ...]] = []
    for _ in range(n_flips):
        run = KeptRun.of(network, X)
        logits = run.logits.requires_grad_()
        slope = torch.autograd.grad(cross_entropy(logits, Y), logits)[0]
        layers = [node.name for node in weighted_layers(network)]
        gradients = run.weight_gradients(slope, layers)
        lists = []
        for layer in layers:
            coded = network.tensors[f"{layer}.weight"]
            bits, signed = coded.grid.bits, coded.grid.signed
            flat, codes = gradients[layer].flatten().tolist(), coded.codes.flatten().tolist()
            top = sorted(range(len(flat)), key=lambda at: -abs(flat[at]))[:top_k]
            gains = [
                (flat[at] * change_of(codes[at], bit, bits, signed), layer, at, bit)
                for at in top
                for bit in range(bits)
                if (layer, at, bit) not in chosen
            ]
            lists.append(sorted((g for g in gains if g[0] > 0), key=lambda g: -g[0]))
        worst = None
        for rank in range(max(map(len, lists))):
            tried = [own[rank][1:] for own in lists if rank < len(own)]
            losses = [loss_of(flipped(network, [place])) for place in tried]
            if max(losses) > loss_of(network):
                worst = tried[losses.index(max(losses))]
                break
        if worst is None:
            break
        chosen.append(worst)
        network = flipped(network, [worst])
    return chosen


def flipped(network: IntegerNetwork, places: list[tuple[Any, ...]]) -> IntegerNetwork:
    rows = [(0, "weight", layer, at, -1, bit, "flip") for layer, at, bit in places]
    return with_flips(network, FaultTable.from_rows(rows))


def places_of(found: FaultTable) -> list[tuple[Any, ...]]:
    return [(layer, at, bit) for _, _, layer, at, _, bit, _ in found.rows()]


def test_flips_are_those_of_the_slow_search(network: IntegerNetwork) -> None:
    found = attack(ProgressiveBitSearch(n_flips=6, top_k=4), network)
    assert places_of(found) == search_slowly(network, n_flips=6, top_k=4)


def test_each_flip_raises_the_loss_and_the_distance_by_one(network: IntegerNetwork) -> None:
    places = places_of(attack(ProgressiveBitSearch(n_flips=8), network))
    assert len(places) == 8
    before = loss_of(network)
    for n in range(1, len(places) + 1):
        broken = flipped(network, places[:n])
        distance = sum(
            count_flips(one.codes, broken.tensors[name].codes, bits=one.grid.bits)
            for name, one in network.tensors.items()
            if one.grid.bits <= 8
        )
        assert distance == n
        assert loss_of(broken) > before
        before = loss_of(broken)


@pytest.mark.slow
def test_the_first_flip_is_the_worst_of_all_bits_or_near_it(plain: IntegerNetwork) -> None:
    every = [
        loss_of(flipped(plain, [(node.name, at, 7)]))  # no other bit moves a weight as far
        for node in weighted_layers(plain)
        for at in range(plain.tensors[f"{node.name}.weight"].codes.numel())
    ]
    found = attack(ProgressiveBitSearch(n_flips=1, top_k=1000), plain)
    rank = sum(loss > loss_of(with_flips(plain, found)) for loss in every)
    assert rank < len(every) / 50


def test_a_small_number_of_flips_begins_a_large_one(plain: IntegerNetwork) -> None:
    few, many = (attack(ProgressiveBitSearch(n_flips=n), plain) for n in (3, 6))
    assert few.rows() == many.rows()[:3]


def test_search_stops_at_an_accuracy(plain: IntegerNetwork) -> None:
    labels = plain(X).argmax(1)
    search = ProgressiveBitSearch(n_flips=100, stop_accuracy=0.5)
    found = search.choose_bits(plain, X, labels, generator=make_generator(0))
    accs = [
        float((flipped(plain, places_of(found)[:n])(X).argmax(1) == labels).float().mean())
        for n in range(len(found) + 1)
    ]
    assert 0 < len(found) < 100
    assert accs[-1] <= 0.5
    assert min(accs[:-1]) > 0.5


def test_search_ends_where_no_flip_raises_the_loss() -> None:
    network = quantize(nn.Linear(2, 2), torch.rand(8, 2), Scheme(weight=AffineQuantizer(bits=2)))
    inputs, labels = torch.rand(4, 2, generator=make_generator(0)), torch.zeros(4).long()
    found = ProgressiveBitSearch(n_flips=50).choose_bits(
        network, inputs, labels, generator=make_generator(0)
    )
    assert len(found) < 8


def test_targeted_search_moves_one_class_to_another(plain: IntegerNetwork) -> None:
    wanted = TargetedBitSearch(n_flips=30, source=1, target=2)
    found = attack(wanted, plain)
    broken = with_flips(plain, found)
    before, after = (net(X[Y == 1]).argmax(1) == 2 for net in (plain, broken))
    assert after.all() or len(found) == 30
    assert after.sum() > before.sum()
    everyone = with_flips(plain, attack(TargetedBitSearch(n_flips=30, target=2), plain))
    assert (everyone(X).argmax(1) == 2).sum() > (plain(X).argmax(1) == 2).sum()


def test_what_cannot_be_searched_is_refused(plain: IntegerNetwork) -> None:
    with pytest.raises(DataError, match="target: wanted a class below 3, got 7"):
        attack(TargetedBitSearch(target=7), plain)
    with pytest.raises(DataError, match="source: wanted attack images of class 5"):
        attack(TargetedBitSearch(source=5, target=1), plain)
    search, generator = ProgressiveBitSearch(), make_generator(0)
    with pytest.raises(DataError, match="labels: wanted one for each of 30 images"):
        search.choose_bits(plain, X, Y[:3], generator=generator)
    with pytest.raises(InputRangeError):
        search.choose_bits(plain, 2 * X, Y, generator=generator)
    empty = quantize(nn.Flatten(), torch.rand(4, 2, 1))
    with pytest.raises(FaultListError, match="wanted layers with weights"):
        search.choose_bits(empty, torch.rand(4, 2, 1), Y[:4] % 2, generator=generator)


class Wide(nn.Module):
    """Layers of every sort that a weight may lie in."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = nn.Conv2d(4, 6, (3, 2), padding=(2, 1), stride=(2, 1), groups=2)
        self.dilated = nn.Conv2d(6, 5, 3, padding=2, dilation=2)
        self.line = nn.Conv1d(5, 3, 3, padding=1)
        self.rows = nn.Linear(7, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.dilated(torch.relu(self.groups(x))))
        x = torch.relu(self.rows(torch.relu(self.line(x.mean(2)))))
        result: Tensor = self.last(x.mean(1))
        return result


@pytest.mark.parametrize("per_channel", [False, True])
def test_one_weight_changes_logits_as_in_the_whole_network(per_channel: bool) -> None:
    images = torch.rand(5, 4, 6, 6, generator=make_generator(0))
    network = quantize(Wide(), images, Scheme(weight=AffineQuantizer(per_channel=per_channel)))
    run, generator = KeptRun.of(network, images), make_generator(4)
    layers = [node.name for node in weighted_layers(network)]
    assert len(layers) == 5
    before = network.digest()
    for layer in layers:
        codes = network.tensors[f"{layer}.weight"].codes
        for _ in range(12):
            at = int(torch.randint(codes.numel(), (), generator=generator))
            broken = flipped(network, [(layer, at, 7)])
            step = int(broken.tensors[f"{layer}.weight"].codes.flatten()[at]) - int(
                codes.flatten()[at]
            )
            assert torch.equal(logits_after(run, CodeChange(layer, at, step)), broken(images))
    assert network.digest() == before


def test_sums_beyond_float32_change_exactly() -> None:
    images = torch.rand(2, 700, 3, 3, generator=make_generator(0))
    model = nn.Sequential(nn.Conv2d(700, 2, 3), nn.Flatten())
    network = quantize(model, images)
    assert network.constants["0"].dtype == torch.float64
    run = KeptRun.of(network, images)
    for at in (0, 5, 700 * 9 + 4):
        broken = flipped(network, [("0", at, 7)])
        step = int(broken.tensors["0.weight"].codes.flatten()[at]) - int(
            network.tensors["0.weight"].codes.flatten()[at]
        )
        assert torch.equal(logits_after(run, CodeChange("0", at, step)), broken(images))
