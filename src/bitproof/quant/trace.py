"""From a user's module to a graph: it is captured call by call, each lowered by its rule.

torch.fx comes first, since it keeps layers whole; where it fails or a call has no rule,
torch.export. At the end the graph has to give what the model gave.
"""

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor, nn

from bitproof.core.errors import TraceError
from bitproof.models.base import Normalize
from bitproof.models.user_module import traceable
from bitproof.quant.builder import UNEQUAL, Builder, Call, Ref, Rule
from bitproof.quant.capture import (
    RUNS,
    Captured,
    Step,
    example_batches,
    first_line,
    leaves,
    merge,
    run_once,
    untouched,
)
from bitproof.quant.capture_export import capture_export
from bitproof.quant.capture_fx import capture_fx
from bitproof.quant.floats import run_floats
from bitproof.quant.graph import BATCH, Graph
from bitproof.quant.rules import FUNCTION_RULES, MODULE_RULES, operator_rule
from bitproof.quant.simplify import simplify

LOG = logging.getLogger(__name__)
Capture = Callable[[nn.Module, Tensor], Captured]
OUTPUTS = ("logits", "out", "prediction_logits", "prediction_outputs")
"""Which of several outputs is the network's, where one has such a name."""
ODD = (TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError)
"""What a rule raises on arguments that it does not know."""
SHAPED = frozenset(
    {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full"}
)
"""Functions that read a tensor for its shape only."""
QUANTIZED_LAYERS = "torch.ao.nn."
QUANTIZED_CALLS = ("quantized.", "quantized_decomposed.")
QUANTIZING = (
    *(torch.quantize_per_tensor, torch.quantize_per_channel),
    torch.quantize_per_tensor_dynamic,
)
"""How torch's own layers and calls of words are known; nobody's file `quantized.py` is one."""
FLOAT_SUMS = frozenset({"FloatFunctional", "FXFloatFunctional"})
"""Layers among those of words that compute with floats until a model is converted."""


def trace(model: nn.Module, example: Num[Tensor, "n *features"]) -> Graph:
    """Return the graph of `model` in evaluation mode, batch norms folded, ReLUs fused.

    Args:
        model: any module with one input that torch.fx or torch.export captures; further inputs
            keep their defaults. It is left as it was.
        example: at least one input of the right shape.

    Raises:
        TraceError: the model cannot be captured, or holds an operation without a rule; each such
            operation is named with its path.
    """
    return simplify(trace_as_is(model, example))


def trace_as_is(model: nn.Module, example: Num[Tensor, "n *features"]) -> Graph:
    """Return the graph as `trace` does, with norms and activations as nodes of their own."""
    _check_floats(model)
    model = traceable(model, example)
    with untouched(model):
        model.eval()
        try:
            return _lowered(model, example, capture_fx)
        except TraceError as by_fx:
            try:
                return _lowered(model, example, capture_export)
            except TraceError as by_export:
                raise _reason(by_fx, by_export) from by_export


def _check_floats(model: nn.Module) -> None:
    """Check that nobody has quantized a model already."""
    if quantized_by_torch(model):
        raise TraceError(
            f"{type(model).__name__}: wanted a float model, got one that torch quantized; "
            "bp.from_torch_quantized(model, images) reads it with its scales"
        )


def quantized_by_torch(model: nn.Module) -> bool:
    """Tell whether torch converted a model to words: its layers, or calls of its graph.

    Example:
        >>> quantized_by_torch(nn.ReLU())
        False
    """
    kinds = {type(layer) for layer in model.modules()}
    names = [kind.__module__ for kind in kinds if kind.__name__ not in FLOAT_SUMS]
    if any(name.startswith(QUANTIZED_LAYERS) and ".quantized" in name for name in names):
        return True
    nodes = model.graph.nodes if isinstance(model, torch.fx.GraphModule) else ()
    calls = [node.target for node in nodes if node.op == "call_function"]
    return any(call in QUANTIZING or str(call).startswith(QUANTIZED_CALLS) for call in calls)


def _check_signature(model: nn.Module) -> None:
    """Check that a model needs one input."""
    named = inspect.signature(model.forward).parameters.values()
    needed = [one for one in named if one.default is one.empty]
    plain = [one.name for one in needed if one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}]
    if len(plain) > 1 or not named:
        raise TraceError(
            f"{type(model).__name__}: wanted a model with one input, "
            f"got {', '.join(plain) or 'none'}"
        )


