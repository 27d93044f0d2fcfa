"""A layer called several times has one memory: stored once, struck once, read everywhere."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bitproof.core.errors import WeightsError
from bitproof.core.rng import make_generator
from bitproof.faults import RandomFlips, corrupt
from bitproof.faults.flip_effect import CodeChange, logits_after
from bitproof.faults.space import FaultSpace
from bitproof.faults.table import FaultTable
from bitproof.injection.engine import Engine
from bitproof.injection.golden import Golden
from bitproof.quant import IntegerNetwork, Scheme, load_network, quantize, save_network
from bitproof.quant.grid import CodedTensor
from bitproof.quant.weight_gradient import KeptRun


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.conv(self.conv(x).relu()).flatten(1))
        return result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(
            self.rnn(x.flatten(2).transpose(1, 2).reshape(-1, 6, 8))[0][:, -1]
        )
        return result


def images() -> Tensor:
    return torch.rand(12, 3, 4, 4, generator=make_generator(0))


def network_of(model: nn.Module, scheme: Scheme | None = None) -> IntegerNetwork:
    torch.manual_seed(0)
    return quantize(model, images(), scheme)


@pytest.fixture(params=["twice", "recurrent", "wide biases"])
def network(request: pytest.FixtureRequest) -> IntegerNetwork:
    torch.manual_seed(0)
    scheme = Scheme(bias=None) if request.param == "wide biases" else None
    return network_of(Recurrent() if request.param == "recurrent" else Twice(), scheme)


def with_copies(network: IntegerNetwork) -> IntegerNetwork:
    """Return a network with a memory of its own for every node, words copied."""
    tensors: dict[str, CodedTensor] = {}
    for node in network.nodes:
        for kind in ("weight", "bias"):
            if node.key(kind) in network.tensors:
                tensors[f"{node.name}.{kind}"] = network.tensors[node.key(kind)]
        bias = network.tensors.get(node.key("bias"))
        if node.memory and bias is not None and bias.grid.bits == 32:
            step = network.tensors[node.key("weight")].grid.scale.double()
            step = step * network.grids[node.inputs[0]].scale.double()
            codes = (bias.values().double() / step).round().to(torch.int32)
            grid = replace(bias.grid, scale=step.float())
            tensors[f"{node.name}.bias"] = CodedTensor(codes, grid)
    nodes = tuple(replace(node, memory="") for node in network.nodes)
    return replace(network, nodes=nodes, tensors=tensors)


def with_change(network: IntegerNetwork, owner: str, element: int, step: int) -> IntegerNetwork:
    """Return the network with copies, one word changed in each of them."""
    readers = network.readers({owner})
    copies = with_copies(network)
    codes = {}
    for name in readers:
        own = copies.tensors[f"{name}.weight"].codes.clone()
        own.view(-1)[element] += step
        codes[f"{name}.weight"] = own
    return copies.with_codes(codes)


def owner_of(network: IntegerNetwork) -> str:
    return next(node.memory for node in network.nodes if node.memory)


def test_words_are_stored_once(network: IntegerNetwork) -> None:
    owner = owner_of(network)
    readers = network.readers({owner})
    assert len(readers) > 1
    assert [name for name in network.tensors if name.rpartition(".")[0] in readers] == [
        key for key in (f"{owner}.weight", f"{owner}.bias") if key in network.tensors
    ]
    assert torch.equal(network(images()), with_copies(network)(images()))


def test_a_module_called_twice_has_as_many_words_as_parameters() -> None:
    model = Twice()
    stored = network_of(model).tensors.values()
    assert sum(coded.codes.numel() for coded in stored) == sum(
        p.numel() for p in model.parameters()
    )


def test_flips_strike_every_reader(network: IntegerNetwork) -> None:
    owner = owner_of(network)
    broken = network.with_codes({f"{owner}.weight": network.tensors[f"{owner}.weight"].codes ^ 64})
    copies = with_copies(network)
    struck = copies.with_codes(
        {
            f"{name}.weight": copies.tensors[f"{name}.weight"].codes ^ 64
            for name in network.readers({owner})
        }
    )
    assert torch.equal(broken(images()), struck(images()))
    assert not torch.equal(broken(images()), network(images()))
    chip = corrupt(network, RandomFlips(ber=0.05), generator=make_generator(1))
    assert torch.equal(chip(images()), with_copies(chip)(images()))


def test_a_campaign_counts_what_every_reader_does(network: IntegerNetwork) -> None:
    owner, inputs = owner_of(network), images()
    shapes = Golden.run(network, inputs[:1]).shapes
    places = [one.layer for one in FaultSpace(sites=("weight",)).strata(network, shapes)]
    assert places.count(owner) == 1
    assert not network.readers({owner}) - {owner} & set(places)
    rows = [(n, "weight", owner, 5 * n, -1, 6, "flip") for n in range(4)]
    rows += [(4, "weight", owner, 1, -1, 5, "flip"), (4, "activation", "input", 2, -1, 7, "flip")]
    faults = FaultTable.from_rows(rows)
    engine = Engine(network, inputs, network(inputs).argmax(1))
    counts = engine.run(faults, list(range(5)))
    for n in range(4):
        word = int(network.tensors[f"{owner}.weight"].codes.view(-1)[5 * n])
        wanted = with_change(network, owner, 5 * n, (word ^ 64) - word)(inputs)
        assert torch.equal(engine.reference(faults, n), wanted)
        assert counts[n, 0] == int((wanted == network(inputs)).all(1).sum())


def test_gradients_add_up_over_readers(network: IntegerNetwork) -> None:
    owner, inputs = owner_of(network), images()
    slope = torch.randn(12, 4, generator=make_generator(2))
    ours = KeptRun.of(network, inputs).weight_gradients(slope, [owner])[owner]
    readers = sorted(network.readers({owner}))
    theirs = KeptRun.of(with_copies(network), inputs).weight_gradients(slope, readers)
    assert torch.allclose(
        ours, torch.stack([theirs[name] for name in readers]).sum(0), rtol=1e-4, atol=1e-5
    )


def test_the_effect_of_one_flip_is_exact(network: IntegerNetwork) -> None:
    owner, inputs = owner_of(network), images()
    run = KeptRun.of(network, inputs)
    word = int(network.tensors[f"{owner}.weight"].codes.view(-1)[7])
    step = (word ^ 128) - word
    found = logits_after(run, CodeChange(owner, 7, step))
    assert torch.equal(found, with_change(network, owner, 7, step)(inputs))


def test_a_file_keeps_what_is_shared(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "network")
    loaded = load_network(tmp_path / "network")
    assert loaded.nodes == network.nodes
    assert loaded.digest() == network.digest()
    assert torch.equal(loaded(images()), network(images()))


def test_a_file_that_shares_nothing_there_is_is_refused(tmp_path: Path) -> None:
    network = network_of(Twice())
    nodes = tuple(replace(n, memory="nobody") if n.memory else n for n in network.nodes)
    save_network(replace(network, nodes=nodes), tmp_path / "network")
    with pytest.raises(WeightsError, match=r"conv_1 \(conv\): shares the words of nobody"):
        load_network(tmp_path / "network")


def test_tied_embedding_is_one_memory() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.bias = nn.Embedding(9, 4), nn.Parameter(torch.randn(9))

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(self.table(x).mean(1), self.table.weight, self.bias)

    torch.manual_seed(0)
    tokens = torch.randint(9, (6, 3))
    network = quantize(Tied(), tokens)
    words = {name: coded.codes.numel() for name, coded in network.tensors.items()}
    assert sum(words.values()) == 9 * 4 + 9
    with torch.no_grad():
        assert network(tokens).shape == (6, 9)


def test_a_constant_that_the_input_takes_in_stays_for_others() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.register_buffer("mean", torch.tensor([0.4, 0.3, 0.2]).view(1, 3, 1, 1))
            self.mean: Tensor

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.conv(x - self.mean) + self.mean
            return result

    torch.manual_seed(0)
    model = Shifted()
    network = quantize(model, images())
    with torch.no_grad():
        off = (network(images()) - model(images())).abs().max()
    assert float(off) < 0.05
