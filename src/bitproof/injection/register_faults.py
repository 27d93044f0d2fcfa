"""Faults in the registers of an accelerator's processing elements, as a threat beside others.

Model:  the trials are those of a fault-injection campaign with the site `systolic`: one bit of one
        register of one processing element, drawn uniformly; a transient one turns over in one
        cycle, a permanent one is held at 0 or at 1, each in half of the draws. All images meet the
        same fault. The draw is the unit of intervals. Networks whose layers multiply through tables
        are not measured: what a struck register makes of their products is not modelled, see
        `multiplier_faults`. Neither are float models.
Source: METHODS D.2.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

from bitproof.core.passes import Passes
from bitproof.core.types import Count, Rounds
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel, IntegerModel
from bitproof.evaluation.multiplier_faults import SHOWN, outcome_rows
from bitproof.evaluation.threat import THREATS, Counts, Threat, at_most, first
from bitproof.faults.kinds import FaultKind, Flip, StuckAt
from bitproof.faults.systolic import SystolicArray
from bitproof.faults.table import FaultTable
from bitproof.injection.engine import Engine
from bitproof.injection.golden import Golden
from bitproof.injection.plan import draw_plan
from bitproof.injection.spec import FaultGroup, Injection
from bitproof.metrics import Tally
from bitproof.metrics.tally import IMAGES
from bitproof.quant.network import IntegerNetwork
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel


@THREATS.register
class RegisterFaults(Threat):
    """Break registers of a systolic array.

    Example:
        >>> RegisterFaults(faults="permanent", trials=100).title
        'permanent_register_faults'
    """

    integers_only: ClassVar[bool] = True

    kind: Literal["register_faults"] = "register_faults"
    faults: Literal["transient", "permanent"] = "transient"
    """Bits turned over in one cycle, or held at 0 or 1 for good."""
    trials: Rounds = 200
    """Draws."""
    images: Count | None = 64
    """Test images that each draw meets, the first ones; None: all."""
    array: SystolicArray = SystolicArray()
    """The array."""

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or f"{self.faults}_register_faults"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return accuracy and silent corruption."""
        return ("acc", *SHOWN)

    @property
    def label(self) -> ThreatLabel:
        """Return the label."""
        title = f"{self.faults.capitalize()} faults in registers"
        return ThreatLabel("compute_fault", title, unit="draw")

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:  # noqa: ARG002
        """Return every draw."""
        return [(0.0, trial) for trial in range(self.trials)]

    @property
    def slowdown(self) -> float:
        """Return that permanent faults touch every layer."""
        return 5.0 if self.faults == "permanent" else 1.0

    def passes(self, images: int, *, layers: int) -> Passes:  # noqa: ARG002
        """Return the images of every draw, and once without faults."""
        return Passes((self.trials + 1) * at_most(images, self.images))

    def first_images(self, data: Dataset) -> int | None:
        """Return how many images each draw meets."""
        return at_most(len(data), self.images)

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return what a draw's count depends on: their number, too, as they are drawn together."""
        fixed = self.model_dump(mode="json", exclude={"name", "levels", "images"})
        return {**fixed, "images": len(first(data, self.images))}

    def measure(
        self,
        model: EvaluatedModel,
        data: Dataset,
        *,
        level: float,  # noqa: ARG002
        trial: int,
        seed: int,
    ) -> Tally:
        """Return right answers, and those with silent corruption, in one trial."""
        if not isinstance(model, IntegerModel) or model.network.products:
            return Tally(0, 0)
        known = _ENGINES.setdefault(model.network, {})
        images = first(data, self.images)
        key = (self.digest(), images.digest(), seed)
        if key not in known:
            known[key] = self._prepare(model.network, images, seed)
        engine, faults = known[key]
        (counts,) = engine.run(faults, [trial])
        named = dict(zip(engine.names, counts.tolist(), strict=True))
        shown = {name: named[name] for name in SHOWN if name in engine.task.outcomes}
        parts = named.get("parts", len(images))
        more = shown if parts == len(images) else {**shown, IMAGES: len(images)}
        return Tally(named["correct"], parts, tuple(sorted(more.items())))

    def _prepare(
        self, network: IntegerNetwork, images: Dataset, seed: int
    ) -> tuple[Engine, FaultTable]:
        """Return what runs trials on one network, and all trials."""
        kinds: tuple[FaultKind, ...] = (Flip(),)
        if self.faults == "permanent":
            kinds = (StuckAt(value=0), StuckAt(value=1))
        injection = Injection(
            faults=tuple(FaultGroup(sites=("systolic",), kind=kind) for kind in kinds),
            trials=-(-self.trials // len(kinds)),
            array=self.array,
            seed=seed,
        )
        shapes = Golden.run(network, images.inputs(slice(0, 1))).shapes
        engine = Engine(network, images.inputs(), images.labels, array=self.array, task=images.task)
        return engine, draw_plan(injection, network, shapes).faults

    def rows(self, counts: Counts) -> list[Row]:
        """Return the accuracy, its spread and worst draw, and the rates of silent corruption."""
        return outcome_rows(self.title, counts)

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:  # noqa: ARG002
        """Return that a network was not measured."""
        if any(one.total for trials in counts.values() for one in trials):
            return []
        return [f"{self.title} is not measured: layers multiply through tables, or in floats"]


_ENGINES: WeakKeyDictionary[
    IntegerNetwork, dict[tuple[str, str, int], tuple[Engine, FaultTable]]
] = WeakKeyDictionary()
"""What runs trials on the networks that are in use."""
