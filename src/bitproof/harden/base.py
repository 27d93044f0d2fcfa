"""What every hardening stage promises, and what it works on."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from pydantic import model_validator
from torch import nn

from bitproof.approx.deploy import Arithmetic
from bitproof.core.passes import STEP, UNKNOWN, Passes
from bitproof.core.progress import SILENT, Progress
from bitproof.core.registry import Registry
from bitproof.core.rng import make_generator
from bitproof.core.spec import Spec
from bitproof.data.dataset import Dataset
from bitproof.models.user_module import unwrapped
from bitproof.quant.build import quantize_traced
from bitproof.quant.network import IntegerNetwork, check_inputs
from bitproof.quant.scheme import Scheme
from bitproof.quant.trace import trace
from bitproof.train.batches import Batch
from bitproof.train.checkpointing import Checkpointable, Checkpointer
from bitproof.train.loop import Loss, fit_
from bitproof.train.optimization import Optimization
from bitproof.train.process_group import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Candidate:
    """A network on its way to the chip: float weights, and how they will be quantized.

    Raises:
        ModelError: `model` is no module as written in Python.
    """

    model: nn.Module
    scheme: Scheme = field(default_factory=Scheme)
    shrink: Mapping[str, float] = field(default_factory=dict)
    """Factor on the weight range of single layers, by name; 1 where absent."""
    correct_bias: bool = False
    """Whether biases absorb the mean error that quantization leaves in each channel."""
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    """What multiplies in each layer."""
    data_dir: Path | None = None
    """Folder that tables of multipliers are read from; see `data_root`."""
    record: tuple[dict[str, Any], ...] = ()
    """What each stage so far reports: JSON values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", unwrapped(self.model))

    def quantize(self, calibration: Dataset) -> IntegerNetwork:
        """Return the integer network, compared with floats before it gets other multipliers.

        Of `calibration`, `scheme.calibration_images` are used.

        Raises:
            TraceError: the model cannot be traced or quantized.
            QuantizationError: weights or activations are not finite, or multipliers do not fit.
            DataError: the table of a multiplier is missing.
            InputRangeError: there are no calibration images.
        """
        images = calibration.inputs(slice(0, self.scheme.calibration_images))
        check_inputs(images)
        graph = trace(self.model, images)
        corrected = self.correct_bias or self.scheme.bias_correction
        scheme = self.scheme.model_copy(update={"bias_correction": corrected})
        network = quantize_traced(graph, images, scheme, shrink=self.shrink)
        return self.arithmetic.apply(network, images, data_dir=self.data_dir)

    def with_record(self, kind: str, **record: object) -> "Candidate":
        """Return the candidate with one stage's record added."""
        return replace(self, record=(*self.record, {"kind": kind, "record": record}))


@dataclass(frozen=True)
class TrainingContext:
    """What a stage needs beside the candidate."""

    train: Dataset
    """Training images, on the device of the model."""
    seed: int = 0
    """Root of the stage's randomness."""
    augmentation: tuple[Any, ...] = ()
    """Augmentations of the training images (`bitproof.data.augment`)."""
    checkpointer: Checkpointer | None = None
    """Keeps snapshots of training, from which the same stage on the same candidate goes on."""
    group: ProcessGroup = SINGLE_PROCESS
    """The processes that share each batch."""
    progress: Progress = SILENT
    """Who watches."""

    def generator(self, *parts: object) -> torch.Generator:
        """Return a generator for the purpose that `parts` name."""
        return make_generator(self.seed, *parts)


class HardeningStage(Spec):
    """One step from a vulnerable network to a hardened one; stages go in any order."""

    trains_from_scratch: ClassVar[bool] = False
    """Whether it trains long enough to start from random weights."""

    kind: str

    @model_validator(mode="after")
    def _check_optimization(self) -> "HardeningStage":
        if getattr(getattr(self, "optimization", None), "compiled", False):
            raise ValueError("optimization.compiled: wanted false in a stage; it is for `train`")
        return self

    @abstractmethod
    def apply(self, candidate: Candidate, context: TrainingContext) -> Candidate:
        """Return a hardened candidate; the argument and its model stay as they are.

        Raises:
            DivergenceError: training diverged.
            StoppedError: asked to stop; another call with the same arguments goes on.
            TraceError: the model cannot be traced.
        """

    @property
    def step_passes(self) -> Passes:
        """Return what one image of a training step takes, at most; here one gradient, at least."""
        return STEP + Passes(at_least=True)

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return what `apply` sends through the float network, at most, before it begins.

        Here: `step_passes` for every image of every epoch; every image once, at least, in a stage
        without an `optimization`.

        Args:
            images: number of training images.
            layers: convolutions and linear layers of the network.
        """
        optimization = getattr(self, "optimization", None)
        if not isinstance(optimization, Optimization):
            return images * UNKNOWN
        return optimization.trained_images(images) * self.step_passes

    def integer_passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return what `apply` sends through integer networks, at most; here, nothing."""
        return Passes()

    @final
    def fine_tune_(
        self,
        model: nn.Module,
        context: TrainingContext,
        *,
        optimization: Optimization,
        loss: Loss,
        label: str,
        after_backward: Callable[[Batch], None] | None = None,
        after_epoch: Callable[[], bool] | None = None,
        replays: int = 1,
        checkpointed: Mapping[str, Checkpointable] | None = None,
    ) -> list[float]:
        """Train `model` in place as `fit_` does, and return the mean loss of each epoch.

        It starts in training mode and ends in evaluation mode.
        """
        model.train()
        history = fit_(
            model,
            context.train,
            optimization,
            loss=loss,
            generator=context.generator(self.kind),
            augmentation=context.augmentation,
            after_backward=after_backward,
            after_epoch=after_epoch,
            replays=replays,
            checkpointed=checkpointed,
            checkpointer=context.checkpointer,
            group=context.group,
            progress=context.progress,
            label=label,
            identity=self.digest()[:16],
        )
        model.eval()
        return history


HARDEN: Registry[HardeningStage] = Registry("harden")
