"""Another threat, met by the network on approximate multipliers.

Model:  before it is measured, the network is put on the multipliers that are named: all its layers
        on one, or single layers on their own, the others on exact ones. Whatever it multiplied with
        before goes. Nothing is trained or calibrated again, but for `correct_means`. Attackers on
        inputs work through the multipliers: gradients pass their tables straight through.
        A float model has no multipliers: nothing is measured.
Source: METHODS B. The crossing of threats is ours.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import Field, model_validator

from bitproof.approx.base import AnyMultiplier, Multiplier
from bitproof.approx.deploy import Arithmetic
from bitproof.approx.stored import Stored
from bitproof.core.errors import SpecError, shorten
from bitproof.core.passes import Passes
from bitproof.data.dataset import Dataset
from bitproof.evaluation.models import EvaluatedModel, IntegerModel
from bitproof.evaluation.threat import THREATS, AnyThreat, Clean, Counts, Threat
from bitproof.metrics import Tally
from bitproof.quant.network import IntegerNetwork
from bitproof.stats import Row
from bitproof.stats.threats import ThreatLabel


@THREATS.register
class OnMultiplier(Threat):
    """Meet another threat on approximate multipliers; none, unless one is named.

    Example:
        >>> from bitproof.approx import Drum
        >>> OnMultiplier(multiplier=Drum(width=5)).title
        'clean_on_multiplier'
    """

    integers_only: ClassVar[bool] = True
    on_multipliers: ClassVar[bool] = False

    kind: Literal["on_multiplier"] = "on_multiplier"
    multiplier: AnyMultiplier | None = None
    """Of every layer that is not named below; None: exact products."""
    layers: dict[str, AnyMultiplier | tuple[AnyMultiplier, ...]] = Field(default_factory=dict)
    """Of single layers, by name: one multiplier, or one for each filter; such as a search chose."""
    correct_means: bool = False
    """Take the mean error of each filter off again, as it is on some training images."""
    threat: AnyThreat = Clean()
    """What the network has to stand there; its levels and trials are those of this threat."""

    @model_validator(mode="before")
    @classmethod
    def _take_levels(cls, table: Any) -> Any:
        """Put the levels of the threat inside in the place of its own."""
        if not isinstance(table, dict):
            return table
        inner = THREATS.validate(table.get("threat", Clean()))
        if not inner.on_multipliers:
            raise ValueError(f"threat: wanted one that is met on multipliers, not {inner.kind}")
        given = table.get("levels", inner.levels)
        if not isinstance(given, list | tuple) or tuple(given) != inner.levels:
            raise ValueError("levels: wanted them in 'threat', whose levels these are")
        return {**table, "threat": inner, "levels": inner.levels}

    @model_validator(mode="after")
    def _check_arithmetic(self) -> "OnMultiplier":
        if self.arithmetic.is_exact:
            raise ValueError("multiplier: wanted one, or 'layers', got neither")
        for one in _tables_in((self.multiplier, self.layers)):
            if not one.sha256:
                raise ValueError(
                    f"multiplier: wanted the 'sha256' of {shorten(one.path)}, which ties counts to "
                    "the products in that file"
                )
        return self

    @property
    def arithmetic(self) -> Arithmetic:
        """What multiplies."""
        return Arithmetic(
            multiplier=self.multiplier, layers=self.layers, correct_means=self.correct_means
        )

    @property
    def title(self) -> str:
        """What results call it: the threat inside, on a multiplier, unless `name` is given."""
        return self.name or f"{self.threat.title}_on_multiplier"

    @property
    def label(self) -> ThreatLabel:
        """Return the label of the threat inside, and where it is met."""
        inside = self.threat.label
        where = "one multiplier" if self.multiplier and not self.layers else "chosen multipliers"
        if inside.family == "none":
            return ThreatLabel("hardware", where.capitalize(), unit=inside.unit)
        return replace(inside, family="crossing", title=f"{inside.title}, on {where}")

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the threat inside measures."""
        return self.threat.metrics

    def check(self, data: Dataset) -> None:
        """Refuse what the threat inside refuses."""
        self.threat.check(data)

    def tasks(self, data: Dataset) -> list[tuple[float, int]]:
        """Return the trials of the threat inside."""
        return self.threat.tasks(data)

    @property
    def slowdown(self) -> float:
        """Return that tables are slower than exact products."""
        return 3.0 * self.threat.slowdown

    def passes(self, images: int, *, layers: int) -> Passes:
        """Return what the threat inside takes."""
        return self.threat.passes(images, layers=layers)

    def first_images(self, data: Dataset) -> int | None:
        """Return how many images the threat inside is measured on."""
        return self.threat.first_images(data)

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return what multiplies, and what the threat inside depends on."""
        inside = {"kind": self.threat.kind, **self.threat.identity(data)}
        return {"on": self.arithmetic.model_dump(mode="json"), "threat": inside}

    def measure(
        self, model: EvaluatedModel, data: Dataset, *, level: float, trial: int, seed: int
    ) -> Tally:
        """Return what the threat inside leaves right on these multipliers; none on floats.

        Raises:
            QuantizationError: there is no layer of a name.
            SpecError: means are to be corrected, and there are no training images.
            DataError: the table of a multiplier is missing.
        """
        if not isinstance(model, IntegerModel):
            return Tally(0, 0)
        there = self._deployed(model)
        return self.threat.measure(there, data, level=level, trial=trial, seed=seed)

    def rows(self, counts: Counts) -> list[Row]:
        """Return the rows of the threat inside; nothing of a float model."""
        if not any(one.total for trials in counts.values() for one in trials):
            return []
        return [replace(row, threat=self.title) for row in self.threat.rows(counts)]

    def warnings(self, counts: Counts, others: Mapping[str, Counts], data: Dataset) -> list[str]:
        """Return those of the threat inside, or that a float model was not measured."""
        if not self.rows(counts):
            return [f"{self.title} is not measured: there are no integers to multiply"]
        found = self.threat.warnings(counts, others, data)
        return [f"{self.title}: {text}" for text in found]

    def _deployed(self, model: IntegerModel) -> IntegerModel:
        """Return the model on the multipliers; made once for each network."""
        known = _DEPLOYED.setdefault(model.network, {})
        images = None if model.profile is None else model.profile.digest()
        key = (self.arithmetic.digest(), model.data_dir, images)
        if key not in known:
            known[key] = replace(model, network=self._network(model))
        return known[key]

    def _network(self, model: IntegerModel) -> IntegerNetwork:
        """Return the network on the multipliers."""
        images = torch.empty(0)
        if self.correct_means:
            if model.profile is None:
                raise SpecError(f"{self.title}: wanted training images to correct means on")
            images = model.profile.inputs().to(model.network.device)
        return self.arithmetic.apply(model.network, images, data_dir=model.data_dir)


def _tables_in(value: Any) -> Iterator[Stored]:
    """Yield the multipliers that are read from files, inside others, too."""
    if isinstance(value, Stored):
        yield value
    elif isinstance(value, Multiplier):
        yield from _tables_in([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, Mapping):
        yield from _tables_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tables_in(part)


Deployed = dict[tuple[str, Path | None, str | None], IntegerModel]
"""Models by what they multiply with, and by what that was made from: tables, training images."""
_DEPLOYED: WeakKeyDictionary[IntegerNetwork, Deployed] = WeakKeyDictionary()
"""What networks in use became on multipliers."""
