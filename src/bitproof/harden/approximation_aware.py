"""Fine-tune a network through the approximate multipliers that it will be deployed on.

Model:  `L = (1 - g) CE(f(x), y) + g CE(f~(x), y) + lam_adv CE(f(x'), y)`, where f multiplies
        through tables, f~ also reads its weights from a faulty memory, and x' is one signed
        gradient step away. Both of the last two terms cost nothing where they are switched off.
        Grids of activations are those of the network that comes in; weights get a new grid each
        step. Batch norms learn from the first term alone.
Source: approximate-aware retraining: AdaPT, arXiv 2203.04071 (straight-through); arXiv 2509.10519
        (gradients of tables). Faults and x': METHODS A.3 and E.3.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import NonNegative, Positive, Probability
from bitproof.faults import AnyFault, RandomFlips, faulty_codes
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.emulation import Emulation
from bitproof.harden.perturbation import perturbed
from bitproof.models.norms import running_statistics, unlearned_statistics
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization


@HARDEN.register
class ApproximationAware(HardeningStage):
    """Train through the multipliers that an earlier stage has chosen.

    Example:
        >>> ApproximationAware(ber=1e-3).faulty_share
        0.5
    """

    kind: Literal["approximation_aware"] = "approximation_aware"
    gradient: Literal["straight_through", "table"] = "straight_through"
    """Gradient of a product: the other operand, or the slope of the smoothed table."""
    half_width: Annotated[int, Field(ge=0, lt=128)] = 4
    """Neighbours on either side that a table is smoothed over, for `table`."""
    rank: Annotated[int, Field(ge=1, le=256)] = 2
    """Terms that slopes are approximated by, for `table`."""
    fault: AnyFault = RandomFlips(ber=0.0)
    """What breaks in the weights of each layer, in the faulty term; `ber` sets its level."""
    ber: Probability = 0.0
    """Level of the fault: of random flips the bit error rate, as a fraction; 0: no such term."""
    faulty_share: Probability = 0.5
    """Weight of the faulty term, g, where there is one."""
    lam_adv: NonNegative = 0.0
    """Weight of the cross-entropy on x'; 0: no such term."""
    epsilon: Positive = 8 / 255
    """Radius of x', input units."""
    optimization: Optimization = Optimization(learning_rate=0.005)
    """How weights move."""

    @property
    def step_passes(self) -> Passes:
        """Return a gradient for each term of the loss, and one for x'."""
        terms = [True, bool(self.ber and self.faulty_share), *2 * [bool(self.lam_adv)]]
        return sum(terms) * STEP

    def integer_passes(self, images: int, *, layers: int) -> Passes:
        """Return a forward pass through multipliers beside each in floats; words cost another."""
        return Passes(2 * self.passes(images, layers=layers).forward)

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with fine-tuned float weights.

        Raises:
            QuantizationError: no layer can be emulated.
        """
        model = deepcopy(candidate.model)
        emulation = Emulation.of(model, candidate, context.train)
        if self.gradient == "table":
            emulation.follow_tables(half_width=self.half_width, rank=self.rank)

        def loss(batch: Batch) -> Iterator[Tensor]:
            share = self.faulty_share if self.ber else 0.0
            yield (1 - share) * batch.error(model(batch.inputs))
            if share:
                yield share * self._faulty(emulation, batch)
            if self.lam_adv:
                yield self.lam_adv * self._moved(emulation, batch)

        with emulation.running():
            history = self.fine_tune_(
                model,
                context,
                optimization=self.optimization,
                loss=loss,
                label="fine-tune through multipliers",
            )
        done = replace(candidate, model=model)
        layers = {"layers": list(emulation.nodes), "left_float": emulation.left_float}
        return done.with_record(self.kind, loss=history, **layers)

    def _faulty(self, emulation: Emulation, batch: Batch) -> Tensor:
        fault = self.fault.at(self.ber)
        with (
            emulation.faulty(lambda codes: faulty_codes(codes, fault, generator=batch.generator)),
            running_statistics(emulation.model),
        ):
            return batch.error(emulation.model(batch.inputs))

    def _moved(self, emulation: Emulation, batch: Batch) -> Tensor:
        moved = perturbed(emulation.model, batch, epsilon=self.epsilon)
        with unlearned_statistics(emulation.model):
            return batch.error(emulation.model(moved))
