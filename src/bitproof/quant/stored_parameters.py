"""The words that a model's parameters become when it is deployed, for training on their grids.

Model:  a layer's weight is stored with its batch norm folded in: `w f`, with `f` the norm's factor
        per channel; its bias as `b f + beta - mu f`. A batch norm that is not folded is stored as
        `f` and `beta - mu f`. Scales that the model holds less one are stored so. Words lie in the
        order of the integer network, so an address means the same cell there and here; codes are
        equal but where the last bit of a float decides. What is read back goes to the parameters:
        the weight divided by `f`, the change of the bias to `beta`.
Source: Stutz et al., MLSys 2021 (every parameter tensor has a range of its own; ranges anew in
        each step); METHODS E.1 and E.3.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitproof.core.errors import QuantizationError
from bitproof.quant.graph import Graph
from bitproof.quant.grid import CodedTensor, Grid
from bitproof.quant.quantizer import Quantizer
from bitproof.quant.scheme import Scheme
from bitproof.quant.straight_through import encode_all, fold_factors, norm_after
from bitproof.quant.trace import trace

CLOSE = 1e-4
"""How far a stored value may lie from the network's, relative to the largest of its tensor."""
SCALES = frozenset({"affine", "layer_norm", "group_norm"})
"""Operations whose weight is a scale near 1."""


@dataclass(frozen=True)
class Place:
    """Where one stored tensor comes from."""

    parameter: str
    """Path of the parameter that gets what is read back, and the gradient."""
    layer: str
    """Path of the layer whose words they are."""
    is_bias: bool
    less_one: bool = False
    """Whether it is a scale that the model holds less one."""
    is_scale: bool = False
    """Whether it is a scale near 1 that is stored whole."""
    norm: str = ""
    """Path of the batch norm whose statistics are part of the value; empty: none."""


