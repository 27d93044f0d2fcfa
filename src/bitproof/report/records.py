"""What the stages wrote down: critical layers, clip adjustment, training losses.

Variants share their first stages, so equal records of several variants are listed once.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator


def _or_none(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError:
        return None


T = TypeVar("T")
Maybe = Annotated[T | None, WrapValidator(_or_none)]
"""What is something else is passed over: stages may write down what they like."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Critical(_Part):
    """The scores by which a fault-aware stage chose its layers, epoch by epoch."""

    layers: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    top: tuple[tuple[str, ...], ...]


class Adjusted(_Part):
    """What the adjustment tried for one layer: clip range as a share of the largest weight."""

    chosen: float | None = None
    accepted: bool | None = None
    acc_before: float | None = None
    acc_after: float | None = None


class StageRecord(_Part):
    """What one stage wrote down."""

    critical: Maybe[Critical] = None
    alpha: Maybe[dict[str, Adjusted]] = None
    """The adjustment of all layers."""
    loss: Maybe[Annotated[tuple[float, ...], Field(min_length=1)]] = None
    """By epoch."""
    acc: Maybe[tuple[float, ...]] = None
    stage: str = ""
    variants: tuple[str, ...] = ()
    """Those that hold exactly this record."""


def stage_records(records: Mapping[str, Any], order: tuple[str, ...]) -> list[StageRecord]:
    """Return the stage records of all variants, listed once each, variants in `order`."""
    found: dict[str, StageRecord] = {}
    known = [name for name in order if name in records]
    for variant in [*known, *(name for name in records if name not in known)]:
        for entry in _entries(records[variant]):
            identity = json.dumps(entry, sort_keys=True)
            before = found[identity].variants if identity in found else ()
            record = entry.get("record")
            details = record if isinstance(record, dict) else {}
            own = {"stage": str(entry.get("stage", "")), "variants": (*before, variant)}
            found[identity] = StageRecord.model_validate({**details, **own})
    return list(found.values())


def layer_bars(critical: Critical) -> list[tuple[str, float, bool, int]]:
    """Return layers by falling score of the last epoch; scores that are not finite go.

    Returns:
        Name, score, whether the last epoch worked on it, and how many epochs did.
    """
    last = critical.scores[-1] if critical.scores else ()
    pairs = [pair for pair in zip(critical.layers, last, strict=False) if math.isfinite(pair[1])]
    chosen = critical.top[-1] if critical.top else ()
    return [
        (name, score, name in chosen, sum(name in names for names in critical.top))
        for name, score in sorted(pairs, key=lambda pair: -pair[1])
    ]


def _entries(record: Any) -> list[dict[str, Any]]:
    """Return the stage entries of one file, none where it holds no list of them."""
    stages = record.get("stages") if isinstance(record, dict) else None
    listed = stages if isinstance(stages, list) else []
    return [entry for entry in listed if isinstance(entry, dict)]
