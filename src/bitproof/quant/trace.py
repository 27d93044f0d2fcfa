"""From a user's module to a graph: torch.fx traces it, two example runs tell the shapes.

The traced module is run on batches of two and of three images. A number that differs between the
runs is a multiple of the batch size; every other number is a constant of the graph. So shape
arithmetic in the user's code (`x.shape[0]`, `n, c, h, w = x.shape`, `view(b, -1)`) needs no rules.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from bitproof.core.errors import TraceError
from bitproof.models.normalize import Normalize
from bitproof.quant.builder import Builder, Call, Ref
from bitproof.quant.graph import BATCH, Graph
from bitproof.quant.rules import FUNCTION_RULES, MODULE_RULES
from bitproof.quant.simplify import simplify


class _Tracer(fx.Tracer):
    """Goes into every module but torch's own and `Normalize`, which have rules of their own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential | nn.ModuleList):
            return False
        rule = any(type(m) is kind for kind in MODULE_RULES)
        return rule or isinstance(m, Normalize) or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    """Keeps the value of every node of one example run."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.seen: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.seen[n.name] = super().run_node(n)
        return self.seen[n.name]


def trace(model: nn.Module, example: Float[Tensor, "n *features"]) -> Graph:
    """Return the graph of `model` in evaluation mode, batch norms folded, ReLUs fused.

    Args:
        model: any module that torch.fx can trace, with one input and one output tensor.
        example: at least one input of the right shape.

    Raises:
        TraceError: the model cannot be traced, or holds an operation without a rule; each such
            operation is named with its path.
    """
    return simplify(trace_as_is(model, example))


def trace_as_is(model: nn.Module, example: Float[Tensor, "n *features"]) -> Graph:
    """Return the graph of `model` with norms and activations as nodes of their own.

    Raises:
        TraceError: as for `trace`.
    """
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return _lower(model, example)
    finally:
        for module, mode in training.items():
            module.training = mode


def _lower(model: nn.Module, example: Tensor) -> Graph:
    try:
        module = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:  # fx raises whatever the user's forward raised
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TraceError(
            f"{type(model).__name__}: torch.fx cannot trace its forward ({reason}). Wanted a "
            "forward without branches or loops that depend on tensor values."
        ) from error
    runs = [_record(module, _batch(example, n)) for n in (2, 3)]
    builder = Builder()
    refs: dict[str, Any] = {}
    problems: list[str] = []
    for node in module.graph.nodes:
        try:
            refs[node.name] = _lower_node(node, module, runs, builder, refs)
        except TraceError as error:
            problems.append(str(error))
            refs[node.name] = builder.unknown(runs[0].get(node.name))
    if problems:
        raise TraceError("; ".join(dict.fromkeys(problems)))
    return Graph(tuple(builder.nodes), builder.tensors)


def _batch(example: Tensor, n: int) -> Tensor:
    return example[:1].expand(n, *example.shape[1:]).contiguous()


def _record(module: fx.GraphModule, inputs: Tensor) -> dict[str, Any]:
    recorder = _Recorder(module)
    try:
        with torch.no_grad():
            recorder.run(inputs)
    except Exception as error:
        raise TraceError(
            f"example: the model does not run on inputs of shape {tuple(inputs.shape)} "
            f"({str(error).splitlines()[0]})"
        ) from error
    return recorder.seen


def _lower_node(
    node: fx.Node,
    module: fx.GraphModule,
    runs: list[dict[str, Any]],
    builder: Builder,
    refs: dict[str, Any],
) -> Any:
    path = _path(node)
    if node.op == "placeholder":
        if any(other.op == "input" for other in builder.nodes):
            raise TraceError(f"{node.name}: wanted a model with one input, got a second one")
        return Ref(builder.emit("input", path="input"), tuple(runs[0][node.name].shape))
    if node.op == "output":
        return _output(node, builder, refs)
    value = runs[0][node.name]
    if not _holds_tensor(value):
        return _constant(node, runs)
    if node.op == "get_attr":
        return builder.constant(value, path=str(node.target))
    call = Call(
        args=tuple(_resolve(arg, refs) for arg in node.args),
        kwargs={key: _resolve(arg, refs) for key, arg in node.kwargs.items()},
        value=value,
        shape=_shape(node, runs),
        path=path,
        builder=builder,
    )
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        rule = MODULE_RULES.get(Normalize if isinstance(layer, Normalize) else type(layer))
        if rule is None:
            raise TraceError(f"{path}: no rule to quantize a {type(layer).__name__}")
        return rule(call, layer)
    name = node.target if isinstance(node.target, str) else node.target.__name__
    name = str(name).strip("_")
    function = FUNCTION_RULES.get(name) or FUNCTION_RULES.get(name.removeprefix("i"))
    if function is None:
        raise TraceError(f"{path}: no rule to quantize the operation '{name}'")
    return function(call)


def _output(node: fx.Node, builder: Builder, refs: dict[str, Any]) -> Any:
    result = _resolve(node.args[0], refs)
    if not isinstance(result, Ref):
        raise TraceError("output: wanted one tensor, got " + type(result).__name__)
    builder.finish(result)
    return result


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


def _constant(node: fx.Node, runs: list[dict[str, Any]]) -> Any:
    """Return a number, shape or other non-tensor as the graph stores it."""
    return _merge(runs[0][node.name], runs[1][node.name], _path(node))


def _merge(two: Any, three: Any, path: str) -> Any:
    if isinstance(two, tuple | list):
        return [_merge(a, b, path) for a, b in zip(two, three, strict=True)]
    if two == three:
        return two
    if isinstance(two, int) and two % 2 == 0 and two // 2 * 3 == three:
        return [BATCH, two // 2]
    raise TraceError(f"{path}: wanted a number that is a multiple of the batch, got {two}, {three}")


def _shape(node: fx.Node, runs: list[dict[str, Any]]) -> list[Any]:
    value, other = runs[0][node.name], runs[1][node.name]
    if not isinstance(value, Tensor):
        return []
    return _merge(tuple(value.shape), tuple(other.shape), _path(node))


def _resolve(arg: Any, refs: dict[str, Any]) -> Any:
    if isinstance(arg, fx.Node):
        return refs[arg.name]
    if isinstance(arg, slice):
        return slice(_resolve(arg.start, refs), _resolve(arg.stop, refs), _resolve(arg.step, refs))
    if isinstance(arg, tuple | list):
        return [_resolve(item, refs) for item in arg]
    return arg
