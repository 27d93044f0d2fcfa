"""Train through quantization: the forward pass sees every parameter as it will be stored.

Model:  `L = CE(f(x; Q^-1(Q(w))), y)`, ranges anew in each step, gradients straight through. Before
        each step the stored values are held inside `+-w_max` (clipping); the range that codes are
        spread over still follows the weights. With activations on their grids, what each layer
        reads is rounded as the deployed network rounds it, on ranges measured before each epoch.
        A bias with its batch norm folded in is not clipped: it holds the mean of an activation.
Source: Stutz et al., MLSys 2021 (robust quantization, clipping) and TPAMI 2022 (per-layer
        clipping); METHODS E.1 and E.2. Batch norms: Jacob et al., CVPR 2018.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from torch import Tensor, nn

from bitproof.core.passes import STEP, Passes
from bitproof.core.types import Positive
from bitproof.harden.activation_grids import ActivationGrids
from bitproof.harden.base import HARDEN, Candidate, HardeningStage, TrainingContext
from bitproof.harden.deferred_scalar import LossMemory
from bitproof.quant.grid import CodedTensor
from bitproof.quant.scheme import Scheme
from bitproof.quant.stored_parameters import StoredParameters
from bitproof.quant.straight_through import call_with
from bitproof.train.batches import Batch
from bitproof.train.optimization import Optimization
from bitproof.train.process_group import ProcessGroup


@dataclass(frozen=True, eq=False)
class Words:
    """The stored words of one step, and the values that they were made from."""

    stored: StoredParameters
    values: dict[str, Tensor]
    codes: dict[str, CodedTensor]
    factors: dict[str, Tensor]
    """What batch norms put on weights when the words were made."""

    def read_back(self, codes: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return what the parameters become when these words, or other codes, are read."""
        read = {
            name: own.grid.decode(own.codes if codes is None else codes[name])
            for name, own in self.codes.items()
        }
        return self.stored.read_back(self.values, read, self.factors)


@dataclass(frozen=True, eq=False)
class QuantizedTraining:
    """A model under training, and what it stores."""

    model: nn.Module
    stored: StoredParameters
    bounds: dict[str, float]
    """What clipping holds stored values inside, by the name of the words."""
    group: ProcessGroup
    activations: ActivationGrids | None = None
    """What puts activations on their grids, if anything."""
    losses: LossMemory = field(default_factory=LossMemory)
    """Losses of the last step."""

    def words(self, batch: Batch) -> Words:
        """Clip the weights in place, and return their words; this begins a step."""
        stored = self.stored
        stored.clip_(self.bounds)
        if self.activations is not None:
            self.activations.follow(batch.epoch)
        factors = stored.factors()
        values = stored.values(factors)
        return Words(stored, values, stored.encode(values), factors)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let activations be on their grids inside the block."""
        with nullcontext() if self.activations is None else self.activations.running():
            yield

    def error(self, seen: dict[str, Tensor], batch: Batch, *, limit: float | None = None) -> Tensor:
        """Return the loss with parameters as they are read, each entry of its gradient bounded."""
        with self.running():
            return batch.error(call_with(self.model, batch.inputs, seen, limit=limit))

    def remember(self, name: Literal["clean", "faulty"], loss: Tensor, batch: Batch) -> None:
        """Keep a loss for the next step, as the mean over all processes."""
        self.losses[name].send(self.group.mean(loss.detach(), weight=batch.share))


class QuantizedStage(HardeningStage):
    """A stage that trains on deployed grids; a subclass says on which loss."""

    trains_from_scratch: ClassVar[bool] = True

    quantization: Scheme | None = None
    """How the network is quantized, here and when it is deployed; None: as it came."""
    w_max: Positive | None = None
    """Bound on every stored value, value units; None: no clipping."""
    clipping: Literal["global", "per_layer"] = "global"
    """The same bound for all tensors, or `w_max` for the one of the widest range at the start and
    in proportion for the others."""
    activations: bool = False
    """Whether activations are on their grids, too."""
    optimization: Optimization = Optimization(
        epochs=30, learning_rate=0.05, schedule="multi_step", nesterov=True
    )
    """How weights move."""

    def passes(self, images: int, *, layers: int) -> Passes:
        """Return the training, and the calibration of activations before each epoch."""
        looks = self.optimization.epochs if self.activations else 0
        calibrated = (self.quantization or Scheme()).passes(images)
        return super().passes(images, layers=layers) + looks * calibrated

    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return the candidate with trained float weights and the scheme of this stage.

        Raises:
            QuantizationError: no parameter of the model can be followed to its words.
        """
        model = deepcopy(candidate.model)
        scheme = self.quantization or candidate.scheme
        example = context.train.inputs(slice(0, 2))
        stored = StoredParameters.of(model, example, scheme, candidate.shrink)
        grids = None
        if self.activations:
            images = context.train.inputs(slice(0, scheme.calibration_images))
            grids = ActivationGrids(model, images, scheme)
        training = QuantizedTraining(model, stored, self._bounds(stored), context.group, grids)

        def loss(batch: Batch) -> Iterator[Tensor]:
            return self.terms(training, batch)

        history = self.fine_tune_(
            model,
            context,
            optimization=self.optimization,
            loss=loss,
            label=self.kind.replace("_", " "),
            checkpointed={"losses": training.losses, **({"grids": grids} if grids else {})},
        )
        stored.clip_(training.bounds)
        done = replace(candidate, model=model, scheme=scheme, correct_bias=False)
        return done.with_record(self.kind, loss=history, left_float=list(stored.left))

    @abstractmethod
    def terms(self, training: QuantizedTraining, batch: Batch) -> Iterator[Tensor]:
        """Yield the terms of the loss of one step."""

    def _bounds(self, stored: StoredParameters) -> dict[str, float]:
        if self.w_max is None:
            return {}
        if self.clipping == "global":
            return dict.fromkeys(stored.clippable, self.w_max)
        widest = {name: float(stored.values()[name].abs().max()) for name in stored.clippable}
        most = max(widest.values(), default=1.0) or 1.0
        return {name: self.w_max * own / most for name, own in widest.items() if own > 0}


@HARDEN.register
class QuantizationAware(QuantizedStage):
    """Train with parameters, and activations if asked, on their deployed grids.

    Example:
        >>> QuantizationAware(w_max=0.1).clipping
        'global'
    """

    kind: Literal["quantization_aware"] = "quantization_aware"

    @property
    def step_passes(self) -> Passes:
        """Return one gradient."""
        return STEP

    def terms(self, training: QuantizedTraining, batch: Batch) -> Iterator[Tensor]:
        """Yield the cross-entropy of the quantized network."""
        yield training.error(training.words(batch).read_back(), batch)
