"""Does bitproof support a network? It is traced, quantized, compared with floats, and described.

Model:  nothing here is an estimate: the network is quantized as `quantize` does, its layers are
        compared as in any run, its fault sites are those that a campaign would draw from, and
        gradients are taken through the integers. Without data, inputs are uniform noise in [0, 1]:
        what is told of ranges, errors and answers then holds for noise only.
"""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from bitproof.core.errors import DataError, SpecError, TraceError
from bitproof.data import Dataset
from bitproof.evaluation import FloatModel, IntegerModel, check_data, count
from bitproof.evaluation.tasks import ending_of, settle_task
from bitproof.evaluation.threat import acc_interval
from bitproof.faults.space import FaultSpace, Shapes
from bitproof.faults.table import ARRAY_SITES, FaultSite
from bitproof.injection.golden import Golden
from bitproof.metrics import guess_task
from bitproof.models.example_inputs import random_inputs
from bitproof.models.user_module import inside_wrappers
from bitproof.quant import IntegerNetwork, Scheme, quantize
from bitproof.quant.graph import Graph, Node
from bitproof.quant.scheme import ACCURATE
from bitproof.quant.trace import trace_as_is
from bitproof.recipe.check_result import Check, CheckedAccuracy, CheckedLayer

SITES: tuple[FaultSite, ...] = tuple(one for one in get_args(FaultSite) if one not in ARRAY_SITES)
"""Sites of faults, but for those in an array, which every layer with products has."""
IDLE = (nn.Identity, nn.modules.dropout._DropoutNd)
"""Modules that do nothing in evaluation mode."""


def check(
    model: nn.Module,
    inputs: Tensor | Sequence[int] | None = None,
    *,
    test: Dataset | None = None,
    scheme: Scheme | None = None,
    name: str = "",
) -> Check:
    """Return what becomes of `model` as an integer network, and what can be done with that.

    `model` stays as it is.

    Args:
        model: any module with one input.
        inputs: calibration inputs in [0, 1], or tokens; or the shape of one input, for random ones;
            None: of a shape that the first layer asks for.
        test: labelled inputs to compare accuracies on.
        scheme: None: `Scheme("accurate")`.
        name: what the result calls it; empty: its class.

    Raises:
        TraceError: it holds what cannot be quantized, which is named.
        BitproofError: in its other kinds, as `quantize` and `evaluate` have them.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> found = check(model, (1, 2, 2))
        >>> found.parameters, found.products, found.real
        (23, 18, ('3 (linear)',))
    """
    model = inside_wrappers(model)
    shape = None if isinstance(inputs, Tensor) else inputs
    given = inputs if isinstance(inputs, Tensor) else random_inputs(model, shape)
    network = quantize(model, given, scheme or Scheme(ACCURATE))
    assert network.fidelity is not None
    shapes = Golden.run(network, given[:1]).shapes
    captured = _captured(model, given)
    random = not isinstance(inputs, Tensor)
    return Check(
        model=name or type(model).__name__,
        network=network,
        captured_by="fx" if captured is None else captured.captured_by,
        inputs=f"{len(given)} {'random' if random else 'calibration'} inputs",
        random=random,
        input_shape=tuple(given.shape[1:]),
        output_shape=shapes[network.nodes[-1].name],
        parameters=sum(weight.numel() for weight in model.parameters()),
        float_bytes=sum(w.numel() * w.element_size() for w in model.parameters()),
        weight_bytes=_stored_bits(network) // 8,
        products=_products(network, shapes),
        layers=tuple(_layers(network, shapes)),
        folded=() if captured is None else tuple(_folded(model, captured, network)),
        real=tuple(_named(node) for node in network.nodes if node.name not in network.grids),
        wide=tuple(_named(node) for node in network.nodes if _is_wide(network, node)),
        fidelity=network.fidelity,
        tasks=_tasks(network, given, test),
        sites=_sites(network, shapes),
        not_attackable=_why_not_attackable(network, given),
        accuracy=None if test is None else _accuracy(model, network, test),
    )


def _captured(model: nn.Module, inputs: Tensor) -> Graph | None:
    """Return the graph before anything is folded; None of what came quantized."""
    try:
        return trace_as_is(model, inputs)
    except TraceError:
        return None


def _stored_bits(network: IntegerNetwork) -> int:
    return sum(coded.codes.numel() * coded.grid.bits for coded in network.tensors.values())


def _strata(network: IntegerNetwork, shapes: Shapes, site: FaultSite) -> list[Any]:
    try:
        return list(FaultSpace(sites=(site,)).strata(network, shapes))
    except SpecError:  # there are no such places
        return []


