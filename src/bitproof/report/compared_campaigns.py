"""Campaigns as places of a comparison; where both drew the same faults, these pair them.

Model:  a trial of both campaigns broke the same bits for the same images, so the difference of its
        two rates is one draw (`stats.paired`), by the strata of layer and bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bitproof.core.directory import read_sealed
from bitproof.report.campaign_summary import CampaignSummary, TrialRates, read_summary
from bitproof.report.compared import Cell, Key, names_of
from bitproof.report.wording import confidence_text, outcome_name
from bitproof.stats.clusters import cluster_rate, stratified_rate
from bitproof.stats.intervals import Interval
from bitproof.stats.paired import paired_difference

OF_PLACES = ("sdc1", "due")
"""Outcomes that are compared by layer and by bit; those of all trials are compared all."""
PLAN = "plan.json"
ROUNDING = 1e-6
"""By how much a difference over trials may miss that of the two tables."""


@dataclass(frozen=True)
class ComparedCampaign:
    """One campaign."""

    kind: ClassVar[str] = "a campaign"

    name: str
    path: Path
    summary: CampaignSummary
    fingerprint: Mapping[str, Any]

    @property
    def confidence(self) -> float:
        """How often its intervals hold the truth, as a fraction."""
        return self.summary.campaign.confidence

    @cached_property
    def _rows(self) -> Mapping[Key, tuple[TrialRates, str, Interval]]:
        """The rates by key, each with its row and what it is the rate of."""
        found: dict[Key, tuple[TrialRates, str, Interval]] = {}
        for row in self.summary.totals:
            if not row.trials:
                continue
            label = self.summary.label(row.group)
            for outcome, rate in row.rates.items():
                found[Key("", label, "", outcome_name(outcome))] = (row, outcome, rate)
            if row.acc is not None:
                found[Key("", label, "", "accuracy")] = (row, "correct", row.acc)
        detected = {row.group for row in self.summary.totals if row.rates.get("due", (0, 0))[1]}
        for row in (*self.summary.layers, *self.summary.bits):
            layer = f"layer {row.layer}" if row.layer.isdecimal() else row.layer
            where = layer if row.bit is None else f"bit {row.bit}"
            sites = {one.site for one in self.summary.layers if one.group == row.group}
            label = self.summary.label(row.group) + (f" ({row.site})" if len(sites) > 1 else "")
            for outcome in OF_PLACES if row.group in detected else OF_PLACES[:1]:
                if (own := row.rate(outcome)) is not None:
                    found[Key("", label, where, outcome_name(outcome))] = (row, outcome, own)
        return found

    def cells(self) -> Mapping[Key, Cell]:
        """Return what was measured."""
        return {
            key: Cell(rate.value, rate, row.trials) for key, (row, _, rate) in self._rows.items()
        }

    def against(self, other: "ComparedCampaign", key: Key) -> tuple[Interval | None, str]:
        """Return the interval of the difference over faults that both drew."""
        if self.fingerprint.get("images") != other.fingerprint.get("images"):
            return None, "other images, so no differences"
        if self.summary.campaign.task != other.summary.campaign.task:
            return None, "another task, so no differences"
        if self.confidence != other.confidence:
            both = " against ".join(confidence_text(one.confidence) for one in (self, other))
            return None, f"intervals of {both}, so no differences"
        row, outcome, _ = self._rows[key]
        if self.fingerprint.get("faults") != other.fingerprint.get("faults"):
            return None, ""
        mine, theirs = self.columns, other.columns
        keep = self._trials_of(row)
        if keep is None or mine["trial"].tolist() != theirs["trial"].tolist():
            return None, ""
        first, second = (_fractions(side, outcome)[keep] for side in (mine, theirs))
        cells = mine["cell"][keep]
        found = paired_difference(first, second, rate=lambda values: self._rate(values, cells))
        told = self._rows[key][2].value - other._rows[key][2].value
        return (found, f"{len(keep)} faults") if abs(found.value - told) < ROUNDING else (None, "")

    def notes(self, other: "ComparedCampaign") -> Sequence[str]:
        """Return nothing: names of places tell which is which."""
        del other
        return ()

    @cached_property
    def columns(self) -> Mapping[str, np.ndarray]:
        """The counts of all trials."""
        from bitproof.injection.read_outcomes import read_trials  # noqa: PLC0415 - needs torch

        return read_trials(self.path)

    def _trials_of(self, row: TrialRates) -> np.ndarray | None:
        """Return the trials that a row of the summary is made of; None where that is not known."""
        own = self.columns["group"] == row.group
        if row.layer or row.bit is not None:
            named = [
                number
                for number, cell in enumerate(self.summary.cells)
                if (cell.group, cell.site) == (row.group, row.site)
                and row.layer in {"", cell.layer}
                and row.bit in {None, cell.bit}
            ]
            own = np.isin(self.columns["cell"], named)
        return np.flatnonzero(own) if int(own.sum()) == row.trials else None

    def _rate(self, values: np.ndarray, cells: np.ndarray) -> Interval:
        """Return the rate over cells by their sizes, as summaries do."""
        campaign = self.summary.campaign
        settings: dict[str, Any] = {"confidence": campaign.confidence, "method": campaign.interval}
        if (cells < 0).any():
            return cluster_rate(values, np.ones(len(values)), **settings)
        known = np.unique(cells)
        sizes = [self.summary.cells[number].population or 0 for number in known.tolist()]
        return stratified_rate(values, np.searchsorted(known, cells), sizes, **settings)


def _fractions(columns: Mapping[str, np.ndarray], outcome: str) -> np.ndarray:
    """Return the share of images with an outcome, or of right answers, in each trial."""
    answers = columns["images"]
    if outcome == "correct":
        answers = columns.get("parts", answers)
    found: np.ndarray = columns[outcome] / answers
    return found


def open_campaigns(places: Sequence[Path]) -> list[ComparedCampaign]:
    """Return campaigns that are finished.

    Raises:
        DataError: a summary or a plan is missing or damaged.
    """
    return [
        ComparedCampaign(
            name, path, read_summary(path), read_sealed(path / PLAN).get("fingerprint", {})
        )
        for name, path in zip(names_of(places), places, strict=True)
    ]
