"""A user's module as torch.fx sees it, and two example runs of it; the module stays as it was."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitproof.core.errors import TraceError
from bitproof.models.base import Normalize
from bitproof.quant.rules import MODULE_RULES

RUNS = ((2, 1.0), (5, 0.75))
"""Images in each example run, and how bright they are."""

Values = dict[str, Any]
"""The value of every traced node in one run, by name."""


class _Tracer(fx.Tracer):
    """Goes into every module but torch's own and those that have a rule."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential | nn.ModuleList):
            return False
        return has_rule(m) or super().is_leaf_module(m, module_qualified_name)


def symbolic(model: nn.Module) -> fx.GraphModule:
    """Return what torch.fx makes of `model`; its optional inputs keep their defaults."""
    root = nn.Sequential(model) if has_rule(model) else model
    tracer = _Tracer()
    try:
        module = fx.GraphModule(root, tracer.trace(root, concrete_args=_defaults(root)))
    except Exception as error:  # fx raises whatever the user's forward raised
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        inside = [path for path, _ in tracer.module_stack.values()]
        where = inside[-1] if inside else type(model).__name__
        raise TraceError(
            f"{where}: torch.fx cannot trace its forward ({reason}). Wanted a "
            "forward without branches or loops that depend on tensor values."
        ) from error
    inputs = [str(node.target) for node in module.graph.nodes if _is_required(node)]
    if len(inputs) != 1:
        raise TraceError(
            f"{type(model).__name__}: wanted a model with one input, "
            f"got {', '.join(inputs) or 'none'}"
        )
    return module


def has_rule(module: nn.Module) -> bool:
    """Tell whether a module is lowered as a whole, not traced into."""
    return type(module) in MODULE_RULES or isinstance(module, Normalize)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Return the defaults of the forward's optional arguments."""
    parameters = inspect.signature(model.forward).parameters.values()
    plain = (bool, int, float, str, type(None))
    return {one.name: one.default for one in parameters if isinstance(one.default, plain)}


def _is_required(node: fx.Node) -> bool:
    return node.op == "placeholder" and not node.args and not str(node.target).startswith("*")


def record(module: fx.GraphModule, example: Tensor) -> list[Values]:
    """Return the value of every node in each of the `RUNS`."""
    runs = []
    for images in example_batches(example):
        interpreter = fx.Interpreter(module, garbage_collect_values=False)
        try:
            with torch.no_grad():
                interpreter.run(images)
        except Exception as error:  # whatever the user's forward raises
            raise TraceError(
                f"example: the model does not run on inputs of shape {tuple(images.shape)} "
                f"({str(error).splitlines()[0]})"
            ) from error
        runs.append({node.name: value for node, value in interpreter.env.items()})
    return runs


def example_batches(example: Tensor) -> list[Tensor]:
    """Return the inputs of the `RUNS`: the first image, several times, in new memory."""
    return [example[:1].repeat(n, *[1] * (example.ndim - 1)) * light for n, light in RUNS]


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put back every attribute of every module: modes, and what fx or a forward leaves behind."""
    holders: list[dict[str, Any]] = []
    for module in model.modules():
        holders += [vars(module), module._parameters, module._buffers]
    before = [dict(holder) for holder in holders]
    try:
        yield
    finally:
        for holder, content in zip(holders, before, strict=True):
            holder.clear()
            holder.update(content)