def _products(network: IntegerNetwork, shapes: Shapes) -> int:
    """Return multiplications for one input: of layers with weights, and of matrices."""
    known = {one.layer: one.words * one.taps for one in _strata(network, shapes, "product")}
    for node in network.nodes:
        if node.op == "matmul" and node.name not in known:
            inner = shapes[node.inputs[0]][-1]
            known[node.name] = torch.Size(shapes[node.name]).numel() * inner
    return sum(known.values())


def _sites(network: IntegerNetwork, shapes: Shapes) -> dict[str, int]:
    sizes = {site: sum(s.size for s in _strata(network, shapes, site)) for site in SITES}
    return {site: size for site, size in sizes.items() if size}


def _layers(network: IntegerNetwork, shapes: Shapes) -> Iterator[CheckedLayer]:
    assert network.fidelity is not None
    errors = {layer.name: layer for layer in network.fidelity.layers}
    for node in network.nodes:
        own = [network.tensors.get(f"{node.name}.{kind}") for kind in ("weight", "bias")]
        stored = [coded for coded in own if coded is not None]
        grid, error = network.grids.get(node.name), errors.get(node.name)
        yield CheckedLayer(
            name=node.name,
            op=node.op,
            path=node.path,
            words=sum(coded.codes.numel() for coded in stored),
            bits=stored[0].grid.bits if stored else None,
            outputs=torch.Size(shapes[node.name]).numel(),
            output_bits=None if grid is None else grid.bits,
            own_sqnr_db=None if error is None else error.own_sqnr_db,
            sqnr_db=None if error is None else error.sqnr_db,
        )


def _folded(model: nn.Module, captured: Graph, network: IntegerNetwork) -> Iterator[str]:
    """Yield what has no node of its own."""
    kept = {node.name for node in network.nodes}
    before = {node.name: node.inputs[0] for node in captured.nodes if node.inputs}
    for node in captured.nodes:
        if node.name in kept or not node.inputs:
            continue
        place = node.inputs[0]
        while place not in kept and place in before:
            place = before[place]
        yield f"{_named(node)} into {place}"
    for path, module in model.named_modules():
        if isinstance(module, IDLE) and path:
            yield f"{path} ({type(module).__name__}) does nothing in evaluation mode"


def _named(node: Node) -> str:
    function = node.attrs.get("function")
    return f"{node.name} ({function if function else node.op})"


def _is_wide(network: IntegerNetwork, node: Node) -> bool:
    grid = network.grids.get(node.name)
    return grid is not None and grid.bits > 8 and not node.attrs.get("tokens")


def _tasks(network: IntegerNetwork, inputs: Tensor, test: Dataset | None) -> tuple[str, ...]:
    """Return the kinds of task whose labels fit the outputs; with labels, theirs alone."""
    ending = ending_of(network.nodes)
    if test is not None:
        task = settle_task(test, network, ending=ending).task
        return (task.kind,) if task else ()
    outputs = network(inputs[:8])
    n = len(outputs)
    numbers = torch.arange(n)
    sides = numbers.reshape(-1, *[1] * (outputs.ndim - 1)).expand_as(outputs)
    tries = [numbers % 2, sides % 2, sides + 0.5]
    if outputs.ndim > 2:  # classes of places: behind the axis of classes, or before it
        tries += [
            torch.zeros((n, *outputs.shape[2:])).long(),
            torch.zeros(outputs.shape[:2]).long(),
        ]
    found = []
    for labels in tries:
        try:
            found.append(guess_task(outputs, labels, ending=ending).kind)
        except DataError:
            continue
    return tuple(dict.fromkeys(found))


def _why_not_attackable(network: IntegerNetwork, inputs: Tensor) -> str:
    if not inputs.is_floating_point():
        return "inputs are tokens, which have no small changes"
    some = inputs[:8].float().requires_grad_()
    (gradient,) = torch.autograd.grad(network.differentiable(some).square().sum(), some)
    if not bool(gradient.isfinite().all()):
        return "gradients are not finite"
    return "" if bool(gradient.any()) else "gradients are zero on these inputs"


def _accuracy(model: nn.Module, network: IntegerNetwork, test: Dataset) -> CheckedAccuracy:
    integers, floats = IntegerModel(network), FloatModel(model)
    check_data("model", integers, test)
    settled = settle_task(test, network, ending=ending_of(network.nodes))
    assert settled.task is not None
    found = [acc_interval(count(each.predict, settled)) for each in (floats, integers)]
    return CheckedAccuracy(len(test), settled.task.kind, found[0], found[1])
