"""How much harm a multiplier does in a filter: scores, which add up over filters, and one more.

Model:  the error of a filter's outputs has a mean M, the same at all places, and a variance V,
        independent at each (`tap_words`). A score of one filter and one multiplier is the expected
        harm of both; that of a layer or of a whole choice is the sum over filters.
Source: METHODS B.4 (`hawx`); Dong et al., "HAWQ-V2", NeurIPS 2020 (`hessian`); signal over noise,
        as usual for choosing bit widths (`noise_tolerance`).
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.passes import STEP, Passes
from bitproof.core.registry import Registry
from bitproof.core.rng import make_generator
from bitproof.core.spec import Spec
from bitproof.core.types import Probability
from bitproof.explore.interactions import Interactions, check_size
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.profile import BATCH, Energy, Judged, Profile, run_back
from bitproof.explore.units import by_filter

Scores = Float64[np.ndarray, "filters blocks"]
SMALLEST = 1e-30
"""Variance of outputs that never change."""


class Score(Spec):
    """A measure of the harm that a multiplier does in a filter."""

    kind: str
    judged: ClassVar[Judged] = "loss"
    """What the profile takes gradients of for it."""

    def passes(self, blocks: int) -> Passes:  # noqa: ARG002
        """Return what a profiled image takes beside the profile; here nothing, at least."""
        return Passes(at_least=True)

    @abstractmethod
    def score(self, profile: Profile, blocks: MultiplierSet) -> Scores:
        """Return the harm by filter and multiplier, 0 or more; exact multipliers do none."""

    def interactions(self, profile: Profile, blocks: MultiplierSet) -> Interactions | None:  # noqa: ARG002
        """Return harm that does not add up, None where the score has none."""
        return None


SCORES: Registry[Score] = Registry("scores")
AnyScore = Annotated[SerializeAsAny[Score], BeforeValidator(SCORES.validate)]


@SCORES.register
class HawxScore(Score):
    """Squared gradients of the loss times the error's mean and variance, from histograms alone.

    The mean is the same at all places, so that its harm follows the squared sum of gradients;
    METHODS B.4 counts it like the variance, place by place.

    Example:
        >>> HawxScore(kappa=1.0).judged
        'loss'
    """

    kind: Literal["hawx"] = "hawx"
    kappa: Probability = 0.0
    """Share of the mean error that a correction of biases takes off."""

    def passes(self, blocks: int) -> Passes:  # noqa: ARG002
        """Return nothing: the profile suffices."""
        return Passes()

    def score(self, profile: Profile, blocks: MultiplierSet) -> Scores:
        """Return gradient energy times error energy."""
        return weighted(profile, blocks, profile.energy("loss"), kappa=self.kappa)


@SCORES.register
class HessianScore(Score):
    """Half the diagonal of the Gauss-Newton matrix of the loss times the error's energy.

    Unlike squared gradients of true labels, it does not vanish where a network is always right.

    Example:
        >>> HessianScore().judged
        'curvature'
    """

    kind: Literal["hessian"] = "hessian"
    judged: ClassVar[Judged] = "curvature"
    kappa: Probability = 0.0
    """Share of the mean error that a correction of biases takes off."""

    def passes(self, blocks: int) -> Passes:  # noqa: ARG002
        """Return nothing: the profile suffices."""
        return Passes()

    def score(self, profile: Profile, blocks: MultiplierSet) -> Scores:
        """Return half of curvature times error energy."""
        return 0.5 * weighted(profile, blocks, profile.energy("curvature"), kappa=self.kappa)


@SCORES.register
class NoiseTolerance(Score):
    """Energy of the error over the variance of the filter's outputs: no gradients.

    Example:
        >>> NoiseTolerance().kind
        'noise_tolerance'
    """

    kind: Literal["noise_tolerance"] = "noise_tolerance"

    def passes(self, blocks: int) -> Passes:  # noqa: ARG002
        """Return nothing: the profile suffices."""
        return Passes()

    def score(self, profile: Profile, blocks: MultiplierSet) -> Scores:
        """Return noise over signal, a layer's filters in the mean."""
        means, variances = profile.moments([block.table.errors for block in blocks.all])
        signal = torch.cat([own.outputs.variance * own.layer.filters for own in profile.layers])
        found: Scores = ((means**2 + variances) / signal.clamp(min=SMALLEST)[:, None]).cpu().numpy()
        return found


