"""What every weight attack promises: chosen bits of stored weights, that raise a loss.

Model:  white box; the attacker knows the network, its stored words and some images with labels,
        and flips single bits of weights. Biases, grids and activations are left alone. What comes
        back is a list of flips of one trial, in the order in which they were found; it may be
        replayed by a fault-injection campaign like any other list.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Int, Int64, Num
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from bitproof.core.errors import DataError, FaultListError
from bitproof.core.passes import UNKNOWN, Passes
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.core.types import Count
from bitproof.faults.execute import broken_memory, faults_by_node
from bitproof.faults.table import FaultRow, FaultTable
from bitproof.quant.grid import Grid
from bitproof.quant.network import IntegerNetwork, check_inputs
from bitproof.stats.threats import ThreatLabel

BitPlace = tuple[str, int, int]
"""Layer, number of the weight in its tensor as if laid out flat, and bit."""


class WeightAttack(Spec):
    """An adversary that flips a bounded number of chosen bits in stored weights."""

    nested: ClassVar[bool] = False
    """Whether the flips found within a smaller bound are the first of those within a larger."""

    kind: str
    n_flips: Count
    """Most bits that are flipped."""

    @property
    def label(self) -> ThreatLabel:
        """Return how people read the attack and its level."""
        return ThreatLabel("bit_flip_attack", self.kind.replace("_", " ").capitalize(), "flips")

    def passes(self, layers: int) -> Passes:  # noqa: ARG002
        """Return what one attack image takes in a network of so many layers; here, unknown."""
        return UNKNOWN

    @final
    def at(self, n_flips: int) -> "WeightAttack":
        """Return the same attack with another bound on the flips.

        Raises:
            SpecError: it is no whole number from 1.
        """
        other = self.from_table({**self.model_dump(), "n_flips": n_flips})
        assert isinstance(other, WeightAttack)
        return other

    @final
    def choose_bits(
        self,
        network: IntegerNetwork,
        inputs: Num[Tensor, "n *features"],
        labels: Int[Tensor, " labels"],
        *,
        generator: torch.Generator,
    ) -> FaultTable:
        """Return the flips found, at most `n_flips`, no bit twice; `network` stays as it is.

        Args:
            network: what is attacked.
            inputs: the attacker's images in [0, 1].
            labels: their classes.
            generator: on the CPU, for attacks that draw.

        Raises:
            InputRangeError: an image lies outside [0, 1], or there are none.
            InputShapeError: images are of another shape than those of calibration.
            DataError: labels do not fit the images, or the attack finds no image that it needs.
            FaultListError: the network has no weights, or the attack broke its promise.
        """
        check_inputs(inputs, network.input_shape)
        if labels.shape != inputs.shape[:1]:
            raise DataError(
                f"labels: wanted one for each of {len(inputs)} images, got {tuple(labels.shape)}"
            )
        found = self.search(network, inputs, labels.long(), generator=generator)
        places = {row[1:] for row in found.rows()}
        if len(places) != len(found) or len(found) > self.n_flips or found.trial.any():
            raise FaultListError(
                f"{self.kind}: wanted at most {self.n_flips} different flips of one trial, "
                f"got {len(found)}"
            )
        return found

    @abstractmethod
    def search(
        self,
        network: IntegerNetwork,
        inputs: Num[Tensor, "n *features"],
        labels: Int[Tensor, " n"],
        *,
        generator: torch.Generator,
    ) -> FaultTable:
        """Return the flips found; `choose_bits` has checked the arguments."""


WEIGHT_ATTACKS: Registry[WeightAttack] = Registry("weight_attacks")
AnyWeightAttack = Annotated[SerializeAsAny[WeightAttack], BeforeValidator(WEIGHT_ATTACKS.validate)]
"""A field of a spec that holds any weight attack, also as a table."""


def flip_bits(
    words: Int64[Tensor, " w"], bit: Int64[Tensor, " w"], grid: Grid
) -> Int64[Tensor, " w"]:
    """Return words on `grid` with one bit of each flipped; signed ones sign-extended.

    Example:
        >>> grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 4, signed=True)
        >>> flip_bits(torch.tensor([1, -8]), torch.tensor([0, 3]), grid)
        tensor([0, 0])
    """
    raw = (words & ((1 << grid.bits) - 1)) ^ (1 << bit)
    half = 1 << (grid.bits - 1)
    return (raw ^ half) - half if grid.signed else raw


def list_flips(network: IntegerNetwork, places: Iterable[BitPlace]) -> FaultTable:
    """Return flips of weights as the faults of trial 0, in the order given."""
    rows: list[FaultRow] = [
        (0, "weight", layer, element, -1, bit, "flip") for layer, element, bit in places
    ]
    return FaultTable.from_rows(rows, layers=[node.name for node in network.nodes], n_trials=1)


def with_flips(network: IntegerNetwork, faults: FaultTable, trial: int = 0) -> IntegerNetwork:
    """Return `network` with the faults of one trial, which all lie in weights or biases.

    Example:
        >>> from bitproof.quant import quantize
        >>> network = quantize(torch.nn.Sequential(torch.nn.Linear(4, 2)), torch.rand(8, 4))
        >>> broken = with_flips(network, list_flips(network, [("0", 5, 7)]))
        >>> (broken.tensors["0.weight"].codes ^ network.tensors["0.weight"].codes)[1, 1].item()
        128
    """
    return broken_memory(network, faults_by_node(faults.of_trial(trial)))