def _lowered(model: nn.Module, example: Tensor, capture: Capture) -> Graph:
    _check_signature(model)
    images = example_batches(example)[1]
    outputs = leaves(run_once(model, images, lambda: model(images)))
    chosen = _choose([name for name, value in outputs.items() if value.is_floating_point()])
    graph = _lower(capture(model, example), chosen)
    _check(graph, type(model).__name__, images, outputs[chosen])
    return graph


def _reason(by_fx: TraceError, by_export: TraceError) -> TraceError:
    """Return the error that helps more: what has no rule, before what was not captured."""
    without_rule = "cannot trace" not in str(by_fx)
    return by_fx if without_rule and "no rule" not in str(by_export) else by_export


def _lower(captured: Captured, output: str) -> Graph:
    builder = Builder()
    refs: dict[str, Any] = {}
    problems: list[str] = []
    fixed: set[str] = set()
    owners: dict[int, list[str]] = {}
    for step in captured.steps[:-1]:
        if _is_fixed(step, fixed):
            fixed.add(step.name)
        try:
            refs[step.name] = _lower_step(step, builder, refs, fixed=step.name in fixed)
        except (TraceError, *ODD) as error:
            named = isinstance(error, TraceError)
            said = error if named else f"{step.path}: no rule for such arguments ({error!r})"
            problems.append(f"{said} ({step.where})" if step.where else str(said))
            refs[step.name] = builder.unknown(step.values[0])
        if isinstance(step.values[0], Tensor) and step.name not in fixed:
            # A call that returns its argument may have changed it in place: the names that it
            # had before mean the result from now on.
            names = owners.setdefault(id(step.values[0]), [])
            names.append(step.name)
            refs.update(dict.fromkeys(names, refs[step.name]))
    if problems:
        raise TraceError("; ".join(dict.fromkeys(problems)))
    (result,), _ = captured.steps[-1].resolve(refs)
    outputs = leaves(result)
    if output not in outputs:
        raise TraceError(f"output: wanted what depends on the input as '{output}'")
    builder.finish(outputs[output])
    less_one = frozenset(builder.less_one)
    graph = Graph((), builder.tensors, less_one, captured.by)
    return graph.keep(builder.nodes)


def _is_fixed(step: Step, fixed: set[str]) -> bool:
    """Tell whether a value depends on no image, but at most on how many there are."""
    if step.kind == "input":
        return False
    if not _holds_tensor(step.values[0]) or _name(step) in SHAPED:
        return True
    return all(name in fixed for name in step.reads)


def _lower_step(step: Step, builder: Builder, refs: Mapping[str, Any], *, fixed: bool) -> Any:
    """Return what a call is in the graph."""
    first, second = step.values
    if not _holds_tensor(first):
        return merge(first, second, step.path)
    if step.kind == "input":
        return _input(first, builder)
    if fixed:
        return _constants(first, second, builder, step.path)
    rule = _rule_of(step)
    args, kwargs = step.resolve(refs)
    return rule(Call(args, kwargs, first, _shape(first, second, step.path), step.path, builder))


def _input(value: Tensor, builder: Builder) -> Ref:
    attrs: dict[str, Any] = {"rank": value.ndim}
    if not value.is_floating_point():
        attrs["tokens"] = True
    return Ref(builder.emit("input", path="input", attrs=attrs), tuple(value.shape))


