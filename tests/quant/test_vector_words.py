"""Words of 16 bits: where they may be, what they gain, and that everything else takes them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.quant import Scheme, load_network, quantize, save_network
from bitproof.quant.build import quantize_traced
from bitproof.quant.graph import Graph, Node
from bitproof.quant.trace import trace
from bitproof.quant.vector_words import encode_vector, split_streams, vector_words


class Block(nn.Module):
    """A transformer's block that normalises first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) * 0.3, -1) @ v)
        result: Tensor = x + self.narrow(nn.functional.gelu(self.wide(self.norm2(x))))
        return result


class Transformer(nn.Module):
    """Two blocks over rows of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.place = nn.Parameter(torch.randn(6, 16))
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.blocks(self.embed(x) + self.place).mean(1))
        return result


@pytest.fixture(scope="module")
def transformer() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Transformer().eval()
        for norm in (one for one in model.modules() if isinstance(one, nn.LayerNorm)):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias, std=0.5)
    return model, torch.rand(64, 6, 8, generator=make_generator(0))


def test_sums_norms_and_scores_are_long_and_what_layers_and_tables_read_is_not(
    transformer: tuple[nn.Module, Tensor],
) -> None:
    model, inputs = transformer
    network = quantize(model, inputs, Scheme("accurate"))
    nodes = {node.name: node for node in network.nodes}
    read = {
        op: {network.grids[n].bits for node in nodes.values() if node.op == op for n in node.inputs}
        for op in ("layer_norm", "add", "softmax", "linear", "table", "matmul")
    }
    assert read["layer_norm"] == read["add"] == read["softmax"] == {16}
    assert read["linear"] == read["table"] == read["matmul"] == {8}
    widths = {name: coded.grid.bits for name, coded in network.tensors.items()}
    assert widths["blocks.0.norm.weight"] == widths["blocks.0.norm.bias"] == 16
    assert {widths[name] for name in widths if name.startswith("place")} == {16}
    assert widths["blocks.0.qkv.weight"] == 8


def test_they_bring_the_network_nearer_to_floats(transformer: tuple[nn.Module, Tensor]) -> None:
    model, inputs = transformer
    found = [
        quantize(model, inputs, Scheme("accurate", vector_bits=bits)).fidelity
        for bits in (None, 16)
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[1].sqnr_db > found[0].sqnr_db + 2


def test_file_gives_them_back(transformer: tuple[nn.Module, Tensor], tmp_path: Path) -> None:
    model, inputs = transformer
    network = quantize(model, inputs, Scheme("accurate"))
    save_network(network, tmp_path / "net")
    again = load_network(tmp_path / "net")
    assert again.digest() == network.digest()
    assert torch.equal(again(inputs), network(inputs))


class Streams(nn.Module):
    """A residual stream that layers read, with and without a ReLU behind the sum."""

    def __init__(self, clamp: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.act = nn.ReLU() if clamp else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[0](x)
        for layer in self.layers[1:]:
            x = self.act(x + layer(x))
        return x


def test_layers_read_copies_of_streams_that_nothing_clamps() -> None:
    inputs = torch.rand(32, 4)
    with_clamps, without = (trace(Streams(clamp).eval(), inputs) for clamp in (True, False))
    copies = [node for node in split_streams(without).nodes if node.op == "requantize"]
    assert len(copies) == 2
    assert [n.op for n in split_streams(with_clamps).nodes].count("requantize") == 1
    network = quantize_traced(without, inputs, Scheme("accurate"))
    for node in copies:
        assert network.grids[node.name].bits == 8
        assert network.grids[node.inputs[0]].bits == 16


def test_copies_have_names_of_their_own() -> None:
    nodes = (
        Node("input", "input"),
        Node("sum", "add", ("input", "input")),
        Node("sum.words", "linear", ("sum",)),
        Node("out", "add", ("sum", "sum.words")),
    )
    names = [node.name for node in split_streams(Graph(nodes, {})).nodes]
    assert names == ["input", "sum", "sum.words_", "sum.words", "out"]


def test_memory_that_a_layer_reads_too_keeps_8_bits() -> None:
    nodes = (
        Node("input", "input"),
        Node("w", "constant"),
        Node("sum", "add", ("input", "w")),
        Node("again", "constant", memory="w"),
        Node("product", "matmul", ("sum", "again")),
    )
    graph = Graph(nodes, {"w.weight": torch.rand(4, 4)})
    assert not vector_words(graph).parameters
    assert vector_words(Graph(nodes[:3], graph.tensors)).parameters == {"w"}


def test_range_of_parameters_can_be_shrunk() -> None:
    coded = encode_vector(torch.tensor([-1.0, 0.25, 1.0]), shrink=0.5)
    assert torch.allclose(coded.values(), torch.tensor([-0.5, 0.25, 0.5]), atol=1e-4)