@SCORES.register
class ObservedScore(Score):
    """Squared effect on the loss, first order, of errors that are computed, not predicted.

    Each layer runs once with each multiplier on what it reads in the exact network: correlated
    errors count as they are, for as many runs of the network as there are multipliers.

    Example:
        >>> ObservedScore().kind
        'observed'
    """

    kind: Literal["observed"] = "observed"

    def passes(self, blocks: int) -> Passes:
        """Return a gradient, and every layer once with each multiplier."""
        return STEP + Passes(blocks)

    def score(self, profile: Profile, blocks: MultiplierSet) -> Scores:
        """Return the mean over images of the squared sum of gradient times error."""
        total = np.zeros((profile.units.starts[-1], len(blocks)))
        for effects in observed_effects(profile, blocks):
            total += (effects.double() ** 2).sum(0).cpu().numpy()
        return total / len(profile.data)


@SCORES.register
class JointScore(ObservedScore):
    """Effects as in `observed`, together: errors of several units strengthen or cancel each other.

    For at most 12,000 pairs of unit and multiplier.

    Example:
        >>> JointScore().kind
        'joint'
    """

    kind: Literal["joint"] = "joint"  # type: ignore[assignment]

    def interactions(self, profile: Profile, blocks: MultiplierSet) -> Interactions:
        """Return what effects of units come to together.

        Raises:
            SpecError: there are too many units.
        """
        units = profile.units
        check_size(units.count, len(blocks))
        chosen = torch.from_numpy(units.unit_of >= 0)
        index = torch.from_numpy(units.unit_of)[chosen]
        parts = []
        for effects in observed_effects(profile, blocks):
            by_unit = torch.zeros(len(effects), units.count, len(blocks))
            by_unit.index_add_(1, index, effects[:, chosen].float())
            parts.append(by_unit)
        return Interactions.of(torch.cat(parts).numpy())


def observed_effects(
    profile: Profile, blocks: MultiplierSet
) -> Iterator[Float[Tensor, "n filters blocks"]]:
    """Yield first-order effects on the loss of each image, batch by batch."""
    units, network = profile.units, profile.network
    nodes = {node.name: node for node in network.nodes}
    rough = {
        (layer.name, number): network.with_products({layer.name: products})
        for layer in units.layers
        for number in range(len(blocks))
        if (products := blocks.products(np.full(layer.filters, number), network.device))
    }
    draw = make_generator(0, "observed")
    for part in profile.data.blocks(BATCH):
        one = run_back(network, part, units, judges=("loss",), draw=draw)
        found = torch.zeros(len(part), units.starts[-1], len(blocks))
        for layer, first in zip(units.layers, units.starts, strict=False):
            gradient, constants = one.gradients["loss"][layer.name], network.constants[layer.name]
            for number in range(len(blocks)):
                changed = rough.get((layer.name, number))
                if changed is None:
                    continue
                sums = changed.accumulator(nodes[layer.name]).sums(one.codes[layer.name])
                values = by_filter(
                    sums * constants.multipliers[0], nodes[layer.name], layer, images=len(part)
                )
                effect = (gradient * (values - one.outputs[layer.name])).sum(2)
                found[:, first : first + layer.filters, number] = effect.cpu()
        yield found


def weighted(
    profile: Profile, blocks: MultiplierSet, energy: Energy, *, kappa: float = 0.0
) -> Scores:
    """Return squared gradients times the energy of errors, by filter and block."""
    means, variances = profile.moments([block.table.errors for block in blocks.all])
    shift, spread = energy.shift[:, None], energy.spread[:, None]
    found: Scores = ((1 - kappa) * shift * means**2 + spread * variances).cpu().numpy()
    return found