def _constants(first: Any, second: Any, builder: Builder, path: str) -> Any:
    if isinstance(first, tuple | list):
        pairs = zip(first, second, strict=True)
        return [_constants(a, b, builder, path) for a, b in pairs]
    if not isinstance(first, Tensor):
        return merge(first, second, path)
    if first.shape == second.shape:
        if not torch.equal(first, second):
            raise TraceError(f"{path}: wanted the same values in every run, got random ones")
        return builder.constant(first, path=path)
    shape = merge(tuple(first.shape), tuple(second.shape), path)
    (axis,) = (place for place, size in enumerate(shape) if isinstance(size, list))
    count = shape[axis][1]
    one, other = first.narrow(axis, 0, count), first.narrow(axis, count, count)
    if not torch.equal(one, other):
        return Ref(UNEQUAL, tuple(first.shape), first)
    stored = builder.constant(one.unsqueeze(axis).clone(), path=path)
    apart = [*shape[:axis], [BATCH, 1], count, *shape[axis + 1 :]]
    name = builder.emit("expand", (stored.name,), path=path, attrs={"shape": apart})
    name = builder.emit("reshape", (name,), path=path, attrs={"shape": shape})
    return Ref(name, tuple(first.shape), first)


def _name(step: Step) -> str:
    """Return the name of a function, whoever captured it."""
    if step.kind != "function":
        return ""
    if isinstance(step.target, str):
        return step.target
    return str(getattr(step.target, "_opname", getattr(step.target, "__name__", ""))).strip("_")


def _rule_of(step: Step) -> Rule:
    if step.kind == "layer":
        layer = step.target
        rule = MODULE_RULES.get(Normalize if isinstance(layer, Normalize) else type(layer))
        if rule is None:
            raise TraceError(f"{step.path}: no rule to quantize a {type(layer).__name__}")
        return lambda call: rule(call, layer)
    if not isinstance(step.target, str):
        function = operator_rule(step.target)
    else:
        name = step.target
        function = FUNCTION_RULES.get(name) or FUNCTION_RULES.get(name.removeprefix("i"))
    if function is None:
        raise TraceError(f"{step.path}: no rule to quantize the operation '{_name(step)}'")
    return function


def _choose(outputs: list[str]) -> str:
    """Return which of several outputs is the network's."""
    if not outputs:
        raise TraceError("output: wanted a tensor of numbers, got none")
    chosen = next(name for name in (*OUTPUTS, *outputs) if name in outputs)
    if len(outputs) > 1:
        LOG.warning("output: of %s, the network gives %s", ", ".join(outputs), chosen)
    return chosen


def _check(graph: Graph, name: str, images: Tensor, wanted: Tensor) -> None:
    """Compare the graph with the model."""
    if wanted.shape[:1] != (RUNS[1][0],):
        raise TraceError(
            f"output: wanted one row for each input, got shape {tuple(wanted.shape)} "
            f"for {RUNS[1][0]}"
        )
    try:
        with torch.no_grad():
            got = run_floats(graph, images)
    except (RuntimeError, IndexError) as error:
        raise TraceError(
            f"{name}: its graph does not run on {len(images)} inputs ({first_line(error)}); "
            "wanted a forward that treats each input by itself"
        ) from error
    off = float((got - wanted).abs().max()) if got.shape == wanted.shape else float("inf")
    if off > 1e-3 * (1 + float(wanted.abs().max())):
        raise TraceError(
            f"{name}: its graph is off by {off:g}. Wanted a forward without randomness, memory of "
            "earlier calls, or changes to a tensor through a view of it."
        )


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(item) for item in value)
    return isinstance(value, Tensor)


def _shape(first: Any, second: Any, path: str) -> list[Any]:
    """Return the shape of a tensor result, the batch marked; empty for several results."""
    if not isinstance(first, Tensor):
        return []
    shape: list[Any] = merge(tuple(first.shape), tuple(second.shape), path)
    if sum(isinstance(size, list) for size in shape) != 1:
        raise TraceError(
            f"{path}: wanted a result for each image, got shape {tuple(first.shape)} "
            f"for {RUNS[0][0]} images"
        )
    return shape
