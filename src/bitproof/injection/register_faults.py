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

import numpy as np
from pydantic import model_validator

from bitproof.core.errors import SpecError
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
from bitproof.injection.worker import IMAGES_AT_ONCE
from bitproof.metrics import Tally
from bitproof.metrics.tally import IMAGES
from bitproof.quant.network import IntegerNetwork
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel

Prepared = tuple[list[Engine], FaultTable]
"""What runs trials, on some images each, and the faults of all trials."""
KEPT = 2
"""How many of these are kept."""


@THREATS.register
class RegisterFaults(Threat):
    """Break registers of a systolic array.

    Example:
        >>> RegisterFaults(faults="permanent", trials=100).title
        'permanent_register_faults'
    """

    integers_only: ClassVar[bool] = True
    on_multipliers: ClassVar[bool] = False

    kind: Literal["register_faults"] = "register_faults"
    faults: Literal["transient", "permanent"] = "transient"
    """Bits turned over in one cycle, or held at 0 or 1 for good."""
    trials: Rounds = 200
    """Draws."""
    images: Count | None = 64
    """Test images that each draw meets, the first ones; None: all."""
    array: SystolicArray = SystolicArray()
    """The array."""

    @model_validator(mode="after")
    def _check_levels(self) -> "RegisterFaults":
        if self.levels:
            raise ValueError("levels: wanted none, one register breaks at a time")
        return self

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
        """Return right answers, and those with silent corruption, in one trial.

        Raises:
            SpecError: the registers have fewer faults than there are trials.
        """
        if not isinstance(model, IntegerModel) or model.network.products:
            return Tally(0, 0)
        images = first(data, self.images)
        engines, faults = self._prepared(model.network, images, seed)
        counts = sum(engine.run(faults, [trial])[0] for engine in engines)
        assert isinstance(counts, np.ndarray)
        named = dict(zip(engines[0].names, counts.tolist(), strict=True))
        shown = {name: named[name] for name in SHOWN if name in engines[0].task.outcomes}
        if "parts" not in named:
            return Tally(named["correct"], len(images), tuple(sorted(shown.items())))
        more = {**shown, IMAGES: len(images)}
        return Tally(named["correct"], named["parts"], tuple(sorted(more.items())))

    def _prepared(self, network: IntegerNetwork, images: Dataset, seed: int) -> Prepared:
        """Return what `_prepare` does, done once."""
        key = (network, self.digest(), images.digest(), seed)
        if key not in _PREPARED:
            if len(_PREPARED) == KEPT:
                del _PREPARED[next(iter(_PREPARED))]
            _PREPARED[key] = self._prepare(network, images, seed)
        return _PREPARED[key]

    def _prepare(self, network: IntegerNetwork, images: Dataset, seed: int) -> Prepared:
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
        plan = draw_plan(injection, network, shapes)
        if plan.n_trials < self.trials:
            raise SpecError(
                f"{self.title}: wanted at most {plan.n_trials} trials, as many as the array has "
                f"faults in this network, got {self.trials}"
            )
        engines: list[Engine] = []
        for part in images.blocks(IMAGES_AT_ONCE):
            task = engines[0].task if engines else images.task
            inputs, labels = part.inputs(), part.labels
            engines.append(Engine(network, inputs, labels, array=self.array, task=task))
        return engines, plan.faults

    def rows(self, counts: Counts) -> list[Row]:
        """Return the accuracy, its spread and worst draw, and the rates of silent corruption."""
        return outcome_rows(self.title, counts)

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:  # noqa: ARG002
        """Return that a network was not measured."""
        if any(one.total for trials in counts.values() for one in trials):
            return []
        return [f"{self.title} is not measured: layers multiply through tables, or in floats"]


_PREPARED: dict[tuple[IntegerNetwork, str, str, int], Prepared] = {}
"""What runs trials, by network, threat, images and seed, the oldest first; they hold all words of
fault-free runs."""
