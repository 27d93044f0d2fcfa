"""From a user's module to a graph: torch.fx traces it, two example runs tell the shapes.

The traced module is run on two batches of different size and brightness. A number that differs
between the runs is a multiple of the batch size; every other number is a constant of the graph. So
shape arithmetic in the user's code (`x.shape[0]`, `n, c, h, w = x.shape`, `view(b, -1)`) needs no
rules, and neither does what is computed from weights alone: it is stored as a constant. At the end
the graph has to give what the model gave.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from bitproof.core.errors import TraceError
from bitproof.models.base import Normalize
from bitproof.models.user_module import traceable
from bitproof.quant.builder import Builder, Call, Ref
from bitproof.quant.example_runs import RUNS, Values, example_batches, record, symbolic, untouched
from bitproof.quant.floats import run_floats
from bitproof.quant.graph import BATCH, Graph
from bitproof.quant.rules import FUNCTION_RULES, MODULE_RULES
from bitproof.quant.simplify import simplify


def trace(model: nn.Module, example: Float[Tensor, "n *features"]) -> Graph:
    """Return the graph of `model` in evaluation mode, batch norms folded, ReLUs fused.

    Args:
        model: any module that torch.fx can trace, with one input and one output tensor; further
            inputs keep their defaults. It is left as it was.
        example: at least one input of the right shape.

    Raises:
        TraceError: the model cannot be traced, or holds an operation without a rule; each such
            operation is named with its path.
    """
    return simplify(trace_as_is(model, example))


def trace_as_is(model: nn.Module, example: Float[Tensor, "n *features"]) -> Graph:
    """Return the graph as `trace` does, with norms and activations as nodes of their own."""
    model = traceable(model, example)
    with untouched(model):
        model.eval()
        module = symbolic(model)
        runs = record(module, example)
        graph = _lower(module, runs)
        _check(graph, type(model).__name__, example, runs[1])
        return graph


def _lower(module: fx.GraphModule, runs: list[Values]) -> Graph:
    builder = Builder()
    refs: dict[str, Any] = {}
    problems: list[str] = []
    fixed: set[str] = set()
    owners: dict[int, list[str]] = {}
    for node in module.graph.nodes:
        values = (runs[0][node.name], runs[1][node.name])
        if _is_fixed(node, values, fixed):
            fixed.add(node.name)
        try:
            refs[node.name] = _lower_node(
                node, module, builder, refs, values=values, fixed=node.name in fixed
            )
        except TraceError as error:
            problems.append(str(error))
            refs[node.name] = builder.unknown(values[0])
        if isinstance(values[0], Tensor):
            # A call that returns its argument may have changed it in place: the names that it
            # had before mean the result from now on.
            names = owners.setdefault(id(values[0]), [])
            names.append(node.name)
            refs.update(dict.fromkeys(names, refs[node.name]))
    if problems:
        raise TraceError("; ".join(dict.fromkeys(problems)))
    return Graph(tuple(builder.nodes), builder.tensors, frozenset(builder.less_one))


def _is_fixed(node: fx.Node, values: tuple[Any, Any], fixed: set[str]) -> bool:
    """Tell whether a node's value depends neither on the images nor on how many there are."""
    if node.op in {"placeholder", "output"}:
        return False
    if not _holds_tensor(values[0]):
        return bool(values[0] == values[1])
    return all(other.name in fixed for other in node.all_input_nodes)


def _lower_node(
    node: fx.Node,
    module: fx.GraphModule,
    builder: Builder,
    refs: dict[str, Any],
    *,
    values: tuple[Any, Any],
    fixed: bool,
) -> Any:
    """Return what a traced node is in the graph, given its value in each example run."""
    path, (first, second) = _path(node), values
    resolve = partial(fx.node.map_arg, fn=lambda other: refs[other.name])
    if node.op == "output":
        return _output(resolve(node.args[0]), values, builder)
    if not _holds_tensor(first):
        return _merge(first, second, path)
    if node.op == "placeholder":
        name = builder.emit("input", path="input", attrs={"rank": first.ndim})
        return Ref(name, tuple(first.shape))
    if fixed:
        return _constants(first, builder, str(node.target) if node.op == "get_attr" else path)
    rule, shape = _rule_of(node, module, path), _shape(first, second, path)
    return rule(Call(resolve(node.args), resolve(node.kwargs), first, shape, path, builder))


