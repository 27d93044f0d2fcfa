"""One pass over a network with exact products: what multipliers read, and what errors would do.

Model:  a convolution or linear layer hands on sums of products. An error in a sum of filter f
        changes what the network is judged by in proportion to the gradient there; gradients pass
        rounding as the identity, and stop where a word is clamped. Three things are judged: the
        loss of the true label (`loss`), the loss of a label drawn from the network's own answer
        (`curvature`: the mean of its squared gradients is the diagonal of the Gauss-Newton
        matrix), and by how much the true label's logit leads (`margin`).
Source: METHODS B.4, profiling; Martens, "New Insights and Perspectives on the Natural Gradient
        Method", JMLR 2020 (gradients for drawn labels).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Float32, Float64, Int, Int64, Integer
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitproof.approx.tap_words import TapWords
from bitproof.core.rng import make_generator
from bitproof.data.dataset import Dataset
from bitproof.explore.units import LayerShape, Units, by_filter
from bitproof.kernels.forms import WORDS
from bitproof.quant.execution import execute
from bitproof.quant.fake import RequantizeThrough, fake_op
from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork
from bitproof.quant.products import OperandEncoding

Judged = Literal["loss", "curvature", "margin"]
Moments = tuple[Float64[Tensor, " m"], Float64[Tensor, " m"]]
BATCH = 128
"""Images whose gradients are taken at once."""


@dataclass(frozen=True, eq=False)
class ActivationWords:
    """What a product of two activations reads: how often each pattern comes on either side."""

    left: Int64[Tensor, "256"]
    right: Int64[Tensor, "256"]
    taps: int
    """Products in each sum."""

    def __add__(self, other: "ActivationWords") -> "ActivationWords":
        return ActivationWords(self.left + other.left, self.right + other.right, self.taps)

    def moments(self, errors: Integer[Tensor, "256 256"]) -> Moments:
        """Return mean and variance of the error of a sum, as if both sides were independent."""
        first, second = (own.double() / own.sum() for own in (self.left, self.right))
        mean = first @ errors.double() @ second
        square = first @ errors.double() ** 2 @ second
        sums = self.taps * torch.stack([mean, (square - mean**2).clamp(min=0)])
        return sums[:1], sums[1:]


@dataclass(frozen=True, eq=False)
class Energy:
    """Squared gradients of one judge at the outputs of a layer's filters, mean over images."""

    spread: Float64[Tensor, " f"]
    """Of the sum over places of squared gradients: what an error counts that is independent at
    each place."""
    shift: Float64[Tensor, " f"]
    """Of the squared sum over places of gradients: what an error counts that is the same at all
    places."""

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(self.spread + other.spread, self.shift + other.shift)

    def scaled(self, factor: float) -> "Energy":
        """Return both times a factor."""
        return Energy(self.spread * factor, self.shift * factor)