@dataclass(frozen=True)
class LeftFloat:
    """Words of the network that training does not put on their grid."""

    shape: torch.Size
    bits: int
    signed: bool


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
    """Batch norms whose factor is part of a stored value, by the path of the layer."""
    places: dict[str, Place]
    left: dict[str, LeftFloat]
    """Words that no parameter stands for, or that training cannot follow."""
    order: tuple[str, ...]
    """All words of the network, by address."""
    shrink: Mapping[str, float] = field(default_factory=dict)
    """Factors on weight ranges, by name of the node."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        example: Num[Tensor, "n *features"],
        scheme: Scheme,
        shrink: Mapping[str, float] | None = None,
    ) -> "StoredParameters":
        """Return what `model` will store under `scheme`.

        Raises:
            TraceError: the model cannot be traced.
            QuantizationError: no parameter of the model can be followed to its words.
        """
        graph = trace(model, example)
        modules = dict(model.named_modules())
        folded = norm_after(model, example)
        norms = {path: norm for path, norm in folded.items() if path in modules}
        norms |= {
            node.path: node.path
            for node in graph.nodes
            if node.op == "affine" and isinstance(modules.get(node.path), _BatchNorm)
        }
        order = tuple(
            name
            for node in graph.nodes
            for name in (f"{node.name}.weight", f"{node.name}.bias")
            if name in graph.tensors
        )
        places: dict[str, Place] = {}
        found = cls(model, scheme, norms, places, {}, order, shrink or {})
        factors = found.factors()
        for name, place in _candidates(graph, model, norms):
            wanted = graph.tensors[name] - int(place.less_one)
            off = (found._value(place, factors) - wanted).abs()
            # Not close: another parameter than its path says, or changed on its way.
            close = bool((off <= CLOSE * (1e-6 + wanted.abs().max())).all())
            known = place.parameter in {other.parameter for other in places.values()}
            # A bias without a quantizer is a word of 32 bits on the accumulator's grid.
            if close and not known and not (place.is_bias and scheme.bias is None):
                places[name] = place
        found.left.update(
            {name: _left(name, graph.tensors[name], scheme) for name in order if name not in places}
        )
        if not places:
            raise QuantizationError(
                f"{type(model).__name__}: wanted a parameter that training can put on its grid, "
                f"found none among {', '.join(order) or 'no words'}"
            )
        return found

    def factors(self) -> dict[str, Tensor]:
        """Return what batch norms put on weights now, by the path of the layer."""
        return fold_factors(self.model, self.norms)

    def values(self, factors: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the values that are stored now, by the name of the words; without gradients."""
        factors = self.factors() if factors is None else factors
        return {name: self._value(place, factors) for name, place in self.places.items()}

    def encode(self, values: Mapping[str, Tensor]) -> dict[str, CodedTensor]:
        """Return the words of `values`, each tensor on a grid fitted to it."""
        found: dict[str, CodedTensor] = {}
        biases = [name for name in values if self.places[name].is_bias]
        weights = [name for name in values if not self.places[name].is_bias]
        for names, quantizer in ((weights, self.scheme.weight), (biases, self.scheme.bias)):
            if quantizer is not None and names:
                shrinks = [self._shrink(name) for name in names]
                coded = encode_all(quantizer, [values[name] for name in names], shrinks)
                found |= dict(zip(names, coded, strict=True))
        return {name: found[name] for name in values}

    def memory(self, coded: Mapping[str, CodedTensor]) -> dict[str, CodedTensor]:
        """Return words at their addresses, with zeros where the network stores others."""
        device = next(iter(coded.values())).codes.device
        held = {}
        for name in self.order:
            if name in coded:
                held[name] = coded[name]
            else:
                held[name] = _zeros(self.left[name], device)
        return held

    def read_back(
        self,
        values: Mapping[str, Tensor],
        read: Mapping[str, Tensor],
        factors: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Return what parameters become, by path, when others are read in place of `values`.

        `factors` are those that `values` were made with.
        """
        seen: dict[str, Tensor] = {}
        for name, value in read.items():
            place = self.places[name]
            if place.is_bias and place.norm:
                parameter = self.model.get_parameter(place.parameter).detach()
                seen[place.parameter] = parameter + (value - values[name])
            elif place.norm:
                factor = _along(self._factor(place, factors), value)
                # A channel that its norm switches off (factor 0) is stored as zeros and stays.
                seen[place.parameter] = value / torch.where(
                    factor == 0, torch.ones_like(factor), factor
                )
            else:
                seen[place.parameter] = value
        return seen

    @property
    def clippable(self) -> list[str]:
        """Names of the words that clipping bounds.

        Those are all but biases with a batch norm in them, which hold the mean of an activation,
        and scales near 1 that are stored whole.
        """
        return [
            name
            for name, place in self.places.items()
            if not (place.is_bias and place.norm) and not place.is_scale
        ]

    @torch.no_grad()
    def clip_(self, bounds: Mapping[str, float]) -> None:
        """Hold stored values inside `+-bound`, in place, by the name of the words.

        Frozen parameters are clipped as well. A channel that its norm switches off (factor 0)
        stays as it is.
        """
        factors = self.factors() if bounds else {}
        for name, bound in bounds.items():
            place = self.places[name]
            held = self.model.get_parameter(place.parameter)
            if not place.norm:
                held.clamp_(-bound, bound)
                continue
            factor = _along(self._factor(place, factors).abs(), held)
            ends = bound / factor  # infinite where the factor is 0
            held.copy_(torch.minimum(torch.maximum(held, -ends), ends))

    def _value(self, place: Place, factors: Mapping[str, Tensor]) -> Tensor:
        held = self.model.get_parameter(place.parameter).detach()
        if not place.norm:
            return held
        if not place.is_bias:
            return held * _along(self._factor(place, factors), held)
        norm: Any = self.model.get_submodule(place.norm)
        mean: Tensor = norm.running_mean
        own = getattr(self.model.get_submodule(place.layer), "bias", None)
        if place.layer != place.norm and own is not None:
            mean = mean - own.detach()
        return held - mean * factors[place.layer]

    def _factor(self, place: Place, factors: Mapping[str, Tensor]) -> Tensor:
        """Return what a stored weight is, divided by its parameter."""
        if place.layer != place.norm:
            return factors[place.layer]
        norm: Any = self.model.get_submodule(place.norm)  # stored by itself, as its factor
        return torch.rsqrt(norm.running_var + norm.eps)

    def _shrink(self, name: str) -> float:
        node, _, kind = name.rpartition(".")
        return self.shrink.get(node, 1.0) if kind == "weight" else 1.0


def _candidates(
    graph: Graph, model: nn.Module, norms: Mapping[str, str]
) -> Iterator[tuple[str, Place]]:
    """Yield where words come from, as far as paths and shapes tell."""
    parameters, modules = dict(model.named_parameters()), dict(model.named_modules())
    for node in graph.nodes:
        for kind in ("weight", "bias"):
            name, norm = f"{node.name}.{kind}", norms.get(node.path, "")
            if name not in graph.tensors or node.path not in modules:
                continue
            less_one = name in graph.less_one
            owner = norm if kind == "bias" and norm else node.path
            place = Place(
                parameter=f"{owner}.{'excess' if less_one else kind}",
                layer=node.path,
                is_bias=kind == "bias",
                less_one=less_one,
                is_scale=kind == "weight" and node.op in SCALES and not less_one,
                norm=norm,
            )
            held = parameters.get(place.parameter)
            if held is not None and held.shape == graph.tensors[name].shape:
                yield name, place


def _left(name: str, value: Tensor, scheme: Scheme) -> LeftFloat:
    """Return what the network stores in the place of a tensor that is left float."""
    if not name.endswith(".bias"):
        bits, signed = scheme.weight.bits, _is_signed(scheme.weight)
    elif scheme.bias is None:
        bits, signed = 32, True
    else:
        bits, signed = scheme.bias.bits, _is_signed(scheme.bias)
    return LeftFloat(value.shape, bits, signed)


def _is_signed(quantizer: Quantizer) -> bool:
    return bool(quantizer.fit(torch.ones(1)).signed)


def _zeros(left: LeftFloat, device: torch.device) -> CodedTensor:
    one, zero = torch.ones((), device=device), torch.zeros((), dtype=torch.int32, device=device)
    grid = Grid(one, zero, left.bits, left.signed)
    return CodedTensor(torch.zeros(left.shape, dtype=grid.dtype, device=device), grid)


def _along(factor: Tensor, weight: Tensor) -> Tensor:
    """Return a factor per output channel, shaped to broadcast against `weight`."""
    return factor.reshape([-1] + [1] * (weight.ndim - 1))
