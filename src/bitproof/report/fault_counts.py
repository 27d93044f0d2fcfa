"""What a run measured under memory faults by bit error rate: accuracies by chip and rate."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitproof.core.errors import DataError
from bitproof.core.spec import canonical_json
from bitproof.report.run import CLEAN, FLOAT, Run
from bitproof.stats.threats import ThreatLabel

FAULTS = "memory_faults"
RATE = "BER"
"""The symbol of levels that are bit error rates."""
FLOAT_BITS = 32
NAMES_AND_SIZES = {"name", "levels", "chips"}
"""Fields of a threat that its counts do not depend on."""


class RateThreat(BaseModel):
    """Memory faults at bit error rates, as the recipe of a run has them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    title: str
    label: ThreatLabel
    levels: tuple[float, ...] = Field(min_length=1)
    chips: int = Field(ge=1)
    protections: tuple[dict[str, Any], ...] = ()
    """What stands between bits and network."""
    identity: str
    """What a count depends on beside network, level and chip."""

    @property
    def unprotected(self) -> tuple[str, int]:
        """What is drawn, whatever protects from it: the identity without protections, and chips."""
        return canonical_json({**json.loads(self.identity), "protections": []}), self.chips


@dataclass(frozen=True)
class FaultCounts:
    """Accuracies of one network under one threat."""

    variant: str
    threat: RateThreat
    bits: int | None
    """Width of its weights; None where nothing tells it."""
    accs: Float[np.ndarray, "chips levels"]
    images: int
    """That each chip classified."""


@dataclass(frozen=True)
class Unmeasured:
    """Why there is no answer yet."""

    variant: str
    threat: RateThreat
    reason: str


@dataclass(frozen=True)
class CleanCount:
    """Accuracy without faults."""

    acc: float
    images: int


def rate_threats(run: Run) -> list[RateThreat]:
    """Return the threats of a run's recipe whose levels are bit error rates; none without one.

    Raises:
        DataError: the recipe is no TOML, or its threats are not what a run writes.
    """
    if run.recipe is None:
        return []
    try:
        recipe = tomllib.loads(run.recipe)
        tables = recipe.get("evaluation", {}).get("threats", [])
        titles = run.facts.threats
        if titles and len(titles) != len(tables):
            raise ValueError(f"{len(tables)} threats where run.json has {len(titles)}")
        # `run.json` names them in the order of the recipe.
        for title, table in zip(titles, tables, strict=False):
            if table.get("name") and table["name"] != title:
                raise ValueError(f"'{table['name']}' where run.json has '{title}'")
        named = zip(titles.items(), tables, strict=False)
        return [
            RateThreat(**{**table, "title": title, "label": label, "identity": _identity(table)})
            for (title, label), table in named
            if table.get("kind") == FAULTS and label.symbol == RATE
        ]
    except (ValidationError, ValueError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"recipe.toml: wanted the recipe of a run, got {reason}") from None


def fault_counts(run: Run, variant: str, threat: RateThreat) -> FaultCounts | Unmeasured:
    """Return the accuracies of all chips at all levels, or which counts are missing."""
    titles = {threat.title, *_titles_alike(run, threat)}
    names = {variant, *_networks_alike(run, variant)}
    found = {
        (each.level, each.trial): each
        for each in run.measurements
        if each.threat in titles and each.variant in names
    }
    cells = [(level, chip) for chip in range(threat.chips) for level in threat.levels]
    missing = sum(cell not in found for cell in cells)
    if missing:
        return Unmeasured(variant, threat, f"{missing} of {len(cells)} counts are missing")
    accs = np.array([found[cell].acc for cell in cells]).reshape(threat.chips, -1)
    return FaultCounts(variant, threat, word_bits(run, variant), accs, found[cells[0]].total)


def clean_count(run: Run, variant: str, *, images: int | None = None) -> CleanCount | None:
    """Return the accuracy without faults, None where it is not measured.

    Where it was counted several times, that on the first `images` is taken, else the first.
    """
    names = {variant, *_networks_alike(run, variant)}
    clean = {title for title, label in run.facts.threats.items() if label.family == "none"}
    found = [
        CleanCount(each.acc, each.total)
        for each in run.measurements
        if each.threat in {CLEAN, *clean} and each.variant in names
    ]
    return next((one for one in found if one.images == images), next(iter(found), None))


def word_bits(run: Run, variant: str) -> int | None:
    """Return the width of the weights: of the record, of the recipe for the baseline."""
    if variant == FLOAT:
        return FLOAT_BITS
    record = run.records.get(variant)
    scheme = record.get("scheme") if isinstance(record, dict) else None
    if scheme is None and variant == run.facts.baseline and run.recipe is not None:
        try:
            scheme = tomllib.loads(run.recipe).get("quantization")
        except tomllib.TOMLDecodeError:
            return None
    weight = scheme.get("weight") if isinstance(scheme, dict) else None
    bits = weight.get("bits") if isinstance(weight, dict) else None
    return bits if isinstance(bits, int) else None


def _identity(table: dict[str, Any]) -> str:
    return canonical_json({k: v for k, v in table.items() if k not in NAMES_AND_SIZES})


def _titles_alike(run: Run, threat: RateThreat) -> Sequence[str]:
    """Return threats that share their counts, because they measure the same."""
    return [each.title for each in rate_threats(run) if each.identity == threat.identity]


def _networks_alike(run: Run, variant: str) -> Sequence[str]:
    """Return the names of the same network."""
    digest = run.facts.networks.get(variant)
    return [name for name, each in run.facts.networks.items() if each == digest]