@dataclass(frozen=True, eq=False)
class Outputs:
    """Sums over images and places of what the filters of a layer give."""

    count: int
    """Outputs of each filter."""
    total: Float64[Tensor, " f"]
    squares: Float64[Tensor, " f"]

    @classmethod
    def of(cls, outputs: Float32[Tensor, "n f places"]) -> "Outputs":
        """Return the sums of one batch."""
        wide = outputs.double()
        return cls(wide[:, 0].numel(), wide.sum((0, 2)), (wide**2).sum((0, 2)))

    def __add__(self, other: "Outputs") -> "Outputs":
        return Outputs(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    @property
    def variance(self) -> Float64[Tensor, " f"]:
        """By filter, over images and places."""
        return (self.squares / self.count - (self.total / self.count) ** 2).clamp(min=0)


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """What was seen of one layer; outputs are counted in steps of its output words."""

    layer: LayerShape
    words: TapWords | ActivationWords
    step: Float64[Tensor, " f"]
    """Output that one step of the accumulator makes."""
    energies: dict[Judged, Energy]
    outputs: Outputs
    zeros: float
    """Share of words that stand for 0 among those that are read."""

    def moments(self, errors: Integer[Tensor, "256 256"]) -> Moments:
        """Return mean and variance of the error of each filter's outputs, in output steps."""
        mean, variance = self.words.moments(errors)
        return mean * self.step, variance * self.step**2


@dataclass(frozen=True, eq=False)
class Profile:
    """What was seen of all layers, in the order of `units.layers`."""

    network: IntegerNetwork
    """What was looked at."""
    data: Dataset
    """On these images."""
    units: Units
    layers: tuple[LayerProfile, ...]
    margins: Float64[Tensor, " n"]
    """By how much the true label's logit leads the best other one; negative: it does not."""

    def moments(
        self, tables: Sequence[Integer[Tensor, "256 256"]]
    ) -> tuple[Float64[Tensor, "filters m"], Float64[Tensor, "filters m"]]:
        """Return mean and variance of the outputs' errors, by filter and table of errors."""
        found = [[own.moments(errors) for errors in tables] for own in self.layers]
        means, variances = (
            torch.cat([torch.stack([each[part] for each in layer], 1) for layer in found])
            for part in (0, 1)
        )
        return means, variances

    def energy(self, judged: Judged) -> Energy:
        """Return the squared gradients of all filters."""
        found = [own.energies[judged] for own in self.layers]
        return Energy(torch.cat([e.spread for e in found]), torch.cat([e.shift for e in found]))


def take_profile(
    network: IntegerNetwork,
    data: Dataset,
    units: Units,
    *,
    signed: bool,
    judges: Sequence[Judged] = ("loss", "margin"),
    seed: int = 0,
) -> Profile:
    """Run `network`, whose products are exact, over all of `data` with gradients.

    `signed` is how multipliers read words; `seed` draws the labels of `curvature`.

    Example:
        >>> from bitproof.explore.units import units_of
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> data = Dataset.from_arrays(images, torch.arange(8) % 2)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> network = quantize(model, images)
        >>> units = units_of(network, images, granularity="filter")
        >>> profile = take_profile(network, data, units, signed=True)
        >>> profile.margins.shape, profile.energy("loss").spread.shape
        (torch.Size([8]), torch.Size([2]))
    """
    draw = make_generator(seed, "profile labels")
    seen, margins, sizes = [], [], []
    for part in data.blocks(BATCH):
        one = run_back(network, part, units, judges=judges, draw=draw)
        seen.append(_seen(network, units, one, signed=signed))
        margins.append(one.margins.double())
        sizes.append(len(part))
    layers = tuple(_joined(own, sizes) for own in zip(*seen, strict=True))
    energies = [
        {judged: energy.scaled(1 / len(data)) for judged, energy in own.energies.items()}
        for own in layers
    ]
    layers = tuple(replace(own, energies=mean) for own, mean in zip(layers, energies, strict=True))
    return Profile(network, data, units, layers, torch.cat(margins))


@dataclass(frozen=True, eq=False)
class Pass:
    """One batch through the network, and back."""

    codes: dict[str, list[Tensor]]
    """Words that each layer reads, operand by operand."""
    outputs: dict[str, Float32[Tensor, "n f places"]]
    """What each layer gives, in steps of its output words, before rounding."""
    gradients: dict[Judged, dict[str, Float32[Tensor, "n f places"]]]
    """Of what is judged, by layer, at these outputs."""
    margins: Float32[Tensor, " n"]


def run_back(
    network: IntegerNetwork,
    part: Dataset,
    units: Units,
    *,
    judges: Sequence[Judged],
    draw: torch.Generator,
) -> Pass:
    """Run one batch, and take gradients at the outputs of all layers; `draw` draws labels."""
    images, layers = part.inputs(), {layer.name: layer for layer in units.layers}
    nodes = {node.name: node for node in network.nodes}
    probes: dict[str, Tensor] = {}
    codes: dict[str, list[Tensor]] = {}
    outputs: dict[str, Tensor] = {}

    def compute(node: Node, operands: list[Tensor]) -> Tensor:
        if node.name not in layers:
            return fake_op(network, node, operands, images)
        constants = network.constants[node.name]
        codes[node.name] = [
            (own.detach() + point).to(network.grids[name].dtype)
            for own, point, name in zip(operands, constants.zero_points, node.inputs, strict=True)
        ]
        values = network.accumulator(node).differentiable(operands) * constants.multipliers[0]
        outputs[node.name] = by_filter(values.detach(), node, layers[node.name], images=len(part))
        probes[node.name] = torch.zeros_like(values, requires_grad=True)
        values = values + probes[node.name]
        if node.name in network.grids:
            values = RequantizeThrough.apply(values, constants)  # type: ignore[no-untyped-call]
        return values

    last = network.nodes[-1].name
    logits, grid = execute(network.nodes, compute)[last], network.grids.get(last)
    logits = logits if grid is None else logits * grid.scale
    margins = _margins(logits, part.labels)
    gradients: dict[Judged, dict[str, Tensor]] = {}
    for number, judged in enumerate(judges, 1):
        found = torch.autograd.grad(
            _judgement(judged, logits, part.labels, margins, draw),
            list(probes.values()),
            retain_graph=number < len(judges),
            allow_unused=True,
        )
        gradients[judged] = {
            name: by_filter(
                torch.zeros_like(probe) if own is None else own,
                nodes[name],
                layers[name],
                images=len(part),
            )
            for (name, probe), own in zip(probes.items(), found, strict=True)
        }
    return Pass(codes, outputs, gradients, margins.detach())


def _seen(network: IntegerNetwork, units: Units, one: Pass, *, signed: bool) -> list[LayerProfile]:
    """Return what one batch shows of each layer, sums over images in the place of means."""
    nodes = {node.name: node for node in network.nodes}
    found = []
    for layer in units.layers:
        name = layer.name
        by_judge = {judged: own[name] for judged, own in one.gradients.items()}
        step = network.constants[name].multipliers[0].double().flatten().expand(layer.filters)
        reads = [network.grids[each] for each in nodes[name].inputs]
        found.append(
            LayerProfile(
                layer=layer,
                words=_words(network, nodes[name], layer, one.codes[name], signed=signed),
                step=step,
                energies={judged: _energy(own) for judged, own in by_judge.items()},
                outputs=Outputs.of(one.outputs[name]),
                zeros=float((one.codes[name][0] == reads[0].zero_point).double().mean()),
            )
        )
    return found


def _energy(gradient: Float32[Tensor, "n f places"]) -> Energy:
    wide = gradient.double()
    return Energy((wide**2).sum((0, 2)), (wide.sum(2) ** 2).sum(0))


def _words(
    network: IntegerNetwork, node: Node, layer: LayerShape, codes: list[Tensor], *, signed: bool
) -> TapWords | ActivationWords:
    if node.op != "matmul":
        return TapWords.of(network, node, codes[0], signed=signed)
    left, right = (
        OperandEncoding.of(network.grids[name], signed=signed).patterns(own).flatten().long()
        for name, own in zip(node.inputs, codes, strict=True)
    )
    first, second = (side.bincount(minlength=WORDS) for side in (left, right))
    return ActivationWords(first, second, layer.taps)


def _joined(parts: Sequence[LayerProfile], sizes: Sequence[int]) -> LayerProfile:
    """Return one layer as all batches show it, of so many images each."""
    first = parts[0]
    words, energies, outputs = first.words, dict(first.energies), first.outputs
    for own in parts[1:]:
        words = words + own.words  # type: ignore[operator]
        energies = {judged: energies[judged] + own.energies[judged] for judged in energies}
        outputs = outputs + own.outputs
    return replace(
        first,
        words=words,
        energies=energies,
        outputs=outputs,
        zeros=sum(own.zeros * size for own, size in zip(parts, sizes, strict=True)) / sum(sizes),
    )


def _margins(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return own - others


def _judgement(
    judged: Judged,
    logits: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    margins: Float[Tensor, " n"],
    draw: torch.Generator,
) -> Float[Tensor, ""]:
    """Return the sum over images of what is judged."""
    if judged == "margin":
        return margins.sum()
    if judged == "curvature":
        chances = logits.detach().double().softmax(1).cpu()
        labels = torch.multinomial(chances, 1, generator=draw)[:, 0].to(labels.device)
    return cross_entropy(logits, labels, reduction="sum")
