"""The summary of a fault-injection campaign as one checked value: what every page is made of."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from bitproof.core.errors import DataError, shorten
from bitproof.core.files import read_bytes
from bitproof.core.spec import describe_problem
from bitproof.report.fidelity import FidelityFacts
from bitproof.stats.intervals import Interval

SUMMARY = "summary.json"
TOGETHER = -1
"""Group of trials that meet every kind of fault at once."""
MAIN = "sdc1"
"""The outcome that maps, bars and the headline show."""
ROUNDING = 1e-9
"""By how much a value may lie beyond its own interval."""


def _ordered(interval: Interval) -> Interval:
    low, value, high = interval
    if not (low <= value + ROUNDING and value <= high + ROUNDING):
        raise ValueError(f"wanted low <= value <= high, got {list(interval)}")
    if low < -ROUNDING:
        raise ValueError(f"wanted no negative number, got {list(interval)}")
    return interval


def _fraction(interval: Interval) -> Interval:
    if interval.high > 1 + ROUNDING:
        raise ValueError(f"wanted fractions from 0 to 1, got {list(interval)}")
    return Interval(*(min(max(end, 0.0), 1.0) for end in interval))


Number = Annotated[int, Field(ge=0, lt=1 << 63)]
Name = Annotated[str, StringConstraints(min_length=1)]
Bit = Annotated[int, Field(ge=0, lt=256)]
GroupNumber = Annotated[int, Field(ge=TOGETHER, lt=1 << 31)]
Rate = Annotated[Interval, AfterValidator(_ordered), AfterValidator(_fraction)]
Fit = Annotated[Interval, AfterValidator(_ordered)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Campaign(_Part):
    """What was done, on what; facts that a writer may not know are optional."""

    title: str = ""
    model: str
    weights: str = ""
    """Their file, and what was taken of it; empty where it is not known."""
    data: str
    images: Number
    trials: Number
    planned: Number
    stopped: bool = False
    """Whether a stop rule ended it before all planned trials were done."""
    confidence: Annotated[float, Field(ge=1e-3, le=1 - 1e-9)] = 0.95
    interval: str = "wilson"
    margin: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Half the width of the interval that was planned for."""
    together: bool = False
    protections: tuple[dict[str, Any], ...] = ()
    array: dict[str, Any] | None = None
    """What layers ran on, where faults lay in its registers."""
    fidelity: FidelityFacts | None = None
    """How far the network was from floats when it was quantized, where that was measured."""
    warnings: tuple[str, ...] = ()
    """Of the checks."""
    golden_acc: Rate | None = None
    """Accuracy without faults."""
    task: dict[str, Any] | None = None
    """How answers were judged; None: as a classification by logits."""
    golden: dict[str, float] = {}
    """What else the task counts, without faults."""
    seed: int | None = None
    versions: dict[str, str] = {}
    device: str | None = None
    engine: str | None = None
    network: str | None = None
    """SHA-256 of the network without faults."""
    checksum: str | None = None
    """SHA-256 of the counts behind the summary."""
    seconds: Annotated[float, Field(ge=0.0)] | None = None


class GroupFacts(_Part):
    """One kind of fault."""

    group: GroupNumber
    label: str
    kind: dict[str, Any]
    sites: tuple[str, ...] = ()
    extent: str = ""
    rate: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    population: Number | None = None
    """Possible faults."""
    trials: Number
    needed: Number | None = None
    """Trials that were planned."""
    bits_of_memory: Number | None = None


class TrialRates(_Part):
    """Counts and rates of one slice of the trials; the sum of a group has no place."""

    group: GroupNumber
    site: str = ""
    layer: str = ""
    bit: Bit | None = None
    channel: int | str | None = None
    row: Number | None = None
    """Of a processing element in its array, as is `column`."""
    column: Number | None = None
    trials: Number
    images: Number
    """Answers that were compared: images times trials."""
    population: Number | None = None
    rates: dict[str, Rate]
    """By outcome; empty where nothing was tried."""
    fit: Fit | None = None
    """Failures in 10^9 hours."""
    acc: Rate | None = None
    acc_std: Annotated[float, Field(ge=0.0)] | None = None
    acc_min: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    acc_carried: Rate | None = None
    """Accuracy where words found beyond repair are read as they are; in `acc` they stop a trial."""
    stopped: Rate | None = None
    """Trials with such a word."""
    rerr: Rate | None = None
    metrics: dict[str, Rate] = {}
    """Means over trials of what else the task counts."""

    def rate(self, outcome: str = MAIN) -> Interval | None:
        """Return the rate of an outcome, None where nothing was tried."""
        return self.rates.get(outcome) if self.trials else None