def _constants(value: Any, builder: Builder, path: str) -> Any:
    if isinstance(value, tuple | list):
        return [_constants(item, builder, path) for item in value]
    return builder.constant(value, path=path) if isinstance(value, Tensor) else value


def _rule_of(node: fx.Node, module: fx.GraphModule, path: str) -> Callable[[Call], Any]:
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        rule = MODULE_RULES.get(Normalize if isinstance(layer, Normalize) else type(layer))
        if rule is None:
            raise TraceError(f"{path}: no rule to quantize a {type(layer).__name__}")
        return lambda call: rule(call, layer)
    name = node.target if isinstance(node.target, str) else node.target.__name__
    name = str(name).strip("_")
    function = FUNCTION_RULES.get(name) or FUNCTION_RULES.get(name.removeprefix("i"))
    if function is None:
        raise TraceError(f"{path}: no rule to quantize the operation '{name}'")
    return function


def _output(result: Any, values: tuple[Any, Any], builder: Builder) -> Ref:
    if not isinstance(result, Ref):
        kind = type(result).__name__.removeprefix("immutable_")
        raise TraceError(f"output: wanted one tensor, got {kind}")
    if _shape(*values, "output")[0] != [BATCH, 1]:
        raise TraceError(
            f"output: wanted one row for each image, got shape {tuple(values[0].shape)} "
            f"for {RUNS[0][0]} images"
        )
    builder.finish(result)
    return result


def _check(graph: Graph, name: str, example: Tensor, run: Values) -> None:
    """Compare the graph with the second example run, whose last value is the model's output."""
    wanted = list(run.values())[-1]
    with torch.no_grad():
        got = run_floats(graph, example_batches(example)[1])
    off = float((got - wanted).abs().max()) if got.shape == wanted.shape else float("inf")
    if off > 1e-3 * (1 + float(wanted.abs().max())):
        raise TraceError(
            f"{name}: its graph is off by {off:g}. Wanted a forward without randomness, memory of "
            "earlier calls, or changes to a tensor through a view of it."
        )


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    inner = next(reversed(stack.values()))[0] if stack else ""
    if node.op == "call_module":
        return str(node.target)
    return f"{inner}.{node.name}" if inner else node.name


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(item) for item in value)
    return isinstance(value, Tensor)


def _merge(first: Any, second: Any, path: str) -> Any:
    """Return a number, shape or other non-tensor as the graph stores it."""
    if isinstance(first, tuple | list):
        return [_merge(a, b, path) for a, b in zip(first, second, strict=True)]
    if first == second:
        return first
    (n, _), (m, _) = RUNS
    if isinstance(first, int) and first % n == 0 and first // n * m == second:
        return [BATCH, first // n]
    raise TraceError(
        f"{path}: wanted a number that does not depend on the images, or a multiple of their "
        f"count, got {first} for {n} images and {second} for {m}"
    )


def _shape(first: Any, second: Any, path: str) -> list[Any]:
    """Return the shape of a tensor result, the batch marked; empty for several results."""
    if isinstance(first, tuple | list):
        for pair in zip(first, second, strict=True):
            _shape(*pair, path)
    if not isinstance(first, Tensor):
        return []
    shape: list[Any] = _merge(tuple(first.shape), tuple(second.shape), path)
    if sum(isinstance(size, list) for size in shape) != 1:
        raise TraceError(
            f"{path}: wanted a result for each image, got shape {tuple(first.shape)} "
            f"for {RUNS[0][0]} images"
        )
    return shape
