"""Integer networks on disk: words in safetensors, everything else in JSON. Never code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bitproof.core.errors import WeightsError, near
from bitproof.core.files import read_bytes, write_bytes, write_text
from bitproof.quant.fidelity import Fidelity
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.operations import MAC_OPS, OPERATIONS
from bitproof.quant.product_layer import check_products
from bitproof.quant.products import Products
from bitproof.quant.wide_outputs import can_be_wide

SCHEMA = 1
"""Version of the JSON layout."""


def save_network(network: IntegerNetwork, path: Path) -> None:
    """Write `path.safetensors` and `path.json`; `path` has no suffix.

    Raises:
        StorageError: the place cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    layout: dict[str, Any] = {"schema": SCHEMA, "rounding": network.rounding}
    layout |= {"nodes": [node.to_dict() for node in network.nodes], "tensors": {}, "grids": {}}
    for name, coded in network.tensors.items():
        tensors[f"codes.{name}"] = coded.codes
        layout["tensors"][name] = _describe(f"tensor.{name}", coded.grid, tensors)
    for name, grid in network.grids.items():
        layout["grids"][name] = _describe(f"grid.{name}", grid, tensors)
    if network.input_shape is not None:
        layout["input_shape"] = network.input_shape
    if network.products:
        layout["products"] = _describe_products(network.products, tensors)
    if network.fidelity:
        layout["fidelity"] = network.fidelity.to_dict()
    own = {key: value.cpu().contiguous().clone() for key, value in tensors.items()}
    write_bytes(_with(path, ".safetensors"), save(own))
    write_text(_with(path, ".json"), json.dumps(layout, indent=1) + "\n")


def load_network(path: Path) -> IntegerNetwork:
    """Read what `save_network` wrote; codes and outputs are bit-identical.

    Raises:
        WeightsError: a file is missing, truncated or does not fit the other.
    """
    for file in network_files(path):
        if not file.is_file():
            raise WeightsError(f"{file}: no such file")
    try:
        layout = json.loads(read_bytes(_with(path, ".json")))
        tensors = load(read_bytes(_with(path, ".safetensors")))
        if layout["schema"] != SCHEMA:
            raise WeightsError(f"{path}.json: wanted schema {SCHEMA}, got {layout['schema']}")
        nodes = tuple(Node(**{**one, "inputs": tuple(one["inputs"])}) for one in layout["nodes"])
        words = {
            name: CodedTensor(tensors[f"codes.{name}"], _grid(f"tensor.{name}", entry, tensors))
            for name, entry in layout["tensors"].items()
        }
        grids = {name: _grid(f"grid.{name}", one, tensors) for name, one in layout["grids"].items()}
        entries = layout.get("products", {})
        products = {name: _products(name, entry, tensors) for name, entry in entries.items()}
        sizes = layout.get("input_shape")  # absent in files from before it was kept
        shape = None if sizes is None else tuple(map(int, sizes))
        found = layout.get("fidelity")
        fidelity = None if found is None else Fidelity.from_dict(found)
        network = IntegerNetwork(nodes, words, grids, layout["rounding"], products, shape, fidelity)
        _check(network, path)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsError(f"{path}: not a network that bitproof wrote ({reason})") from None
    return network


def network_files(path: Path) -> tuple[Path, Path]:
    """Return the two files of a network."""
    return _with(path, ".json"), _with(path, ".safetensors")


def _check(network: IntegerNetwork, path: Path) -> None:
    """Check that the parts of a network fit each other."""
    known: dict[str, Node] = {}
    for node in network.nodes:
        problem = _problem(node, network, known)
        if problem:
            raise WeightsError(f"{path}: {node.name} ({node.op}): {problem}")
        known[node.name] = node
    for name, coded in network.tensors.items():
        if name.rpartition(".")[0] not in known or coded.codes.dtype != coded.grid.dtype:
            raise WeightsError(f"{path}: {name}: words of {coded.codes.dtype} that fit no node")
    for name, products in network.products.items():
        if name not in known:
            raise WeightsError(f"{path}: products of {name}, which is not there")
        check_products(known[name], products, network.tensors.get(f"{name}.weight"))
    if not known or network.nodes[0].op != "input":
        raise WeightsError(f"{path}: wanted a network that starts with its input")
    len(network.constants)  # prepared now, so that what is missing shows here


def _problem(node: Node, network: IntegerNetwork, known: Mapping[str, Node]) -> str:
    """Say what is wrong with a node behind those that are known; empty if nothing is."""
    if node.op not in OPERATIONS:
        return near(node.op, OPERATIONS)
    operation = OPERATIONS[node.op]
    if node.memory and (node.memory not in known or known[node.memory].memory):
        return f"shares the words of {node.memory}, which has none"
    problem = operation.problem(node.attrs, reads=len(node.inputs))
    if problem:
        return problem
    for key in operation.stores:
        if node.key(key) not in network.tensors:
            return f"no {key}"
    missing = [name for name in node.inputs if name not in known]
    if missing:
        return f"reads {missing[0]}, which is not there"
    return _problem_of_grids(node, network)


def _problem_of_grids(node: Node, network: IntegerNetwork) -> str:
    """Say whether an output without a grid is no last accumulator, and reads none of those."""
    bare = [name for name in node.inputs if name not in network.grids]
    has_grid = node.name in network.grids
    if bare and (has_grid or node.op in MAC_OPS or not can_be_wide(node)):
        return f"reads {bare[0]}, which has no grid"
    if not (has_grid or can_be_wide(node)):
        return "has no grid"
    if not (has_grid or bare or node.op in MAC_OPS):
        return "has no grid, but reads words"
    return ""


def _describe(key: str, grid: Grid, tensors: dict[str, Tensor]) -> dict[str, Any]:
    tensors[f"scale.{key}"] = torch.as_tensor(grid.scale)
    tensors[f"zero_point.{key}"] = torch.as_tensor(grid.zero_point)
    return {"bits": grid.bits, "signed": grid.signed, "axis": grid.axis}


def _grid(key: str, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Grid:
    words = (entry[name] for name in ("bits", "signed", "axis"))
    return Grid(tensors[f"scale.{key}"], tensors[f"zero_point.{key}"], *words)


def _describe_products(products: dict[str, Products], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Describe what multiplies in each node; tables that are equal are written once."""
    known: dict[bytes, int] = {}
    entries = {}
    for name, own in products.items():
        keys = [table.cpu().contiguous().numpy().tobytes() for table in own.tables]
        places = [known.setdefault(key, len(known)) for key in keys]
        for place, table in zip(places, own.tables, strict=True):
            tensors[f"table.{place}"] = table
        tensors[f"choice.{name}"], tensors[f"offset.{name}"] = own.choice, own.offset
        entries[name] = {"signed": own.signed, "tables": places, "names": list(own.names)}
    return entries


def _products(name: str, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Products:
    if not entry["tables"]:
        raise WeightsError(f"products of {name}: wanted at least one table, got none")
    tables = torch.stack([tensors[f"table.{place}"] for place in entry["tables"]])
    choice, offset = tensors[f"choice.{name}"], tensors[f"offset.{name}"]
    return Products(tables, entry["signed"], choice, offset, tuple(entry["names"]))


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
