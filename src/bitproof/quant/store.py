"""Integer networks on disk: words in safetensors, everything else in JSON. Never code."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from bitproof.core.errors import BitproofError, ChecksumError, WeightsError
from bitproof.core.files import read_bytes, sha256_of_file, write_text
from bitproof.core.tensor_files import parse_tensors, write_tensors
from bitproof.quant.fidelity import Fidelity
from bitproof.quant.graph import Node
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.layout import (
    SCHEMA,
    check_all_read,
    check_sums,
    check_tensors,
    layout_sha256,
    read_layout,
)
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.products import WORDS, Products
from bitproof.quant.validation import check_network

LONGEST_REASON = 400
"""Characters of what is said to be wrong with a file."""


def save_network(network: IntegerNetwork, path: Path | str) -> None:
    """Write `path.safetensors` and `path.json`; `path` has no suffix.

    Raises:
        StorageError: the place cannot be written.
    """
    path = Path(path)
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
    write_tensors(_with(path, ".safetensors"), tensors)
    layout["words_sha256"] = sha256_of_file(_with(path, ".safetensors"))
    layout["sha256"] = layout_sha256(layout)
    write_text(_with(path, ".json"), json.dumps(layout, indent=1) + "\n")


def load_network(path: Path | str) -> IntegerNetwork:
    """Read what `save_network` wrote; codes and outputs are bit-identical.

    All that the files claim is checked: what loads runs on images of its input shape.

    Raises:
        ChecksumError: a file changed since it was written.
        WeightsError: a file is missing, truncated or does not fit the other, or what they hold is
            no network that runs.
    """
    path = Path(path)
    for file in network_files(path):
        if not file.is_file():
            raise WeightsError(f"{file}: no such file")
    try:
        layout = read_layout(read_bytes(_with(path, ".json")))
        content = read_bytes(_with(path, ".safetensors"))
        check_sums(layout, content)
        tensors, _ = parse_tensors(content, _with(path, ".safetensors"))
        check_tensors(layout, tensors)
        network = _build(layout, tensors)
        check_network(network)
        check_all_read(layout, tensors)
    except ChecksumError:
        raise
    except (BitproofError, SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise WeightsError(f"{path}: not a network that bitproof wrote ({reason})") from None
    return network


def network_files(path: Path) -> tuple[Path, Path]:
    """Return the two files of a network."""
    return _with(path, ".json"), _with(path, ".safetensors")


def _build(layout: dict[str, Any], tensors: dict[str, Tensor]) -> IntegerNetwork:
    """Return the network that a layout and its tensors describe."""
    nodes = tuple(Node(**{**one, "inputs": tuple(one["inputs"])}) for one in layout["nodes"])
    words = {
        name: CodedTensor(tensors[f"codes.{name}"], _grid(f"tensor.{name}", entry, tensors))
        for name, entry in layout["tensors"].items()
    }
    grids = {name: _grid(f"grid.{name}", one, tensors) for name, one in layout["grids"].items()}
    entries = layout.get("products", {})
    products = {name: _products(name, entry, tensors) for name, entry in entries.items()}
    sizes, found = layout.get("input_shape"), layout.get("fidelity")
    shape = None if sizes is None else tuple(sizes)
    fidelity = None if found is None else Fidelity.from_dict(found)
    return IntegerNetwork(nodes, words, grids, layout["rounding"], products, shape, fidelity)


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
    if any(tensors[f"table.{place}"].shape != (WORDS, WORDS) for place in entry["tables"]):
        raise WeightsError(f"products of {name}: wanted tables of {WORDS} x {WORDS} products")
    tables = torch.stack([tensors[f"table.{place}"] for place in entry["tables"]])
    choice, offset = tensors[f"choice.{name}"], tensors[f"offset.{name}"]
    return Products(tables, entry["signed"], choice, offset, tuple(entry["names"]))


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
