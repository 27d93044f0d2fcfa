"""Rewrites that keep a traced graph's function: fold norms, fuse clamps, absorb normalisation."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bitproof.core.errors import TraceError
from bitproof.quant.graph import Graph, Node
from bitproof.quant.operations import CLAMPING_OPS, MOVING_OPS


def simplify(graph: Graph) -> Graph:
    """Return an equivalent graph with fewer nodes."""
    for rewrite in (absorb_normalization, fold_affine, fuse_clamps, mark_masks):
        graph = rewrite(graph)
    return graph


def absorb_normalization(graph: Graph) -> Graph:
    """Move scales and shifts of the input, per channel or of all, into the input node."""
    while True:
        first = graph.nodes[0]
        users = graph.users()[first.name]
        found = _scale_and_shift(users[0], graph) if len(users) == 1 else None
        if found is None or not bool((found[0].isfinite() & (found[0] != 0)).all()):
            return graph
        scale, shift = found
        mean, std = (
            torch.tensor(first.attrs.get(key, [neutral]), dtype=torch.float64, device=scale.device)
            for key, neutral in (("mean", 0.0), ("std", 1.0))
        )
        # ((x - mean) / std) * scale + shift, written as (x - mean) / std again.
        mean, std = mean - shift * std / scale, std / scale
        attrs = {"mean": mean.float().tolist(), "std": std.float().tolist()}
        graph = _merge(graph, users[0], first, attrs)
        unread = {name for name, readers in graph.users().items() if not readers}
        graph = _without(graph, {n.name for n in graph.nodes if n.op == "constant"} & unread)


def _scale_and_shift(node: Node, graph: Graph) -> tuple[Tensor, Tensor] | None:
    """Return the factor and the summand that a node puts on the input; None: it does more."""
    if node.op == "affine" and node.name not in graph.sharing():
        scale, shift = (graph.tensors[node.key(key)].double() for key in ("weight", "bias"))
        return scale, shift
    first = graph.nodes[0]
    if node.op in {"add", "sub", "mul"}:
        other = node.inputs[1] if node.inputs[0] == first.name else node.inputs[0]
        value = _per_channel(graph.tensors.get(f"{other}.weight"), first.attrs["rank"])
        if value is None:
            return None
        if node.op == "sub" and other == node.inputs[0]:
            return torch.full_like(value, -1.0), value
    elif node.op == "rescale":
        value = torch.tensor([node.attrs["factor"]], dtype=torch.float64)
    elif node.op == "table" and node.attrs["function"] in {"shift", "multiply"}:
        value = torch.tensor([node.attrs["parameters"]["other"]], dtype=torch.float64)
    else:
        return None
    if node.op in {"mul", "rescale"} or node.attrs.get("function") == "multiply":
        return value, torch.zeros_like(value)
    return torch.ones_like(value), -value if node.op == "sub" else value


def _per_channel(stored: Tensor | None, rank: int) -> Tensor | None:
    """Return a stored tensor that varies along axis 1 only as a vector."""
    if stored is None or stored.ndim > rank:
        return None
    shape = (1,) * (rank - stored.ndim) + tuple(stored.shape)
    varies = any(size != 1 for axis, size in enumerate(shape) if axis != 1)
    return None if varies else stored.double().flatten()


def fold_affine(graph: Graph) -> Graph:
    """Fold a per-channel scale and shift into the convolution or linear layer before it."""
    while True:
        found = _find_pair(graph, {"conv", "linear"}, where=folds)
        if not found:
            return graph
        node, before = found
        scale, shift = (graph.tensors[node.key(key)].double() for key in ("weight", "bias"))
        weight = graph.tensors[f"{before.name}.weight"].double()
        bias = graph.tensors.get(f"{before.name}.bias", torch.zeros_like(shift)).double()
        factors = scale.reshape([-1] + [1] * (weight.ndim - 1))
        folded = {"weight": weight * factors, "bias": bias * scale + shift}
        tensors = {f"{before.name}.{key}": value.float() for key, value in folded.items()}
        tensors = {**graph.tensors, **tensors}
        graph = _merge(replace(graph, tensors=tensors), node, before, {})


def folds(node: Node, before: Node) -> bool:
    """Tell whether a node is a scale and shift of the output channels of the layer before it."""
    if node.op != "affine":
        return False
    # The channels of a linear layer lie on its last axis, which is axis 1 of two only.
    aligned = before.op != "linear" or node.attrs["rank"] == 2
    return aligned and "clamp" not in before.attrs and "clamp" not in node.attrs


def fuse_clamps(graph: Graph) -> Graph:
    """Let the operation before a clamp do the clamping."""
    while True:
        found = _find_pair(graph, CLAMPING_OPS, where=_clamps)
        if not found:
            return graph
        node, before = found
        bounds = node.attrs["parameters"]
        clamp = [bounds.get("min"), bounds.get("max")]
        graph = _merge(graph, node, before, {"clamp": clamp})


def mark_masks(graph: Graph) -> Graph:
    """Tell each softmax behind a mask, and what only moves words between, that it is there."""
    masked: set[str] = set()
    nodes = []
    for node in graph.nodes:
        if node.op == "mask" or (node.op in MOVING_OPS and node.inputs[0] in masked):
            masked.add(node.name)
        elif node.op == "softmax" and node.inputs[0] in masked:
            node = replace(node, attrs={**node.attrs, "masked": True})  # noqa: PLW2901
        elif masked.intersection(node.inputs):
            raise TraceError(
                f"{node.path}: wanted a softmax behind the mask of scores, got {node.op}"
            )
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _clamps(node: Node, before: Node) -> bool:
    return node.attrs.get("function") == "clamp" and "clamp" not in before.attrs


def _find_pair(
    graph: Graph, ops: Collection[str], *, where: Callable[[Node, Node], bool]
) -> tuple[Node, Node] | None:
    """Return a node and the one before it, of some operation, if that one has no other user."""
    users, shared = graph.users(), graph.sharing()
    by_name = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        before = by_name[node.inputs[0]] if node.inputs else node
        if node.op == "affine" and {node.name, before.name} & shared:
            continue
        if before.op in ops and len(users[before.name]) == 1 and where(node, before):
            return node, before
    return None


def _merge(graph: Graph, node: Node, before: Node, attrs: dict[str, Any]) -> Graph:
    """Drop `node`; the one before it takes its place as an input, and further attributes."""
    nodes = []
    for other in graph.nodes:
        inputs = tuple(before.name if name == node.name else name for name in other.inputs)
        added = attrs if other.name == before.name else {}
        nodes.append(replace(other, inputs=inputs, attrs={**other.attrs, **added}))
    return _without(replace(graph, nodes=tuple(nodes)), {node.name})


def _without(graph: Graph, names: Collection[str]) -> Graph:
    return graph.keep([node for node in graph.nodes if node.name not in names])
