"""Permanent faults in a 16x16 systolic array: seconds a fault, ResNet-20, 64 images of 32x32.

ours:   `Engine.run` on stuck bits of a register of one processing element, which break all layers;
        everything from the list of faults to counted outcomes. The fault-free run is left out.
rival:  the same arithmetic as a user would write it in PyTorch: each layer unfolded to a product of
        matrices, words, weights, products or partial sums broken where the array is said to break,
        requantized as the integer network does. Its logits must be ours (checked), so it differs in
        nothing but work that it repeats. For the weight-stationary array only.
limit:  one int8 inference of the same images: a permanent fault changes all layers.
Rates: a whole campaign, two worker processes of one thread each, places drawn uniformly; there,
the rival is one process after the other of the rival above, weighted by bits, times two.
Weights are random, unless `BITPROOF_DATA` names the pretrained ones.
"""

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from table import Row, interleave, json_path, save, show
from torch import Tensor
from torch.nn import functional

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import Processes
from bitproof.faults.broken_bits import BrokenBit, break_bits
from bitproof.faults.registers import ACCUMULATOR_BITS, register_bits
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import ARRAY_SITES, STUCK1, FaultTable
from bitproof.injection import FaultGroup, Injection, carry_out_campaign, prepare_campaign
from bitproof.injection.engine import Engine
from bitproof.models import ResNet20, load_weights
from bitproof.quant import IntegerNetwork, Node, quantize
from bitproof.quant.execution import execute
from bitproof.quant.integers import integer_op

ROWS = COLUMNS = 16
PLACE = (5, 5)
BIT = 6
ROUNDS = 3
CAMPAIGN = 1000
FLOWS = ("weight_stationary", "output_stationary", "row_stationary")


def network_and_images() -> tuple[IntegerNetwork, Tensor, str]:
    """Return ResNet-20 in 8 bits, images, and which weights it has."""
    model = ResNet20().build(
        in_channels=3, image_size=32, n_classes=10, generator=make_generator(0)
    )
    images = torch.rand(64, 3, 32, 32, generator=make_generator(0, "images"))
    folder = os.environ.get("BITPROOF_DATA")
    weights = Path(folder or ".") / "weights" / "resnet20-12fca82f.npz"
    if weights.is_file():
        load_weights(model, weights)
    return quantize(model.eval(), images), images, "pretrained" if weights.is_file() else "random"


def faults_of(network: IntegerNetwork, register: str) -> FaultTable:
    """Return one stuck bit of a register as it breaks all layers."""
    names = [node.name for node in network.nodes]
    element = PLACE[0] * COLUMNS + PLACE[1]
    layers = [node.name for node in network.nodes if node.op in {"conv", "linear"}]
    rows = [(0, register, layer, element, -1, BIT, "stuck1") for layer in layers]
    return FaultTable.from_rows(rows, layers=names)


def plain_layer(network: IntegerNetwork, node: Node, codes: Tensor, register: str) -> Tensor:
    """Return a layer's words with a fault of the weight-stationary array, computed in full."""
    constants, coded = network.constants[node.name], network.tensors[f"{node.name}.weight"]
    point = constants.zero_points[0]
    stored = coded.codes.reshape(len(coded.codes), -1).int()
    weight_point = coded.grid.zero_point.reshape(-1, 1).int()
    kernel = coded.codes.shape[2:]
    if node.op == "conv":
        move = node.geometry
        padded = functional.pad(
            codes.float(), [move.padding[1]] * 2 + [move.padding[0]] * 2, value=point
        )
        words = functional.unfold(padded, kernel, stride=move.stride)  # n, taps, places
    else:
        words = codes.float()[:, :, None]
    taps = words.shape[1]
    order = torch.arange(taps).reshape(coded.codes.shape[1], -1).T.reshape(-1)
    words, stored = words[:, order], stored[:, order]
    rows, columns = torch.arange(taps) % ROWS, torch.arange(len(stored)) % COLUMNS
    row, column = PLACE
    bits, signed = register_bits(network, node, register)
    fault = [BrokenBit(0, -1, BIT, STUCK1)]

    def broken(values: Tensor) -> Tensor:
        return break_bits(values.int(), fault, bits=bits, signed=signed).float()

    centered, weights = words - point, (stored - weight_point).float()
    sums = torch.einsum("ok,nkp->nop", weights.double(), centered.double())
    behind, own = columns >= column, columns == column
    if register == "pe_input":
        change = torch.where((rows == row)[:, None], broken(words) - words, 0.0)
        sums[:, behind] += torch.einsum("ok,nkp->nop", weights[behind], change)
    elif register == "pe_weight":
        struck = torch.where((rows == row)[None], broken(stored) - stored, 0.0)[own]
        sums[:, own] += torch.einsum("ok,nkp->nop", struck, centered)
    elif register == "pe_product":
        there = rows == row
        products = weights[own][:, there, None] * centered[:, None, there]
        sums[:, own] += (broken(products) - products).sum(2)
    else:
        for start in range(0, taps, ROWS):
            tile = slice(start, min(start + row + 1, taps))
            partial_sums = torch.einsum("ok,nkp->nop", weights[own][:, tile], centered[:, tile])
            sums[:, own] += broken(partial_sums) - partial_sums
    if constants.bias is not None:
        sums += constants.bias.double()[:, None]
    sizes = node.geometry.outputs(codes.shape[2:], kernel) if kernel else []
    shape = (len(codes), len(stored), *sizes)
    values = sums.float().reshape(shape) * constants.multipliers[0]
    grid = network.grids.get(node.name)
    if grid is None:
        return values
    rounded = values.round() + constants.zero_point
    return rounded.clamp(constants.low, constants.high).to(grid.dtype)


