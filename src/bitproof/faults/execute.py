"""One node of an integer network, executed with broken bits.

Model:  faults in stored words change what is read; faults in registers change one product or one
        sum, which is recomputed here with 64-bit integers. Sums wrap as 32-bit registers do.
        A fault hits the same place for every image.
Source: METHODS C.3 and D.2.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from bitproof.core.errors import FaultListError, SpecError
from bitproof.faults.broken_bits import BrokenBit, NodeFaults, break_bit
from bitproof.faults.registers import ACCUMULATOR_BITS, product_bits
from bitproof.faults.space import FaultSpace, Shapes, Stratum
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.systolic_layer import systolic_words
from bitproof.faults.table import ARRAY_SITES, SITES, TAP_SITES, FaultSite, FaultTable
from bitproof.quant.arithmetic import requantize
from bitproof.quant.graph import Node
from bitproof.quant.grid import Grid
from bitproof.quant.integers import integer_op
from bitproof.quant.network import IntegerNetwork

MEMORY = ("weight", "bias")
OUTPUTS = ("activation", "output")
REGISTERS = (*sorted(TAP_SITES), "accumulator")


def faults_by_node(faults: FaultTable) -> dict[str, dict[str, list[BrokenBit]]]:
    """Return the faults of one trial by layer and site."""
    found: dict[str, dict[str, list[BrokenBit]]] = {}
    columns = (faults.layer, faults.site, faults.element, faults.tap, faults.bit, faults.action)
    for layer, site, *rest in zip(*(column.tolist() for column in columns), strict=True):
        sites = found.setdefault(faults.layers[layer], {})
        sites.setdefault(SITES[site], []).append(BrokenBit(*rest))
    return found


def by_element(faults: NodeFaults) -> dict[int, NodeFaults]:
    """Return the faults of one node by the element that they lie in."""
    found: dict[int, dict[str, list[BrokenBit]]] = {}
    for site, at_site in faults.items():
        for fault in at_site:
            found.setdefault(fault.element, {}).setdefault(site, []).append(fault)
    return dict(found)


def break_words(
    codes: Integer[Tensor, "*shape"], faults: list[BrokenBit], grid: Grid, *, n: int = 1
) -> Integer[Tensor, "*shape"]:
    """Return a copy of words with faults, the same in each of `n` images."""
    faulty = codes.reshape(n, -1).clone()
    for fault in faults:
        column = faulty[:, fault.element].long()
        column = break_bit(column, fault, bits=grid.bits, signed=grid.signed)
        faulty[:, fault.element] = column.to(codes.dtype)
    return faulty.reshape(codes.shape)


def faulty_node(
    network: IntegerNetwork,
    node: Node,
    operands: list[Tensor],
    inputs: Tensor,
    faults: NodeFaults,
    *,
    array: SystolicArray | None = None,
) -> Tensor:
    """Return the output words of `node` (real logits, for the last accumulators) with faults.

    `operands` are the words that it reads, and `inputs` the images, which the input node reads:
    only one, if any of the words do not have the images on their first axis. `array` is what the
    node runs on, for faults in its registers.

    Raises:
        FaultListError: there is more than one fault of an array, or one beside others.
    """
    if any(site in faults for site in ARRAY_SITES):
        if others := sorted(set(faults).difference(ARRAY_SITES)):
            raise FaultListError(
                f"{node.name}: wanted a fault of an array alone, got one beside {', '.join(others)}"
            )
        return systolic_words(network, node, operands[0], array or SystolicArray(), faults)
    broken, n = broken_memory(network, {node.name: faults}), len(inputs)
    if "input" in faults:
        faulty = break_words(operands[0], faults["input"], network.grids[node.inputs[0]], n=n)
        operands = [faulty, *operands[1:]]
    result = integer_op(broken, node, operands, inputs)
    registers = by_element({site: faults[site] for site in REGISTERS if site in faults})
    if registers:
        flat = result.reshape(n, -1).clone()
        source = operands[0] if len(operands[0]) == n else operands[0][None]
        for element, own in registers.items():
            flat[:, element] = faulty_element(broken, node, source, element, own)
        result = flat.reshape(result.shape)
    for site in OUTPUTS:
        if site in faults:
            result = break_words(result, faults[site], network.grids[node.name], n=n)
    return result


def broken_memory(network: IntegerNetwork, faults: Mapping[str, NodeFaults]) -> IntegerNetwork:
    """Return `network` with faults in the stored words of nodes, by name."""
    codes = {}
    for name, own in faults.items():
        for site in MEMORY:
            if site in own:
                coded = network.tensors[f"{name}.{site}"]
                codes[f"{name}.{site}"] = break_words(coded.codes, own[site], coded.grid)
    return network.with_codes(codes) if codes else network


def faulty_element(
    network: IntegerNetwork, node: Node, codes: Tensor, element: int, faults: NodeFaults
) -> Tensor:
    """Return one element of a layer's output, for each image, with faults in its registers.

    `codes` are what the convolution or linear layer reads, images on the first axis.
    """
    constants = network.constants[node.name]
    coded, read = network.tensors[node.key("weight")], network.grids[node.inputs[0]]
    channel, patch = window(node, codes, element, coded.codes.shape, constants.zero_points[0])
    stored = coded.codes[channel].reshape(-1).long()
    points = coded.grid.zero_point.reshape(-1).long()
    point = points[channel if len(points) > 1 else 0]
    left, right = patch.clone(), stored.repeat(len(patch), 1)
    for site, words, grid in (("operand", left, read), ("weight_operand", right, coded.grid)):
        for fault in faults.get(site, ()):
            broken = break_bit(words[:, fault.tap], fault, bits=grid.bits, signed=grid.signed)
            words[:, fault.tap] = broken
    zero = constants.zero_points[0]
    own = network.products.get(node.name)
    products = (left - zero) * (right - point)
    others: Tensor | int = 0
    if own is not None:
        raw = own.look_up(left, right, channel, grids=(read, coded.grid))
        # What exact adders make of the words beside the product itself; see `quant.products`.
        others = (products - own.exact(left, right, grids=(read, coded.grid))).sum(1)
        others, products = others + int(own.offset[channel]), raw
    width = product_bits(network, node)
    for fault in faults.get("product", ()):
        products[:, fault.tap] = break_bit(products[:, fault.tap], fault, bits=width, signed=True)
    sums = products.sum(1) + others
    if constants.bias is not None:
        sums = sums + constants.bias[channel].long()
    sums = (sums + 2**31) % 2**32 - 2**31
    for fault in faults.get("accumulator", ()):
        sums = break_bit(sums, fault, bits=ACCUMULATOR_BITS, signed=True)
    multipliers = constants.multipliers[0].reshape(-1)
    values = sums.float() * multipliers[channel if len(multipliers) > 1 else 0]
    return requantize(values, constants) if node.name in network.grids else values


def window(
    node: Node, codes: Tensor, element: int, shape: torch.Size, zero_point: int
) -> tuple[int, Int64[Tensor, "n taps"]]:
    """Return the output channel of one element, and the words that its sum reads.

    Padding is read as the zero point.
    """
    if node.op == "linear":
        lead, channel = divmod(element, shape[0])
        return channel, codes.reshape(len(codes), -1, shape[1])[:, lead].long()
    move, kernel = node.geometry, shape[2:]
    maps = codes.reshape(len(codes), -1, *codes.shape[-1 - len(kernel) :])
    sizes = move.outputs(maps.shape[3:], kernel)
    places = (maps.shape[1], shape[0], *sizes)
    lead, channel, *place = (int(i) for i in np.unravel_index(element, places))
    first = channel // (shape[0] // move.groups) * shape[1]
    part = maps[:, lead, first : first + shape[1]]
    inside = torch.ones(kernel, dtype=torch.bool, device=codes.device)
    index: list[Tensor] = []
    for axis, length in enumerate(kernel):
        taps = torch.arange(length, device=codes.device) * move.dilation[axis]
        taps = taps + place[axis] * move.stride[axis] - move.padding[axis]
        taps = taps.reshape([-1 if other == axis else 1 for other in range(len(kernel))])
        within = taps.clamp(0, part.shape[2 + axis] - 1)
        inside = inside & (taps == within)
        index.append(within)
    where: tuple[slice | Tensor, ...] = (slice(None), slice(None), *index)
    patch = part[where].long()
    return channel, torch.where(inside, patch, zero_point).flatten(1)


def check_faults(
    network: IntegerNetwork,
    faults: FaultTable,
    shapes: Shapes,
    *,
    array: SystolicArray | None = None,
) -> None:
    """Check that every fault of a list names a bit that the network, or its array, has.

    Raises:
        FaultListError: one does not; the first is named.
    """
    groups = np.unique(faults.site.astype(np.int64) * len(faults.layers) + faults.layer)
    found: dict[int, str] = {}
    for site, layer in (divmod(int(group), len(faults.layers)) for group in groups):
        rows = np.flatnonzero((faults.site == site) & (faults.layer == layer))
        name, kind = faults.layers[layer], SITES[site]
        stratum = _stratum(kind, name, network, shapes, array)
        if stratum is None:
            found.setdefault(int(rows[0]), f"{name} has no {kind}")
            continue
        tap = (0, stratum.taps) if kind in TAP_SITES else (-1, 0)
        tap = (-1, stratum.taps) if kind in ARRAY_SITES else tap
        limits = {"element": (0, stratum.words), "tap": tap, "bit": (0, stratum.width)}
        for column, (low, end) in limits.items():
            values = getattr(faults, column)[rows].astype(np.int64)
            wrong = np.flatnonzero((values >= end) | (values < low))
            if len(wrong):
                found.setdefault(
                    int(rows[wrong[0]]),
                    f"{kind} of {name}: wanted {column} from {low} to {end - 1}, "
                    f"got {int(values[wrong[0]])}",
                )
    if found:
        raise FaultListError(f"faults: {found[min(found)]}")
    _check_alone(faults)


def _check_alone(faults: FaultTable) -> None:
    """Check that a trial has no fault beside that of an array in the same layer."""
    layers = faults.trial * len(faults.layers) + faults.layer
    array = np.isin(faults.site, [SITES.index(site) for site in ARRAY_SITES])
    if not array.any():
        return
    chosen = np.isin(layers, layers[array])
    columns = (layers, faults.site, faults.element, faults.tap)
    places = np.unique(np.stack([column[chosen].astype(np.int64) for column in columns]), axis=1)
    of, counts = np.unique(places[0], return_counts=True)
    if (counts > 1).any():
        trial, layer = divmod(int(of[counts > 1][0]), len(faults.layers))
        raise FaultListError(
            f"faults: trial {trial}: wanted one fault of the array alone in {faults.layers[layer]}"
        )


def _stratum(
    site: FaultSite,
    name: str,
    network: IntegerNetwork,
    shapes: Shapes,
    array: SystolicArray | None,
) -> Stratum | None:
    try:
        strata = FaultSpace(sites=(site,)).strata(network, shapes, array=array)
    except SpecError:  # no layer has such a site
        return None
    return next((stratum for stratum in strata if stratum.layer == name), None)