class Convergence(_Part):
    """How an estimate moved as trials came in."""

    group: GroupNumber
    outcome: str
    trials: tuple[Number, ...]
    low: tuple[float, ...]
    value: tuple[float, ...]
    high: tuple[float, ...]

    @model_validator(mode="after")
    def _complete(self) -> "Convergence":
        lengths = [len(each) for each in (self.trials, self.low, self.value, self.high)]
        if len(set(lengths)) > 1:
            raise ValueError(f"wanted lists of one length, got {lengths}")
        for ends in zip(self.low, self.value, self.high, strict=True):
            _fraction(_ordered(Interval(*ends)))
        if any(a >= b for a, b in zip(self.trials, self.trials[1:], strict=False)):
            raise ValueError("trials: wanted rising numbers")
        return self


class RankedPlace(_Part):
    """A layer, a bit or a bit of a layer, and the ranks that its rate may have."""

    layer: str = ""
    bit: Bit | None = None
    trials: Number
    population: Number
    rate: Rate
    ranks: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


class FirstPlace(_Part):
    """How sure the first place of a ranking is."""

    untold: Number
    """Other places that are not told apart from it."""
    others: tuple[Number, ...] = ()
    """The first of them, by position."""
    times: Annotated[float, Field(ge=1)] | None = None
    """How many times as many trials would tell it from the next, if rates are what was seen."""


class Ranking(_Part):
    """Places by the rate of an outcome, the highest first; all ranks hold together."""

    group: GroupNumber
    site: str
    of: Literal["layer", "bit", "cell"]
    outcome: Name
    confidence: Annotated[float, Field(ge=1e-3, le=1 - 1e-9)]
    pairs: Number
    places: Annotated[tuple[RankedPlace, ...], Field(min_length=2)]
    first: FirstPlace


class FaultHarm(_Part):
    """One fault and what it did."""

    trial: Number
    site: str
    layer: str
    element: Number
    tap: int = -1
    bit: Bit
    action: str
    faults: Number = 1
    """Bits that broke in the same trial."""
    before: float | None = None
    after: float | None = None
    protection: str = "none"
    outcome: str
    images: Number
    sdc1: Number = 0
    due: Number = 0
    acc: float
    acc_lost: float


