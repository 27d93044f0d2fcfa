"""What a fault-injection campaign breaks, how often, and how it counts.

Model:  the fault is the unit: each trial is one draw of faults, met by the same images. Trials of
        one fault each are drawn without return, stratified by layer and bit, as many as Leveugle's
        formula asks for.
Source: Leveugle et al., Statistical Fault Injection, DATE 2009; Ruospo et al., Assessing
        Convolutional Neural Networks Reliability through Statistical Fault Injections, DATE 2023
        (data-aware allocation).
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from bitproof.core.spec import Spec
from bitproof.core.types import Confidence, Count, Fraction, Positive, Seed, Share
from bitproof.faults.base import AnyFault, FaultModel
from bitproof.faults.kinds import KINDS, FaultKind, Flip
from bitproof.faults.protection import AnyProtection
from bitproof.faults.space import FaultSpace
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import ARRAY_SITES
from bitproof.stats.stopping import STOP_RULES, StopRule

AnyKind = Annotated[SerializeAsAny[FaultKind], BeforeValidator(KINDS.validate)]
AnyStop = Annotated[SerializeAsAny[StopRule], BeforeValidator(STOP_RULES.validate)]


class FaultGroup(FaultSpace):
    """Faults of one kind.

    Example:
        >>> FaultGroup(sites=("weight",), kind={"kind": "stuck_at", "value": 1}).kind.value
        1
    """

    kind: AnyKind = Flip()
    """What happens at a place that breaks."""
    count: Count = 1
    """Places that break in each trial."""
    rate: Fraction | None = None
    """Break every place with this probability instead, as a fraction."""
    exhaustive: bool = False
    """Try every place once instead of drawing."""
    model: AnyFault | None = None
    """What breaks in all weights or biases as one memory, instead of `kind`: each trial is one
    draw, of which the bits count that the group names."""

    @model_validator(mode="after")
    def _one_extent(self) -> "FaultGroup":
        chosen = [self.count > 1, self.rate is not None, self.exhaustive]
        if sum(chosen) > 1:
            raise ValueError("wanted one of count, rate and exhaustive")
        if self.model is not None:
            if any(chosen) or self.kind != Flip():
                raise ValueError("model: wanted it alone, not with kind, count, rate or exhaustive")
            if not set(self.sites) <= {"weight", "bias"}:
                sites = ", ".join(self.sites)
                raise ValueError(f"model: wanted sites among weight and bias, got {sites}")
        return self

    @model_validator(mode="after")
    def _one_fault_of_an_array(self) -> "FaultGroup":
        several = self.count > 1 or self.rate is not None
        if several and self.in_array:
            raise ValueError("wanted one fault a trial in an array, without count and rate")
        return self

    @property
    def in_array(self) -> bool:
        """Whether faults lie in the registers of an array."""
        return any(site == "systolic" or site in ARRAY_SITES for site in self.sites)

    @property
    def source(self) -> FaultKind | FaultModel:
        """Return what says which bits break."""
        return self.model or self.kind


class Injection(Spec):
    """A fault-injection campaign on one network.

    Example:
        >>> Injection(margin=0.05).trials is None
        True
    """

    faults: Annotated[tuple[FaultGroup, ...], Field(min_length=1, max_length=1000)] = (
        FaultGroup(),
    )
    """Kinds of fault; each has trials of its own."""
    together: bool = False
    """Every trial meets a draw of every kind of fault instead."""
    trials: Count | None = None
    """Trials of each kind of fault; None: as many as `margin` asks for."""
    margin: Share = 0.01
    """Half the width of the interval that sets the number of trials, as a fraction."""
    confidence: Confidence = 0.95
    """Of all intervals."""
    per: Literal["network", "cell"] = "network"
    """What the margin holds for: the rate of the network, or that of each layer and bit."""
    allocation: Literal["proportional", "equal", "data_aware"] = "proportional"
    """How trials are shared out over layers and bits: as their sizes; alike; or by size and by how
    far a flip of the bit moves a value, relative to the farthest."""
    interval: Literal["wilson", "clopper_pearson"] = "wilson"
    """At the effective number of trials, between faults."""
    stop: AnyStop | None = None
    """Stop before all trials are done, by the rate of `stop_on`."""
    stop_on: Literal["sdc1", "sdc5", "sdc10", "sdc20", "due"] = "sdc1"
    """Outcome that the stop rule watches."""
    images: Count = 64
    """Test images, the first ones, that meet every fault."""
    only_correct: bool = False
    """Take images that the network gets right without faults only."""
    array: SystolicArray = SystolicArray()
    """What layers run on, for faults in its registers."""
    protections: Annotated[tuple[AnyProtection, ...], Field(max_length=100)] = ()
    """Hardware between faults and network, in this order."""
    profile_images: Count = 256
    """Training images that bounds of activations are taken from."""
    fit_per_mbit: Positive | None = None
    """Raw failures in 10^9 hours per 10^6 bits of memory, for the failure rate of the network."""
    seed: Seed = 0
    """Root of all draws."""

    @property
    def in_array(self) -> bool:
        """Whether any fault lies in the registers of an array."""
        return any(group.in_array for group in self.faults)

    @model_validator(mode="after")
    def _array_alone(self) -> "Injection":
        if self.together and len(self.faults) > 1 and self.in_array:
            raise ValueError("together: wanted faults of an array alone in their trials")
        return self
