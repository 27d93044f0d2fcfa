"""Rules for norms: a scale and a shift in evaluation mode, or moments of each input."""

import math
from typing import Any

import torch
from torch import Tensor

from bitproof.core.errors import TraceError
from bitproof.models.base import Normalize
from bitproof.models.norms import ScaledGroupNorm
from bitproof.quant.builder import Call, Ref, Rule
from bitproof.quant.rules.layers import stored

EPS = 1e-5


def batch_norm(call: Call, layer: Any) -> Ref:
    """Lower a batch norm in evaluation mode: a scale and a shift per channel."""
    names = ("running_mean", "running_var", "weight", "bias")
    tensors = {name: getattr(layer, name) for name in names}
    return _with_statistics(call, call.x, tensors, layer.eps)


def functional_batch_norm(*names: str) -> Rule:
    """Return the rule of a batch norm as a function with `names` after the input."""

    def rule(call: Call) -> Ref:
        given = {name: call.get(place, name) for place, name in enumerate(names, 1)}
        if given.get("training", False):
            raise TraceError(f"{call.path}: no rule for a norm by the statistics of the batch")
        kinds = ("running_mean", "running_var", "weight", "bias")
        tensors = stored(call, **{kind: given[kind] for kind in kinds})
        eps = given.get("eps")
        return _with_statistics(call, call.x, tensors, EPS if eps is None else float(eps))

    return rule


def _with_statistics(call: Call, x: Ref, tensors: dict[str, Any], eps: float) -> Ref:
    mean, variance, weight, bias = tensors.values()
    if mean is None:
        raise TraceError(f"{call.path}: wanted a batch norm with running statistics, got none")
    factor = torch.rsqrt(variance.double() + eps)
    factor = factor if weight is None else factor * weight.double()
    shift = -mean.double() * factor
    shift = shift if bias is None else shift + bias.double()
    return scale_channels(call, x, factor, shift, origin=(mean, variance, weight, bias))


def scale_channels(
    call: Call,
    x: Ref,
    factor: Tensor,
    shift: Tensor,
    origin: tuple[Tensor | None, ...] | None = None,
) -> Ref:
    """Append a scale and a shift along axis 1."""
    tensors = {"weight": factor, "bias": shift}
    return call.step("affine", x, shape=x.shape, rank=len(x.shape), tensors=tensors, origin=origin)


def normalize(call: Call, layer: Normalize) -> Ref:
    """Lower the model's own normalisation of the input."""
    mean, std = layer.mean.double().flatten(), layer.std.double().flatten()
    return scale_channels(call, call.x, 1 / std, -mean / std)


def layer_norm(call: Call, layer: Any = None) -> Ref:
    """Lower a layer norm."""
    shape, weight, bias, eps = call.given(layer, "normalized_shape", "weight", "bias", "eps")
    tensors = stored(call, weight=weight, bias=bias)
    eps = EPS if eps is None else eps
    return call.step(
        "layer_norm", call.x, shape=call.x.shape, axes=len(shape), eps=eps, tensors=tensors
    )


def rms_norm(call: Call, layer: Any = None) -> Ref:
    """Lower a norm by the root mean square."""
    shape, weight, eps = call.given(layer, "normalized_shape", "weight", "eps")
    eps = torch.finfo(torch.float32).eps if eps is None else eps
    tensors, rank = stored(call, weight=weight), len(call.x.shape)
    dims = list(range(rank - len(shape), rank))
    return call.emit("rms_norm", call.x, dims=dims, eps=float(eps), tensors=tensors)


def group_norm(call: Call, layer: Any = None) -> Ref:
    """Lower a group norm."""
    names = ("num_groups", "weight", "bias", "eps")
    groups, weight, bias, eps = call.given(layer, *names)
    eps = EPS if eps is None else eps
    return _group_norm(call, groups, stored(call, weight=weight, bias=bias), eps)


def scaled_group_norm(call: Call, layer: ScaledGroupNorm) -> Ref:
    """Lower a group norm that holds its scale less one."""
    tensors = {"weight": layer.weight, "bias": layer.bias}
    found = _group_norm(call, layer.num_groups, tensors, layer.eps)
    call.builder.less_one.add(f"{found.name}.weight")
    return found


