"""What the stages wrote down: critical layers, clip adjustment, training losses.

Variants share their first stages, so equal records of several variants are listed once.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

M = TypeVar("M", bound=BaseModel)


class Critical(BaseModel):
    """The scores by which a fault-aware stage chose its layers, epoch by epoch."""

    model_config = ConfigDict(frozen=True)

    layers: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    top: tuple[tuple[str, ...], ...]


class Adjusted(BaseModel):
    """What the adjustment tried for one layer: clip range as a share of the largest weight."""

    model_config = ConfigDict(frozen=True)

    chosen: float | None = None
    accepted: bool | None = None
    acc_before: float | None = None
    acc_after: float | None = None


class Adjustment(BaseModel):
    """The adjustment of all layers."""

    model_config = ConfigDict(frozen=True)

    alpha: dict[str, Adjusted]


class Training(BaseModel):
    """Loss and accuracy of each epoch."""

    model_config = ConfigDict(frozen=True)

    loss: tuple[float, ...]
    acc: tuple[float, ...] = ()


@dataclass(frozen=True)
class StageRecord:
    """One stage, with the variants that hold exactly this record."""

    stage: str
    variants: tuple[str, ...]
    critical: Critical | None
    adjustment: Adjustment | None
    training: Training | None


def stage_records(records: Mapping[str, Any], order: tuple[str, ...]) -> list[StageRecord]:
    """Return the stage records of all variants, listed once each, variants in `order`.

    Whatever does not look like a record is passed over: stages may write down what they like.
    """
    found: dict[str, StageRecord] = {}
    known = [name for name in order if name in records]
    for variant in [*known, *(name for name in records if name not in known)]:
        for entry in _entries(records[variant]):
            identity = json.dumps(entry, sort_keys=True)
            before = found[identity].variants if identity in found else ()
            record = entry.get("record")
            details = record if isinstance(record, dict) else {}
            found[identity] = StageRecord(
                str(entry.get("stage", "")),
                (*before, variant),
                _parsed(Critical, details.get("critical")),
                _parsed(Adjustment, details),
                _parsed(Training, details),
            )
    return list(found.values())


@dataclass(frozen=True)
class LayerBar:
    """One layer of the critical-layer chart."""

    name: str
    score: float
    """Of the last epoch."""
    chosen: bool
    """Among the layers that the last epoch worked on."""
    times_chosen: int


def layer_bars(critical: Critical) -> list[LayerBar]:
    """Return the layers by falling score of the last epoch; scores that are not finite go."""
    last = critical.scores[-1] if critical.scores else ()
    pairs = [pair for pair in zip(critical.layers, last, strict=False) if math.isfinite(pair[1])]
    chosen = critical.top[-1] if critical.top else ()
    return [
        LayerBar(name, score, name in chosen, sum(name in names for names in critical.top))
        for name, score in sorted(pairs, key=lambda pair: -pair[1])
    ]


def _entries(record: Any) -> list[dict[str, Any]]:
    """Return the stage entries of one file, none where it holds no list of them."""
    stages = record.get("stages") if isinstance(record, dict) else None
    listed = stages if isinstance(stages, list) else []
    return [entry for entry in listed if isinstance(entry, dict)]


def _parsed(model: type[M], value: Any) -> M | None:
    """Return `value` as a model, None where it is something else."""
    try:
        return model.model_validate(value)
    except ValidationError:
        return None
