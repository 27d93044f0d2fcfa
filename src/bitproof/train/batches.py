"""The batches of a run, each a function of the run's seed and its number alone.

So a run that goes on at step 700 sees what it would have seen, whatever happened before, and
processes that share a batch agree on it without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from bitproof.core.errors import SpecError
from bitproof.core.rng import derive_seed, make_generator
from bitproof.data.augment import Augmentation, augment
from bitproof.data.dataset import Dataset
from bitproof.train.optimization import Optimization
from bitproof.train.process_group import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class Batch:
    """What a loss sees of one step."""

    inputs: Float[Tensor, "n *features"]
    """Augmented images in [0, 1], or other inputs."""
    labels: Int[Tensor, " n"]
    done: float
    """Fraction of all steps that lies behind, in [0, 1)."""
    epoch: int
    generator: torch.Generator
    """CPU generator of this step, the same in every process: for what befalls the network."""
    label_smoothing: float = 0.0
    """Share of each label that `error` spreads over all classes."""
    share: float = 1.0
    """How much of the whole batch this is, where several processes share it, as a fraction."""
    own: torch.Generator | None = None
    """CPU generator of this process alone, where several share the batch."""

    @property
    def image_generator(self) -> torch.Generator:
        """Return the generator for what befalls the images of this process."""
        return self.own or self.generator

    def error(self, logits: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy of `logits`, labels smoothed."""
        return cross_entropy(logits, self.labels, label_smoothing=self.label_smoothing)


class Batches:
    """All batches of a run, by number; for this process, where the `group` has several.

    `seed` is the root of order, augmentation, and of what losses and layers draw. Each batch comes
    `replays` times in a row.

    Raises:
        SpecError: a batch has fewer images than processes.

    Example:
        >>> data = Dataset.from_arrays(torch.zeros(5, 1, 2, 2), torch.arange(5))
        >>> batches = Batches(data, Optimization(epochs=3, batch_size=2), seed=0)
        >>> len(batches), len(batches[2].labels), batches[3].epoch
        (9, 1, 1)
    """

    def __init__(
        self,
        data: Dataset,
        optimization: Optimization,
        *,
        seed: int,
        augmentation: Sequence[Augmentation] = (),
        group: ProcessGroup = SINGLE_PROCESS,
        replays: int = 1,
    ) -> None:
        self.data, self.optimization, self.augmentation = data, optimization, augmentation
        self.seed, self.part, self.parts = seed, group.rank, group.size
        self.images = min(len(data), optimization.images_per_epoch or len(data))
        self.replays = replays
        batches = -(-self.images // optimization.batch_size)
        self.per_epoch = batches * replays
        """Steps of an epoch; a last, smaller batch counts."""
        least = self.images - (batches - 1) * optimization.batch_size
        if least < self.parts:
            raise SpecError(
                f"batch_size: wanted at least one image of each batch for {self.parts} processes, "
                f"the last of {self.images} images by {optimization.batch_size} has {least}"
            )
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def __len__(self) -> int:
        return self.per_epoch * self.optimization.epochs

    def __getitem__(self, step: int) -> Batch:
        """Return this process's part of the batch of a step."""
        epoch, place = divmod(step // self.replays, self.per_epoch // self.replays)
        size = self.optimization.batch_size
        index = self._order_of(epoch)[place * size : (place + 1) * size]
        images = augment(
            self.data.images[index],
            self.augmentation,
            generator=make_generator(self.seed, "augmentation", step // self.replays),
        )
        inputs = images if images.is_floating_point() else images.to(torch.float32) / 255
        mine = slice(self.part, None, self.parts)
        return Batch(
            inputs=_laid_out(inputs[mine]),
            labels=self.data.labels[index][mine],
            done=step / len(self),
            epoch=epoch,
            generator=make_generator(self.seed, "loss", step),
            own=self._own(step),
            label_smoothing=self.optimization.label_smoothing,
            share=len(range(self.part, len(index), self.parts)) / len(index),
        )

    def again(self, batch: Batch, step: int) -> Batch:
        """Return the batch of a step with its generators as they were."""
        generator = make_generator(self.seed, "loss", step)
        return replace(batch, generator=generator, own=self._own(step))

    def _own(self, step: int) -> torch.Generator | None:
        if self.parts == 1:
            return None
        return make_generator(self.seed, "loss", step, "part", self.part)

    def layer_seed(self, step: int) -> int:
        """Return the seed of what layers such as dropout draw in a step, in this process."""
        return derive_seed(self.seed, "layers", step, self.part)

    def _order_of(self, epoch: int) -> Tensor:
        """Return the images of an epoch; the last answer is kept on the device."""
        if self._order[0] != epoch:
            generator = make_generator(self.seed, "order", epoch)
            order = torch.randperm(len(self.data), generator=generator)[: self.images]
            self._order = (epoch, order.to(self.data.labels.device))
        return self._order[1]


def _laid_out(inputs: Tensor) -> Tensor:
    """Return images with their channels last in memory, as kernels want them; others as a row."""
    images = inputs.ndim == 4
    return inputs.contiguous(
        memory_format=torch.channels_last if images else torch.contiguous_format
    )
