"""Rewrites that keep a traced graph's function: fold norms, fuse clamps, absorb normalisation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bitproof.quant.graph import Graph, Node

FUSES_CLAMP = frozenset({"conv", "linear", "affine", "matmul", "add", "sub", "mul", "mean"})
"""Operations whose cut down to words can clamp at no cost."""


def simplify(graph: Graph) -> Graph:
    """Return an equivalent graph with fewer nodes."""
    for rewrite in (absorb_normalization, fold_affine, fuse_clamps):
        graph = rewrite(graph)
    return graph


def absorb_normalization(graph: Graph) -> Graph:
    """Move a per-channel scale and shift of the input into the input node."""
    users = graph.users()
    for node in graph.nodes:
        if node.op == "affine" and node.inputs == ("input",) and len(users["input"]) == 1:
            weight = graph.tensors[f"{node.name}.weight"].double()
            mean = -graph.tensors[f"{node.name}.bias"].double() / weight
            attrs = {"mean": mean.float().tolist(), "std": (1 / weight).float().tolist()}
            return _merge(graph, node, graph.nodes[0], _with_attrs(attrs))
    return graph


def _with_attrs(attrs: dict[str, Any]) -> Callable[[Node], Node]:
    return lambda first: replace(first, attrs={**first.attrs, **attrs})


def fold_affine(graph: Graph) -> Graph:
    """Fold a per-channel scale and shift into the convolution or linear layer before it."""
    while True:
        found = _find_pair(graph, {"affine"}, {"conv", "linear"}, where=_folds)
        if not found:
            return graph
        node, before = found
        scale, shift = (graph.tensors[f"{node.name}.{key}"].double() for key in ("weight", "bias"))
        weight = graph.tensors[f"{before.name}.weight"].double()
        bias = graph.tensors.get(f"{before.name}.bias", torch.zeros_like(shift)).double()
        tensors = dict(graph.tensors)
        tensors[f"{before.name}.weight"] = fold_weight(weight, scale).float()
        tensors[f"{before.name}.bias"] = (bias * scale + shift).float()
        graph = _merge(Graph(graph.nodes, tensors), node, before, lambda first: first)


def fold_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """Return `weight` with each output channel multiplied by its entry of `scale`."""
    return weight * scale.reshape([-1] + [1] * (weight.ndim - 1))


def _folds(node: Node, before: Node) -> bool:
    return "clamp" not in before.attrs and node.attrs == {}


def fuse_clamps(graph: Graph) -> Graph:
    """Let the operation before a clamp do the clamping."""
    while True:
        found = _find_pair(graph, {"table"}, FUSES_CLAMP, where=_clamps)
        if not found:
            return graph
        node, before = found
        bounds = node.attrs["parameters"]
        clamp = [bounds.get("min"), bounds.get("max")]
        graph = _merge(graph, node, before, _with_attrs({"clamp": clamp}))


def _clamps(node: Node, before: Node) -> bool:
    return node.attrs["function"] == "clamp" and "clamp" not in before.attrs


def _find_pair(
    graph: Graph,
    ops: set[str],
    before_ops: set[str] | frozenset[str],
    *,
    where: Callable[[Node, Node], bool],
) -> tuple[Node, Node] | None:
    """Return a node and the one before it, if that one has no other user."""
    users = graph.users()
    by_name = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        if node.op in ops:
            before = by_name[node.inputs[0]]
            if before.op in before_ops and len(users[before.name]) == 1 and where(node, before):
                return node, before
    return None


def _merge(graph: Graph, node: Node, before: Node, change: Callable[[Node], Node]) -> Graph:
    """Drop `node`, changing the one before it, which takes its place as an input."""
    nodes = []
    for other in graph.nodes:
        if other.name == node.name:
            continue
        kept = change(other) if other.name == before.name else other
        names = tuple(before.name if name == node.name else name for name in kept.inputs)
        nodes.append(replace(kept, inputs=names))
    tensors = {
        key: tensor for key, tensor in graph.tensors.items() if key.rpartition(".")[0] != node.name
    }
    return Graph(tuple(nodes), tensors)