def native_group_norm(call: Call) -> list[Any]:
    """Lower `aten.native_group_norm`, whose moments are not given."""
    tensors = stored(call, weight=call.get(1, "weight"), bias=call.get(2, "bias"))
    return [_group_norm(call, call.get(6, "group"), tensors, call.get(7, "eps")), None, None]


def _group_norm(call: Call, groups: int, tensors: dict[str, Any], eps: float) -> Ref:
    x = call.x
    return call.step("group_norm", x, shape=x.shape, groups=groups, eps=eps, tensors=tensors)


def instance_norm(call: Call, layer: Any = None) -> Ref:
    """Lower an instance norm: a group norm with one channel to a group."""
    if layer is not None:
        kinds = ("running_mean", "running_var", "weight", "bias")
        tensors, eps = {kind: getattr(layer, kind) for kind in kinds}, layer.eps
    else:  # aten: weight, bias, mean, variance, use_input_stats, momentum, eps
        kinds = ("weight", "bias", "running_mean", "running_var")
        given = {kind: call.get(place, kind) for place, kind in enumerate(kinds, 1)}
        tensors, eps = stored(call, **given), call.get(7, "eps")
        if call.get(5, "use_input_stats", True):
            tensors["running_mean"] = None
    if tensors["running_mean"] is not None:
        ordered = {k: tensors[k] for k in ("running_mean", "running_var", "weight", "bias")}
        return _with_statistics(call, call.x, ordered, eps)
    own = {kind: tensors[kind] for kind in ("weight", "bias")}
    return _group_norm(call, call.x.shape[1], own, eps)


def first_of(rule: Rule) -> Rule:
    """Return the rule of an operator that gives moments beside its result, which nobody reads."""
    return lambda call: [rule(call), None, None]


SMALL = 1e-5
"""Least lengths up to this only keep a norm from dividing by zero; larger ones are its function."""


def normalized(call: Call, x: Ref, divisor: Ref) -> Ref | None:
    """Append a norm, where a tensor is divided by its own length; None: it is not.

    The length is a `rms` node behind rescaling, a small lower bound and repetition.
    """
    nodes = {node.name: node for node in call.builder.nodes}
    node, factor, floor = nodes[divisor.name], 1.0, 0.0
    while node.op in {"expand", "rescale"} or node.attrs.get("function") == "clamp":
        if node.op == "rescale":
            factor *= node.attrs["factor"]
        elif node.op == "table":
            least = node.attrs["parameters"].get("min", 1.0)
            if "max" in node.attrs["parameters"] or not 0 <= least <= SMALL:
                return None
            floor = least / factor
        node = nodes[node.inputs[0]]
    if node.op != "rms" or node.inputs != (x.name,) or not node.attrs["keepdim"]:
        return None
    eps = max(floor * floor, node.attrs["eps"], 1e-24)
    found = call.step("rms_norm", x, shape=x.shape, dims=node.attrs["dims"], eps=eps)
    return call.rescale(found, 1 / factor)


def functional_normalize(call: Call) -> Ref:
    """Lower `x / max(|x|, eps)` along axes, with the Euclidean length."""
    power, dim = call.number(call.get(1, "p", 2.0)), call.get(2, "dim", 1)
    least = call.number(call.get(3, "eps", 1e-12))
    if power != 2:
        raise TraceError(f"{call.path}: no rule for a norm of order {power:g}")
    x, dims = call.x, list(dim) if isinstance(dim, tuple | list) else [dim]
    dims = [d % len(x.shape) for d in dims]
    shape = [1 if d in dims else size for d, size in enumerate(x.shape)]
    root = call.step("rms", x, shape=shape, dims=dims, keepdim=True, eps=0.0)
    length = call.rescale(root, math.prod(x.shape[d] for d in dims) ** 0.5)
    length = call.table(length, "clamp", min=least)
    return normalized(call, x, length) or call.emit("div", x, length)
