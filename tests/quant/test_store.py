"""Networks come back from disk bit for bit; anything else on disk is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bitproof.core.errors import BitproofError, WeightsError
from bitproof.core.rng import make_generator
from bitproof.quant import (
    AffineQuantizer,
    IntegerNetwork,
    Scheme,
    load_network,
    quantize,
    save_network,
)
from tests.quant.unsealed import save_unsealed


class Mixed(nn.Module):
    """Most kinds of node in one small network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.layer_norm, self.group_norm = nn.LayerNorm(4), nn.GroupNorm(2, 4)
        self.gain, self.head = nn.Parameter(torch.rand(4, 1, 1)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.gelu(self.norm(self.conv(x * 2 - 1)))
        x = self.group_norm(torch.nn.functional.max_pool2d(x, 2)) * self.gain
        x = x.flatten(2).transpose(1, 2)
        x = torch.softmax(x @ x.transpose(1, 2), -1) @ self.layer_norm(x)
        logits: Tensor = self.head(x.mean(1))
        return logits


IMAGES = torch.rand(16, 2, 6, 6, generator=make_generator(0))
SCHEMES = {
    "default": Scheme(),
    "signed": Scheme(
        weight=AffineQuantizer(bits=3, per_channel=True, signed=True),
        bias=None,
        activation_bits=5,
        activation_rounding="truncate",
    ),
}


@pytest.fixture(params=SCHEMES)
def network(request: pytest.FixtureRequest) -> IntegerNetwork:
    torch.manual_seed(0)
    return quantize(Mixed(), IMAGES, SCHEMES[request.param])


def test_network_comes_back_bit_for_bit(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "deep" / "network.v1")
    loaded = load_network(tmp_path / "deep" / "network.v1")
    assert [node.name for node in loaded.nodes] == [node.name for node in network.nodes]
    assert [*loaded.tensors] == [*network.tensors]
    assert [*loaded.grids] == [*network.grids]
    assert loaded.rounding == network.rounding
    for name, coded in network.tensors.items():
        assert torch.equal(loaded.tensors[name].codes, coded.codes)
        assert loaded.tensors[name].codes.dtype == coded.codes.dtype
        assert torch.equal(loaded.tensors[name].grid.scale, coded.grid.scale)
        assert torch.equal(loaded.tensors[name].grid.zero_point, coded.grid.zero_point)
    assert torch.equal(loaded(IMAGES), network(IMAGES))
    assert torch.equal(loaded.differentiable(IMAGES), network(IMAGES))


def test_saving_twice_writes_the_same_bytes(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "a")
    save_network(load_network(tmp_path / "a"), tmp_path / "b")
    for suffix in (".json", ".safetensors"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4  # nothing temporary is left


def refused(path: Path, match: str = "") -> None:
    with pytest.raises(WeightsError, match=match):
        load_network(path)


def test_missing_files_are_named(network: IntegerNetwork, tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "nothing.json: no such file")
    save_network(network, tmp_path / "half")
    (tmp_path / "half.safetensors").unlink()
    refused(tmp_path / "half", "half.safetensors")


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_truncated_files_are_refused(network: IntegerNetwork, suffix: str, tmp_path: Path) -> None:
    save_network(network, tmp_path / "n")
    path = tmp_path / f"n{suffix}"
    whole = path.read_bytes()
    for size in (0, 1, 7, len(whole) // 3, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:size])
        refused(tmp_path / "n", "n")


def test_pickles_are_not_read(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "n")
    torch.save({"codes": torch.zeros(1)}, tmp_path / "n.safetensors")
    refused(tmp_path / "n", "not a network")


def broken(layout: dict[str, Any], how: str) -> Any:
    """Return a layout with one thing wrong."""
    nodes = layout["nodes"]
    changes: dict[str, Any] = {
        "list": lambda: [layout],
        "null": lambda: None,
        "schema": lambda: {**layout, "schema": 99},
        "no nodes": lambda: {**layout, "nodes": []},
        "no tensors": lambda: {key: layout[key] for key in layout if key != "tensors"},
        "tensors as list": lambda: {**layout, "tensors": ["conv.weight"]},
        "grids as number": lambda: {**layout, "grids": 3},
        "unknown operation": lambda: {**layout, "nodes": [*nodes, {**nodes[-1], "op": "system"}]},
        "unknown function": lambda: {
            **layout,
            "nodes": [
                {**node, "attrs": {**node["attrs"], "function": "system"}}
                if node["op"] == "table"
                else node
                for node in nodes
            ],
        },
        "other attribute": lambda: {
            **layout,
            "nodes": [
                {**node, "attrs": {**node["attrs"], "strides": [1]}}
                if node["op"] == "conv"
                else node
                for node in nodes
            ],
        },
        "unknown input": lambda: {**layout, "nodes": [*nodes[:-1], {**nodes[-1], "inputs": ["x"]}]},
        "other order": lambda: {**layout, "nodes": nodes[::-1]},
        "no input": lambda: {**layout, "nodes": nodes[1:]},
        "node without op": lambda: {**layout, "nodes": [{"name": "a"}]},
        "other width": lambda: {
            **layout,
            "tensors": {
                name: {**entry, "signed": not entry["signed"]}
                for name, entry in layout["tensors"].items()
            },
        },
    }
    return changes[how]()


@pytest.mark.parametrize(
    "how",
    [
        "list",
        "null",
        "schema",
        "no nodes",
        "no tensors",
        "tensors as list",
        "grids as number",
        "unknown operation",
        "unknown function",
        "other attribute",
        "unknown input",
        "other order",
        "no input",
        "node without op",
        "other width",
    ],
)
def test_layouts_that_make_no_network_are_refused(
    network: IntegerNetwork, how: str, tmp_path: Path
) -> None:
    save_unsealed(network, tmp_path / "n")
    path = tmp_path / "n.json"
    path.write_text(json.dumps(broken(json.loads(path.read_text()), how)))
    refused(tmp_path / "n", "n")


def test_missing_tensors_are_named(network: IntegerNetwork, tmp_path: Path) -> None:
    save_unsealed(network, tmp_path / "n")
    tensors = load_file(tmp_path / "n.safetensors")
    for missing in ("codes.conv.weight", "scale.grid.conv", "zero_point.tensor.head.bias"):
        save_file(
            {key: value for key, value in tensors.items() if key != missing},
            tmp_path / "n.safetensors",
        )
        refused(tmp_path / "n", missing)


# Any change is noticed, wherever the files lie.


def test_any_flipped_bit_is_noticed(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "n")
    digest = network.digest()
    for suffix in (".json", ".safetensors"):
        path = tmp_path / f"n{suffix}"
        whole = path.read_bytes()
        for place in range(0, len(whole), 23):
            changed = bytearray(whole)
            changed[place] ^= 1 << place % 8
            path.write_bytes(changed)
            try:
                assert load_network(tmp_path / "n").digest() == digest  # white space
            except BitproofError:
                continue
        path.write_bytes(whole)


def test_tensors_of_another_network_are_refused(network: IntegerNetwork, tmp_path: Path) -> None:
    save_network(network, tmp_path / "n")
    words = {name: (codes ^ 1).to(codes.dtype) for name, (codes, _) in network.codes().items()}
    save_network(network.with_codes(words), tmp_path / "other")
    (tmp_path / "other.safetensors").replace(tmp_path / "n.safetensors")
    refused(tmp_path / "n", "the tensors are those of another network")