def plain(network: IntegerNetwork, images: Tensor, register: str) -> Tensor:
    """Return logits with a permanent fault, every layer computed in full."""

    def compute(node: Node, operands: list[Tensor]) -> Tensor:
        if node.op in {"conv", "linear"}:
            return plain_layer(network, node, operands[0], register)
        return integer_op(network, node, operands, images)

    values = execute(network.nodes, compute)
    return network.logits(values[network.nodes[-1].name])


def check(network: IntegerNetwork, images: Tensor, register: str) -> None:
    """Stop where the rival's logits are not ours."""
    faults = faults_of(network, register)
    engine = Engine(network, images, torch.zeros(len(images), dtype=torch.long))
    if not torch.equal(engine.reference(faults, 0), plain(network, images, register)):
        raise SystemExit(f"{register}: the rival's logits are not ours")


def campaign_rate(network: IntegerNetwork, images: Tensor) -> float:
    """Return faults a minute of a whole campaign on two workers, once these have started."""
    data = Dataset("random", images, network(images).argmax(1), 10)
    group = FaultGroup.model_validate({"sites": ["systolic"], "kind": {"kind": "stuck_at"}})
    injection = Injection(faults=(group,), trials=CAMPAIGN, images=len(images))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "campaign"
        prepare_campaign(folder, network, injection, data)
        start = time.perf_counter()
        carry_out_campaign(folder, executor=Processes(workers=2))
        return 60 * CAMPAIGN / (time.perf_counter() - start)


def main() -> None:
    """Time, check, print."""
    path = json_path("Permanent faults in a systolic array.")
    torch.set_num_threads(1)
    network, images, weights = network_and_images()
    labels = torch.zeros(len(images), dtype=torch.long)
    work = {"inference": lambda: network(images)}
    for register in ARRAY_SITES:
        check(network, images, register)
        work[f"rival {register}"] = partial(plain, network, images, register)
        for flow in FLOWS:
            array = SystolicArray.model_validate({"dataflow": flow})
            engine = Engine(network, images, labels, array=array)
            work[f"{flow} {register}"] = partial(engine.run, faults_of(network, register), [0])
    times = {name: taken[0] for name, taken in interleave(work, rounds=ROUNDS).items()}
    rows = []
    for flow in FLOWS:
        for register in ARRAY_SITES:
            name = f"{flow} {register}"
            rows.append(
                Row(name, times[f"rival {register}"], times[name], times["inference"], "ms")
            )
    show(f"One permanent fault, 64 images, one thread, {weights} weights", rows)
    layer = next(node for node in network.nodes if node.op == "conv")
    bits = {name: register_bits(network, layer, name)[0] for name in ARRAY_SITES}
    assert bits["pe_sum"] == ACCUMULATOR_BITS
    mean = sum(times[f"rival {name}"] * n for name, n in bits.items()) / sum(bits.values())
    rates = Row(
        "campaign, weight stationary",
        2 * 60e3 / mean,
        campaign_rate(network, images),
        2 * 60e3 / times["inference"],
        "faults/min",
    )
    ratio = rates.ours / rates.rival
    print(
        f"\n{rates.name}: {rates.ours:.0f} {rates.unit} on two workers; rival {rates.rival:.0f}, "
        f"limit {rates.limit:.0f}; {ratio:.1f} times the rival, "
        f"{rates.limit / rates.ours:.1f} times below the limit"
    )
    if path is not None:
        each = (60e3 / one for one in (rates.rival, rates.ours, rates.limit))
        save(path, [*rows, Row(rates.name, *each, "ms/fault")])


if __name__ == "__main__":
    main()
