"""Training through quantization: gradients pass rounding and faults as if they were not there.

Model:  `W~ = Q^-1(Q(W) xor B)` replaces a weight in the forward pass; the gradient of `W~` is
        taken for that of `W`, optionally clamped elementwise. Where a batch norm follows, codes
        are those of the folded weight, as they will be stored: `Q` acts on `W * f` with `f` the
        norm's factor per channel, and the result is divided by `f` again.
Source: METHODS A.3 (6) and (7), E.3.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Num
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from bitproof.core.errors import WeightsError, near
from bitproof.quant.grid import CodedTensor
from bitproof.quant.pass_gradient import pass_gradient
from bitproof.quant.quantizer import Quantizer
from bitproof.quant.scheme import Scheme
from bitproof.quant.simplify import folds
from bitproof.quant.trace import trace_as_is

Inject = Callable[[dict[str, CodedTensor]], Mapping[str, Tensor]]
"""Maps stored tensors, by parameter name, to the codes that are read back."""


def norm_after(model: nn.Module, example: Num[Tensor, "n *features"]) -> dict[str, str]:
    """Return, for each layer whose batch norm will be folded into it, the path of that norm."""
    graph = trace_as_is(model, example)
    users = graph.users()
    norms = {path for path, module in model.named_modules() if isinstance(module, _BatchNorm)}
    lone = [(node, *users[node.name]) for node in graph.nodes if len(users[node.name]) == 1]
    return {
        node.path: after.path
        for node, after in lone
        if node.op in {"conv", "linear"} and folds(after, node) and after.path in norms
    }


def fold_factors(model: nn.Module, norms: Mapping[str, str]) -> dict[str, Tensor]:
    """Return the factors per output channel that norms, from `norm_after`, put on weights now."""
    factors = {}
    for layer, norm in norms.items():
        module: Any = model.get_submodule(norm)
        factor = torch.rsqrt(module.running_var + module.eps)
        factors[layer] = (factor if module.weight is None else factor * module.weight).detach()
    return factors


def faulty_weights(
    model: nn.Module,
    layers: list[str],
    scheme: Scheme,
    *,
    inject: Inject,
    factors: Mapping[str, Tensor] | None = None,
    shrink: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Return the weights that a faulty memory would give back, by parameter name; no gradients.

    Layers, given by their paths, are quantized as they are where they have none of the
    `fold_factors`; `shrink` holds factors on the ranges of single ones.
    """
    factors, shrink = factors or {}, shrink or {}
    stored = {layer: cast(Tensor, model.get_submodule(layer).weight).detach() for layer in layers}
    spread = {
        layer: factors[layer].reshape([-1] + [1] * (weight.ndim - 1))
        for layer, weight in stored.items()
        if layer in factors
    }
    for layer, factor in spread.items():
        stored[layer] = stored[layer] * factor
    shrinks = [shrink.get(layer, 1.0) for layer in stored]
    names = [f"{layer}.weight" for layer in stored]
    coded = dict(zip(names, encode_all(scheme.weight, [*stored.values()], shrinks), strict=True))
    faulty = inject(coded)
    seen = {name: CodedTensor(faulty[name], codes.grid).values() for name, codes in coded.items()}
    for layer, factor in spread.items():
        # A channel that its norm switches off (factor 0) is stored as zeros and stays as it is.
        seen[f"{layer}.weight"] /= torch.where(factor == 0, torch.ones_like(factor), factor)
    return seen


def call_with(
    model: nn.Module,
    inputs: Num[Tensor, "n *features"],
    seen: Mapping[str, Tensor],
    *,
    limit: float | None = None,
) -> Tensor:
    """Run `model` with other values of some weights; gradients go to the model's own weights.

    `limit` bounds each entry of the gradient of every parameter.

    Raises:
        WeightsError: the model has no parameter of a name in `seen`.
    """
    names = [name for name, _ in model.named_parameters()]
    for name in seen:
        if name not in names:
            raise WeightsError(f"seen: no parameter '{name}'. {near(name, names)}")
    weights = {
        name: pass_gradient(weight, seen.get(name, weight), limit)
        for name, weight in model.named_parameters()
        if name in seen or limit is not None
    }
    result: Tensor = functional_call(model, weights, (inputs,))
    return result


class StraightThrough(nn.Module):
    """A model that sees its parameters quantized, for quantization-aware training.

    Train it as any module; the float parameters inside `model` are what moves, and what
    `quantize` takes afterwards. Activations stay float; batch norms are not folded.

    Example:
        >>> inner = nn.Linear(2, 1)
        >>> wrapped = StraightThrough(inner, Scheme())
        >>> wrapped(torch.ones(1, 2)).sum().backward()
        >>> inner.weight.grad
        tensor([[1., 1.]])
    """

    def __init__(self, model: nn.Module, scheme: Scheme) -> None:
        super().__init__()
        self.model, self.scheme = model, scheme

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output of the model with quantized parameters."""
        held = {name: value.detach() for name, value in self.model.named_parameters()}
        biases = [name for name in held if name.rpartition(".")[2] == "bias"]
        weights = [name for name in held if name not in biases]
        seen: dict[str, Tensor] = {}
        for names, quantizer in ((weights, self.scheme.weight), (biases, self.scheme.bias)):
            if quantizer is not None:
                values = [held[name] for name in names]
                for name, codes in zip(names, encode_all(quantizer, values), strict=True):
                    seen[name] = codes.values().to(held[name].dtype)
        return call_with(self.model, inputs, seen)


def encode_all(
    quantizer: Quantizer, tensors: list[Tensor], shrinks: list[float] | None = None
) -> list[CodedTensor]:
    """Return the words of each tensor, without a look at its numbers that a device waits for."""
    grids = quantizer.fit_all(tensors, shrinks=shrinks or [1.0] * len(tensors))
    return [quantizer.encode(values, grid) for values, grid in zip(tensors, grids, strict=True)]
