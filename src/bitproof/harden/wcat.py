"""Weight clipping with learned ranges: each tensor finds its own bound, a rival of RandBET.

Model:  `w_q = D clip(round(w / D))` with `D = alpha / (2^(m-1) - 1)`, one alpha for each weight
        tensor. The gradient of `w_q` goes to w everywhere, and to alpha as its sum over the weights
        above the range less that over those below, divided by the root of their number. A penalty
        `decay / 2 alpha^2` narrows the range, and with it the error of a flip. alpha starts where
        the squared quantization error is least. No errors are injected.
Source: Chitsaz et al., WCAT, TMLR 2023; METHODS F. The step there is `alpha / 2^(m-1)`; here it is
        that of the grid the network is deployed on.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Literal

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.func import functional_call

from bitproof.core.errors import QuantizationError
from bitproof.core.passes import STEP, Passes
from bitproof.core.types import NonNegative
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.quant.pass_gradient import pass_gradient
from bitproof.quant.quantizer import AffineQuantizer
from bitproof.quant.scheme import Scheme
from bitproof.quant.stored_parameters import StoredParameters
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization

SMALLEST = 1e-12
"""Range of a tensor of zeros, in value units."""


@HARDEN.register
class WCAT(HardeningStage):
    """Train weights together with the bounds that they are clipped to.

    Example:
        >>> WCAT(decay=0.02).kind
        'wcat'
    """

    trains_from_scratch = True

    kind: Literal["wcat"] = "wcat"
    decay: NonNegative = 0.01
    """Penalty on each bound, squared; the main pressure on the range."""
    optimization: Optimization = Optimization(epochs=30, learning_rate=0.1, nesterov=True)
    """How weights and bounds move."""

    @property
    def step_passes(self) -> Passes:
        """Return one gradient."""
        return STEP

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with clipped weights, its scheme made symmetric and signed.

        Raises:
            QuantizationError: weights have a grid for each channel, or none can be followed.
        """
        model, scheme = deepcopy(candidate.model), symmetric(candidate.scheme)
        stored = StoredParameters.of(model, context.train.inputs(slice(0, 2)), scheme)
        values = stored.values()
        names = [name for name in stored.clippable if not stored.places[name].is_bias]
        if not names:
            raise QuantizationError("wcat: wanted weights whose range can be learned, found none")
        bits = scheme.weight.bits
        starts = [best_bound(values[name], bits=bits) for name in names]
        device = context.train.labels.device
        bounds = nn.ParameterList([torch.tensor(start, device=device) for start in starts])
        learner = nn.ModuleDict({"model": model, "bounds": bounds})

        def loss(batch: Batch) -> Iterator[Tensor]:
            seen = read_clipped(stored, dict(zip(names, bounds, strict=True)), bits=bits)
            yield batch.error(functional_call(model, seen, (batch.inputs,)))
            yield self.decay / 2 * torch.stack([bound**2 for bound in bounds]).sum()

        history = self.fine_tune_(
            learner, context, optimization=self.optimization, loss=loss, label="wcat"
        )
        found = {
            name: float(bound.detach().abs()) for name, bound in zip(names, bounds, strict=True)
        }
        stored.clip_({name: bound for name, bound in found.items() if bound > 0})
        done = replace(candidate, model=model, scheme=scheme, shrink={}, correct_bias=False)
        left = list(stored.left)
        return done.with_record(self.kind, loss=history, bounds=found, left_float=left)


def symmetric(scheme: Scheme) -> Scheme:
    """Return a scheme whose weights lie on the grid that a learned bound spans."""
    if getattr(scheme.weight, "per_channel", False):
        raise QuantizationError("wcat: wanted one grid for a tensor, got per_channel weights")
    weight = AffineQuantizer(bits=scheme.weight.bits, symmetric=True, signed=True, margin=0.0)
    return scheme.model_copy(update={"weight": weight})


def best_bound(values: Tensor, *, bits: int) -> float:
    """Return the bound of least squared quantization error.

    Example:
        >>> best_bound(torch.tensor([-1.0, 1.0]), bits=8)
        1.0
    """
    most = float(values.abs().max())
    if most == 0:
        return 1.0

    def error(bound: float) -> float:
        return float(((_rounded(values, bound, bits) - values) ** 2).sum())

    found = minimize_scalar(error, bounds=(most / 100, most), method="bounded")
    return most if error(most) <= found.fun else float(found.x)


def read_clipped(
    stored: StoredParameters, bounds: dict[str, nn.Parameter], *, bits: int
) -> dict[str, Tensor]:
    """Return the parameters as they are read, with gradients to them and to the bounds."""
    factors = stored.factors()
    values = stored.values(factors)
    others = {name: value for name, value in values.items() if name not in bounds}
    read = {name: coded.values() for name, coded in stored.encode(others).items()}
    for name, bound in bounds.items():
        value = values[name]
        # The deployed range ends at the largest weight, if that lies inside the bound.
        edge = torch.minimum(bound.detach().abs(), value.abs().amax().clamp(min=SMALLEST))
        outside = torch.where(value.abs() > edge, value.sign(), 0.0) / value.numel() ** 0.5
        # Adds nothing but the bound's gradient.
        change = (bound.abs() - bound.detach().abs()) * outside
        read[name] = _rounded(value, edge, bits) + change
    seen = stored.read_back(values, read, factors)
    model = stored.model
    return {
        name: pass_gradient(model.get_parameter(name), own.detach()) + (own - own.detach())
        for name, own in seen.items()
    }


def _rounded(values: Tensor, bound: Tensor | float, bits: int) -> Tensor:
    """Return values on the symmetric grid whose range ends at `bound`."""
    step = bound / ((1 << (bits - 1)) - 1)
    return (values / step).clamp(-(1 << (bits - 1)) + 1, (1 << (bits - 1)) - 1).round() * step
