"""Capture by torch.export, which runs the user's forward, so that Python in it is no obstacle.

Model:  the model is exported once for each example batch, with all sizes fixed. The two programs
        have the same calls; where their numbers differ, they are multiples of the batch size.
        Operators that have no rule are decomposed into smaller ones.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, default_decompositions, export
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_unflatten

from bitproof.core.errors import TraceError
from bitproof.quant.capture import (
    Captured,
    Step,
    Values,
    example_batches,
    first_line,
    leaves,
    line_in,
    line_of,
    run_once,
    untouched,
)
from bitproof.quant.rules import MODULE_RULES, operator_rule

CONTEXTS = (
    torch.ops.higher_order.wrap_with_autocast,
    torch.ops.higher_order.wrap_with_set_grad_enabled,
)
"""Blocks of the user's code that export keeps as programs of their own."""
MOST_ROUNDS = 4
"""Rounds of decomposition: what one gives may need the next."""


def capture_export(model: nn.Module, example: Tensor) -> Captured:
    """Return the calls of `model`; its optional inputs keep their defaults.

    Raises:
        TraceError: torch.export cannot capture it.
    """
    batches = example_batches(example)
    programs = [_exported(model, images) for images in batches]
    targets = [
        [node.target for node in each.graph.nodes if node.op == "call_function"]
        for each in programs
    ]
    if targets[0] != targets[1]:
        raise TraceError(
            f"{type(model).__name__}: wanted a forward with the same operations for "
            f"{len(batches[0])} and {len(batches[1])} inputs, got others"
        )
    runs = [_values(each, images) for each, images in zip(programs, batches, strict=True)]
    first, second = (list(each.graph.nodes) for each in programs)
    paths = _stored(programs[0])
    modules = dict(model.named_modules())
    steps = [
        _step(a, b, (runs[0], runs[1]), paths, modules)
        for a, b in zip(first[:-1], second[:-1], strict=True)
    ]
    return Captured([*steps, _output(programs, (runs[0], runs[1]))], "export")


