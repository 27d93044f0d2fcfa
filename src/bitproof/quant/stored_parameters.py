"""The words that a model's parameters become when it is deployed, for training on their grids.

Model:  a layer's weight is stored with its batch norm folded in: `w f`, with `f` the norm's factor
        per channel; its bias as `b f + beta - mu f`. Scales that the model holds less one are
        stored so. Words lie in the order of the integer network, so an address means the same cell
        there and here; a code may be one step off there where a zero point is rounded. What is read
        back goes to the parameters: the weight divided by `f`, the change of the bias to `beta`.
Source: Stutz et al., MLSys 2021 (every parameter tensor has a range of its own; ranges anew in
        each step); METHODS E.1 and E.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bitproof.quant.grid import CodedTensor
from bitproof.quant.quantizer import Quantizer
from bitproof.quant.scheme import Scheme
from bitproof.quant.straight_through import fold_factors, norm_after
from bitproof.quant.trace import trace


@dataclass(frozen=True)
class Place:
    """Where one stored tensor comes from."""

    parameter: str
    """Path of the parameter that gets what is read back, and the gradient."""
    layer: str
    """Path of the layer whose parameter it is."""
    is_bias: bool


@dataclass(frozen=True, eq=False)
class StoredParameters:
    """The parameters of one model that become words, by the name of the words.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> stored = StoredParameters.of(model, torch.rand(2, 2), Scheme())
        >>> list(stored.places)
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    model: nn.Module
    scheme: Scheme
    norms: Mapping[str, str]
    """Batch norm that is folded into each layer."""
    places: dict[str, Place]
    left_float: tuple[str, ...] = ()
    """Words of the network that no parameter stands for, or that training cannot follow."""
    shrink: Mapping[str, float] = field(default_factory=dict)
    """Factors on weight ranges, by name of the node."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        example: Float[Tensor, "n *features"],
        scheme: Scheme,
        shrink: Mapping[str, float] | None = None,
    ) -> "StoredParameters":
        """Return what `model` will store under `scheme`.

        Raises:
            TraceError: the model cannot be traced.
        """
        graph, norms = trace(model, example), norm_after(model, example)
        parameters = dict(model.named_parameters())
        places: dict[str, Place] = {}
        left: list[str] = []
        for node in graph.nodes:
            for kind in ("weight", "bias"):
                name = f"{node.name}.{kind}"
                if name not in graph.tensors:
                    continue
                owner = norms.get(node.path, node.path) if kind == "bias" else node.path
                held = "excess" if name in graph.less_one else kind
                place = Place(f"{owner}.{held}", node.path, kind == "bias")
                found = parameters.get(place.parameter)
                fits = found is not None and found.shape == graph.tensors[name].shape
                if kind == "bias" and scheme.bias is None:
                    fits = False  # words of 32 bits on the accumulator's grid
                if fits and place.parameter not in {other.parameter for other in places.values()}:
                    places[name] = place
                else:
                    left.append(name)
        return cls(model, scheme, norms, places, tuple(left), shrink or {})

    def values(self) -> dict[str, Tensor]:
        """Return the values that are stored now, by the name of the words; without gradients."""
        factors = fold_factors(self.model, self.norms)
        return {name: self._value(place, factors) for name, place in self.places.items()}

    def encode(self, values: Mapping[str, Tensor]) -> dict[str, CodedTensor]:
        """Return the words of `values`, each tensor on a grid fitted to it."""
        found: dict[str, CodedTensor] = {}
        biases = [name for name in values if self.places[name].is_bias]
        weights = [name for name in values if not self.places[name].is_bias]
        for names, quantizer in ((weights, self.scheme.weight), (biases, self.scheme.bias)):
            if quantizer is None or not names:
                continue
            shrinks = [self._shrink(name) for name in names]
            coded = _encode_all(quantizer, [values[name] for name in names], shrinks)
            found |= dict(zip(names, coded, strict=True))
        return {name: found[name] for name in values}

    def read_back(
        self, values: Mapping[str, Tensor], read: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return what parameters become, by path, when others are read in place of `values`."""
        factors = fold_factors(self.model, self.norms)
        seen: dict[str, Tensor] = {}
        for name, value in read.items():
            place, found = self.places[name], value
            if place.is_bias and place.layer in self.norms:
                parameter = self.model.get_parameter(place.parameter).detach()
                found = parameter + (value - values[name])
            elif not place.is_bias and place.layer in factors:
                factor = _along(factors[place.layer], value)
                # A channel that its norm switches off (factor 0) is stored as zeros and stays.
                found = value / torch.where(factor == 0, torch.ones_like(factor), factor)
            seen[place.parameter] = found
        return seen

    @property
    def clippable(self) -> list[str]:
        """Names of the words that clipping bounds: all but biases with a batch norm folded in."""
        return [
            name
            for name, place in self.places.items()
            if not (place.is_bias and place.layer in self.norms)
        ]

    @torch.no_grad()
    def clip_(self, bounds: Mapping[str, float]) -> None:
        """Hold stored values inside `+-bound`, in place, by the name of the words.

        A channel that its norm switches off (factor 0) stays as it is.
        """
        factors = fold_factors(self.model, self.norms) if bounds else {}
        for name, bound in bounds.items():
            place = self.places[name]
            held = self.model.get_parameter(place.parameter)
            factor = None if place.is_bias else factors.get(place.layer)
            if factor is None:
                held.clamp_(-bound, bound)
                continue
            ends = bound / _along(factor.abs(), held)  # infinite where the factor is 0
            held.copy_(torch.minimum(torch.maximum(held, -ends), ends))

    def _value(self, place: Place, factors: Mapping[str, Tensor]) -> Tensor:
        held = self.model.get_parameter(place.parameter).detach()
        factor = factors.get(place.layer)
        if factor is None:
            return held
        if not place.is_bias:
            return held * _along(factor, held)
        norm: Any = self.model.get_submodule(self.norms[place.layer])
        own: Any = self.model.get_submodule(place.layer).bias
        mean = norm.running_mean if own is None else norm.running_mean - own.detach()
        bias: Tensor = held - mean * factor
        return bias

    def _shrink(self, name: str) -> float:
        node, _, kind = name.rpartition(".")
        return self.shrink.get(node, 1.0) if kind == "weight" else 1.0


def _encode_all(
    quantizer: Quantizer, tensors: list[Tensor], shrinks: list[float]
) -> list[CodedTensor]:
    """Return the words of each tensor, without a look at its numbers that a device waits for."""
    grids = quantizer.fit_all(tensors, shrinks=shrinks)
    return [quantizer.encode(values, grid) for values, grid in zip(tensors, grids, strict=True)]


def _along(factor: Tensor, weight: Tensor) -> Tensor:
    """Return a factor per output channel, shaped to broadcast against `weight`."""
    return factor.reshape([-1] + [1] * (weight.ndim - 1))