class CampaignSummary(_Part):
    """The content of `summary.json`."""

    layout: Literal[1] = Field(alias="schema")
    campaign: Campaign
    groups: tuple[GroupFacts, ...]
    outcomes: tuple[Name, ...]
    totals: tuple[TrialRates, ...]
    layers: tuple[TrialRates, ...]
    """In order of execution."""
    bits: tuple[TrialRates, ...]
    cells: tuple[TrialRates, ...]
    """One bit of one layer each."""
    channels: tuple[TrialRates, ...] = ()
    """The most vulnerable ones."""
    elements: tuple[TrialRates, ...] = ()
    """Processing elements of an array, over all their registers."""
    convergence: tuple[Convergence, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    """Layers, bits and cells by harm; absent in old files."""
    worst: tuple[FaultHarm, ...] | None = None
    """The faults that changed most answers; None in old files."""

    @model_validator(mode="after")
    def _consistent(self) -> "CampaignSummary":
        _unique("outcomes", [(name,) for name in self.outcomes])
        _unique("groups", [(each.group,) for each in self.groups])
        _unique("convergence", [(each.group, each.outcome) for each in self.convergence])
        known = {each.group for each in self.groups}
        for name in ("totals", "layers", "bits", "cells", "channels", "elements"):
            rows: tuple[TrialRates, ...] = getattr(self, name)
            keys = ("group", "site", "layer", "bit", "channel", "row", "column")
            _unique(name, [tuple(getattr(row, key) for key in keys) for row in rows])
            for row in rows:
                if row.group not in known and TOGETHER not in known | {row.group}:
                    raise ValueError(f"{name}: wanted a group of 'groups', got {row.group}")
                if odd := sorted(row.rates.keys() - set(self.outcomes)):
                    raise ValueError(f"{name}: wanted rates of 'outcomes', got {shorten(odd[0])}")
        return self

    def label(self, group: int) -> str:
        """Return what a group is called, with its extent where another one has the same name."""
        one = next((each for each in self.groups if each.group == group and each.label), None)
        if one is None:
            return "all together" if group == TOGETHER else f"group {group}"
        alone = sum(each.label == one.label for each in self.groups) == 1
        return one.label if alone or not one.extent else f"{one.label}, {one.extent}"

    def total(self, group: int) -> TrialRates | None:
        """Return the row of all trials of a group, None where there is none."""
        return next((row for row in self.totals if row.group == group), None)


@dataclass(frozen=True)
class Slice:
    """Everything about one kind of fault at one kind of site."""

    title: str
    site: str
    layers: tuple[TrialRates, ...]
    bits: tuple[TrialRates, ...]
    cells: tuple[TrialRates, ...]
    total: TrialRates | None
    """All trials of the group, where its faults lie at this kind of site only."""

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Layers in order of execution."""
        return tuple(dict.fromkeys(row.layer for row in [*self.layers, *self.cells]))

    @cached_property
    def bit_numbers(self) -> tuple[int, ...]:
        """Bits, the most significant first."""
        found = {row.bit for row in [*self.bits, *self.cells] if row.bit is not None}
        return tuple(sorted(found, reverse=True))

    @cached_property
    def _rows(self) -> dict[tuple[str | None, int | None], TrialRates]:
        found = {(row.layer or None, row.bit): row for row in self.layers + self.bits + self.cells}
        return found | ({(None, None): self.total} if self.total is not None else {})

    def row(self, layer: str | None, bit: int | None) -> TrialRates | None:
        """Return the row of a layer and a bit; None stands for all of them."""
        return self._rows.get((layer, bit))

    def lines(self, bits: Sequence[int]) -> list[tuple[str, list[TrialRates | None]]]:
        """Return what a table shows: of each layer, and of all, each of these bits, and all."""
        return [
            (layer or "all", [self.row(layer, bit) for bit in (*bits, None)])
            for layer in (*self.layer_names, None)
        ]


def slices(summary: CampaignSummary) -> list[Slice]:
    """Return what was tried layer by layer or bit by bit, in the order of the groups."""
    rows = summary.layers + summary.bits + summary.cells
    pairs = list(dict.fromkeys((row.group, row.site) for row in rows if row.trials))
    order = [group.group for group in summary.groups]
    pairs.sort(key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    shared = {group for group, _ in pairs if sum(pair[0] == group for pair in pairs) > 1}
    return [
        Slice(
            title=f"{summary.label(group)} ({site} alone)"
            if group in shared
            else summary.label(group),
            site=site,
            layers=_at(summary.layers, group, site),
            bits=_at(summary.bits, group, site),
            cells=_at(summary.cells, group, site),
            total=None if group in shared else summary.total(group),
        )
        for group, site in pairs
    ]


def read_summary(path: Path) -> CampaignSummary:
    """Read the summary of a campaign.

    Args:
        path: the file, or the campaign directory that holds it.

    Raises:
        DataError: it is missing, damaged or contradicts itself; one line.
    """
    if path.is_dir():
        path = path / SUMMARY
    try:
        return CampaignSummary.model_validate_json(read_bytes(path))
    except FileNotFoundError:
        problem = "wanted the summary of a campaign, there is no such file"
    except ValidationError as error:
        problem = f"damaged, {_problem_line(error)}"
    except OSError as error:
        problem = f"cannot read ({error.strerror or error})"
    except ValueError as error:  # not UTF-8, or a path that cannot be one
        problem = f"damaged ({error})"
    raise DataError(f"{path}: {problem}")


def _at(rows: Iterable[TrialRates], group: int, site: str) -> tuple[TrialRates, ...]:
    return tuple(row for row in rows if row.group == group and row.site == site)


def _unique(name: str, keys: Sequence[tuple[object, ...]]) -> None:
    again = [key for key, number in Counter(keys).items() if number > 1]
    if again:
        shown = " ".join(str(part) for part in again[0] if part is not None)
        raise ValueError(f"{name}: wanted each once, got {shorten(shown)} again")


def _problem_line(error: ValidationError) -> str:
    """Return the first problem of a file in one short line that any terminal can print."""
    problems = error.errors(include_url=False)
    if problems[0]["type"] == "json_invalid":
        return problems[0]["msg"]
    text = describe_problem(dict(problems[0]), CampaignSummary).removeprefix("CampaignSummary: ")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    short = line if len(line) <= 200 else line[:197] + "..."
    return short + (f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else "")
