"""Capture by torch.fx, which keeps the modules of the user's model as calls."""

import inspect
from functools import partial
from typing import Any

from torch import Tensor, fx, nn

from bitproof.core.errors import TraceError
from bitproof.models.base import Normalize
from bitproof.quant.capture import (
    Captured,
    Step,
    Values,
    example_batches,
    first_line,
    line_in,
    line_of,
    run_once,
)
from bitproof.quant.rules import MODULE_RULES


def capture_fx(model: nn.Module, example: Tensor) -> Captured:
    """Return the calls of `model`; its optional inputs keep their defaults.

    Raises:
        TraceError: torch.fx cannot trace it, or it does not run on the example.
    """
    module = _symbolic(model)
    runs: list[Values] = []
    for images in example_batches(example):
        interpreter = fx.Interpreter(module, garbage_collect_values=False)
        run_once(model, images, partial(interpreter.run, images))
        runs.append({node.name: value for node, value in interpreter.env.items()})
    return Captured([_step(node, module, runs) for node in module.graph.nodes], "fx")


def has_rule(module: nn.Module) -> bool:
    """Tell whether a module is lowered as a whole, not traced into."""
    return type(module) in MODULE_RULES or isinstance(module, Normalize)


class _Tracer(fx.Tracer):
    """Goes into every module but torch's own and those that have a rule."""

    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential | nn.ModuleList):
            return False
        return has_rule(m) or super().is_leaf_module(m, module_qualified_name)


def _symbolic(model: nn.Module) -> fx.GraphModule:
    root = nn.Sequential(model) if has_rule(model) else model
    tracer = _Tracer()
    try:
        module = fx.GraphModule(root, tracer.trace(root, concrete_args=_defaults(root)))
    except Exception as error:  # fx raises whatever the user's forward raised
        inside = [path for path, _ in tracer.module_stack.values()]
        where = inside[-1] if inside else type(model).__name__
        raise TraceError(
            f"{where}: torch.fx cannot trace its forward ({first_line(error)}){line_of(error)}"
        ) from error
    return module


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Return the defaults of the forward's optional arguments."""
    parameters = inspect.signature(model.forward).parameters.values()
    plain = (bool, int, float, str, type(None))
    return {one.name: one.default for one in parameters if isinstance(one.default, plain)}


def _step(node: fx.Node, module: fx.GraphModule, runs: list[Values]) -> Step:
    kinds = {"placeholder": "input", "get_attr": "stored", "call_module": "layer"}
    kind: Any = "output" if node.op == "output" else kinds.get(node.op, "function")
    target: Any = node.target
    if kind == "layer":
        target = module.get_submodule(str(node.target))
    elif kind == "function":
        name = target if isinstance(target, str) else target.__name__
        target = str(name).strip("_")
    return Step(
        name=node.name,
        kind=kind,
        target=target,
        path=_path(node),
        arguments=((node.args, node.args), (node.kwargs, node.kwargs)),
        reads=tuple(other.name for other in node.all_input_nodes),
        values=(runs[0].get(node.name), runs[1].get(node.name)),
        where=line_in(node.stack_trace),
    )


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    inner = next(reversed(stack.values()))[0] if stack else ""
    if node.op in {"call_module", "get_attr"}:
        return str(node.target)
    return f"{inner}.{node.name}" if inner else node.name