def _exported(model: nn.Module, images: Tensor) -> ExportedProgram:
    quiet = StringIO()
    with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(quiet), redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        try:
            with _giving_tensors(model):
                program = export(model, (images,), strict=False)
            _inline(program.graph_module)
            if any(_mutates(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
            for _ in range(MOST_ROUNDS):
                known = default_decompositions()
                table = {
                    target: known[target] for target in _without_rule(program) if target in known
                }
                if not table:
                    break
                program = program.run_decompositions(table)
        except Exception as error:  # export raises whatever the user's forward raised
            raise TraceError(
                f"{type(model).__name__}: torch.export cannot capture its forward "
                f"({_reason(error)}){line_of(error)}"
            ) from error
    return program


@contextmanager
def _giving_tensors(model: nn.Module) -> Iterator[None]:
    """Let a forward return its tensors by name, without the caches that some return beside them."""
    forward = model.forward

    def tensors(inputs: Tensor) -> Any:
        found = forward(inputs)
        return found if isinstance(found, Tensor) else leaves(found)

    with untouched(model):
        model.forward = tensors
        yield


def _reason(error: Exception) -> str:
    if "data-dependent" in str(error):
        return "it decides by values of its input; wanted branches on shapes and settings only"
    return first_line(error)


def _inline(module: fx.GraphModule) -> None:
    """Put the calls inside `autocast` and `no_grad` where those are called, in place."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in CONTEXTS:
            continue
        place = next(at for at, one in enumerate(node.args) if isinstance(one, fx.Node))
        held: Any = node.args[place]
        inner = getattr(module, str(held.target))
        _inline(inner)
        inputs = [one for one in inner.graph.nodes if one.op == "placeholder"]
        known = dict(zip(inputs, node.args[place + 1 :], strict=True))
        with module.graph.inserting_before(node):
            results: Any = module.graph.graph_copy(inner.graph, known)
        for user in list(node.users):
            user.replace_all_uses_with(results[user.args[1]])
            module.graph.erase_node(user)
        module.graph.erase_node(node)
        if not held.users:
            module.graph.erase_node(held)
    module.recompile()


def _mutates(node: fx.Node) -> bool:
    """Tell whether a call changes a tensor in place that may be seen through others."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.is_mutable:
        return False
    changed: Any = node.args[0]
    made_by: Any = getattr(changed.target, "_schema", None)
    is_made = changed.op == "call_function" and made_by is not None
    views = not is_made or any(one.alias_info for one in made_by.returns)
    return operator_rule(node.target) is None or views


def _without_rule(program: ExportedProgram) -> list[Any]:
    found = dict.fromkeys(
        node.target
        for node in program.graph.nodes
        if node.op == "call_function" and operator_rule(node.target) is None
    )
    return list(found)


def _stored(program: ExportedProgram) -> dict[str, tuple[str, Any]]:
    """Return path and value of everything that the program is given beside its inputs."""
    found: dict[str, tuple[str, Any]] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            continue
        target = str(spec.target)
        held: Mapping[str, Any] = (
            program.state_dict if target in program.state_dict else program.constants
        )
        found[spec.arg.name] = (target, held[target])
    return found


def _values(program: ExportedProgram, images: Tensor) -> Values:
    """Return the value of every call on a batch; inputs that keep their default have none."""
    stored = _stored(program)
    module = program.graph_module
    inputs, given = [], [images]
    for node in module.graph.nodes:
        if node.op == "placeholder":
            known = node.name in stored
            inputs.append(stored[node.name][1] if known else given.pop() if given else None)
    interpreter = fx.Interpreter(module, garbage_collect_values=False)
    run_once(module, images, lambda: interpreter.run(*inputs, enable_io_processing=False))
    return {node.name: value for node, value in interpreter.env.items()}


def _step(
    a: fx.Node,
    b: fx.Node,
    runs: tuple[Values, Values],
    stored: Mapping[str, tuple[str, Any]],
    modules: Mapping[str, nn.Module],
) -> Step:
    kind: Any = "function"
    target: Any = a.target
    if a.op == "placeholder":
        kind = "stored" if a.name in stored or runs[0][a.name] is None else "input"
        target = stored[a.name][0] if a.name in stored else a.name
    elif a.op == "get_attr":
        kind = "stored"
    return Step(
        name=a.name,
        kind=kind,
        target=target,
        path=str(target) if kind == "stored" else _path(a, modules),
        arguments=((a.args, b.args), (a.kwargs, b.kwargs)),
        reads=tuple(other.name for other in a.all_input_nodes),
        values=(runs[0].get(a.name), runs[1].get(b.name)),
        where=line_in(a.stack_trace),
    )


def _output(programs: Sequence[ExportedProgram], runs: tuple[Values, Values]) -> Step:
    """Return what the user's forward returns, as it is nested there."""
    nested = []
    for each, values in zip(programs, runs, strict=True):
        nodes = {node.name: node for node in each.graph.nodes}
        names = each.graph_signature.user_outputs
        flat = ([nodes.get(name) for name in names], [values.get(name) for name in names])
        spec = each.call_spec.out_spec
        nested.append([tree_unflatten(leaves, spec) for leaves in flat])
    (first, value), (second, other) = nested
    return Step(
        name="output",
        kind="output",
        target="output",
        path="output",
        arguments=(((first,), (second,)), ({}, {})),
        reads=(),
        values=(value, other),
    )


def _path(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """Return the path of a layer, or that of the module around a call and the call's name."""
    stack = node.meta.get("nn_module_stack")
    inner = re.sub(r"@\d+", "", next(reversed(stack.values()))[0]) if stack else ""
    if type(modules.get(inner)) in MODULE_RULES and inner:
        return inner
    return f"{inner}.{node.name}" if inner else node.name
