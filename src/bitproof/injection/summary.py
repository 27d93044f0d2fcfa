"""From the counts of all trials to rates with intervals, as one JSON table.

Model:  the fault is the unit. Where trials were drawn by layer and bit, each cell counts as much
        as it has places, however many of its trials were done. FIT of a memory is the raw rate
        times its bits times the probability that a fault changes an answer.
Source: METHODS C.3; ANCHORS section 6 (definitions); JEDEC JESD89 for FIT.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bitproof.injection.engine import COUNTS
from bitproof.injection.plan import Cell, Plan
from bitproof.injection.spec import FaultGroup, Injection
from bitproof.metrics.outcomes import OUTCOMES
from bitproof.quant.network import IntegerNetwork
from bitproof.stats import Interval
from bitproof.stats.clusters import cluster_rate, stratified_rate

MEMORIES = frozenset({"weight", "bias", "activation", "output"})
"""Sites whose places are bits of a memory."""
POINTS = 24
"""Points of the convergence curve."""
MOST_CHANNELS = 20
"""Channels that are told, the most vulnerable ones."""
LEAST_PER_CHANNEL = 5
"""Trials of a channel that is told."""

Columns = Mapping[str, np.ndarray]
Rows = Int[np.ndarray, " k"]
"""Numbers of trials among those that were done."""


def summarize_injection(
    plan: Plan, injection: Injection, columns: Columns, network: IntegerNetwork
) -> dict[str, Any]:
    """Return totals, layers, bits, cells, channels and convergence; rates are `[low, value, high]`.

    Args:
        plan: the trials that were planned.
        injection: how they are counted.
        columns: counts of the trials that were done, in any order.
        network: which was struck.
    """
    order = np.argsort(columns["trial"], kind="stable")
    ready = {name: column[order] for name, column in columns.items()}
    return _Summary(plan, injection, ready, network).tables()


class _Summary:
    def __init__(
        self, plan: Plan, injection: Injection, columns: Columns, network: IntegerNetwork
    ) -> None:
        self.plan, self.injection, self.columns, self.network = plan, injection, columns, network
        self.images = columns["images"].astype(np.float64)
        self.values = {name: columns[name] / self.images for name in COUNTS}
        self.sizes = np.array([cell.size for cell in plan.cells], np.int64)
        self.planned = np.bincount(plan.cell[plan.cell >= 0], minlength=max(len(plan.cells), 1))
        self.by_cell = np.argsort(columns["cell"], kind="stable")
        numbers = np.arange(len(plan.cells) + 1)
        self.ends = np.searchsorted(columns["cell"], numbers, sorter=self.by_cell)

    def tables(self) -> dict[str, Any]:
        numbers = sorted(set(self.plan.group.tolist()))
        found: dict[str, Any] = {
            "outcomes": list(OUTCOMES),
            "groups": [self._group(number) for number in numbers],
            "totals": [self._total(number) for number in numbers],
            "layers": self._over(lambda cell: (cell.group, cell.site, cell.layer, None)),
            "bits": self._over(lambda cell: (cell.group, cell.site, None, cell.bit)),
            "cells": self._over(lambda cell: (cell.group, cell.site, cell.layer, cell.bit)),
            "channels": self._channels(),
            "convergence": [self._convergence(number) for number in numbers],
        }
        return found

    def _group(self, number: int) -> dict[str, Any]:
        planned = int((self.plan.group == number).sum())
        if number < 0 or not self.plan.populations or number >= len(self.injection.faults):
            kinds = [group.source.model_dump(mode="json") for group in self.injection.faults]
            sites = [site for group in self.injection.faults for site in group.sites]
            return {
                "group": number,
                "label": "all together",
                "kind": {"kind": " + ".join(kind["kind"] for kind in kinds)},
                "sites": list(dict.fromkeys(sites)),
                "extent": "together",
                "rate": None,
                "population": sum(self.plan.populations),
                "trials": int((self.columns["group"] == number).sum()),
                "needed": planned,
                "bits_of_memory": None,
            }
        group = self.injection.faults[number]
        population = self.plan.populations[number]
        memory = set(group.sites) <= MEMORIES
        return {
            "group": number,
            "label": f"{group.source.kind} in {', '.join(group.sites)}",
            "kind": group.source.model_dump(mode="json"),
            "sites": list(group.sites),
            "extent": _extent(group),
            "rate": group.rate,
            "population": population,
            "trials": int((self.columns["group"] == number).sum()),
            "needed": planned,
            "bits_of_memory": population if memory else None,
        }

    def _total(self, number: int) -> dict[str, Any]:
        keep = np.flatnonzero(self.columns["group"] == number)
        cells = [i for i, cell in enumerate(self.plan.cells) if cell.group == number]
        population = sum(self.plan.populations) if number < 0 else self.plan.populations[number]
        rates = self._rates(keep, cells)
        acc = self._rate("correct", keep, cells)
        accs = self.values["correct"][keep]
        memory = number >= 0 and set(self._sites(number)) <= MEMORIES
        return {
            "group": number,
            "trials": len(keep),
            "images": int(self.images[keep].sum()),
            "population": population,
            "rates": rates,
            "acc": acc,
            "acc_std": float(accs.std(ddof=1)) if len(accs) > 1 else 0.0,
            "acc_min": float(accs.min()) if len(accs) else 0.0,
            "rerr": [1 - end for end in reversed(acc)],
            "fit": self._fit(rates, population) if memory and cells else None,
        }

    def _sites(self, number: int) -> tuple[str, ...]:
        return self.injection.faults[number].sites

    def _over(
        self, key: Callable[[Cell], tuple[int, str, str | None, int | None]]
    ) -> list[dict[str, Any]]:
        """Return the rates of groups of cells, in the order of cells."""
        members: dict[tuple[int, str, str | None, int | None], list[int]] = {}
        for index, cell in enumerate(self.plan.cells):
            members.setdefault(key(cell), []).append(index)
        rows = []
        for (group, site, layer, bit), cells in members.items():
            keep = np.concatenate([self._of_cell(cell) for cell in cells])
            population = int(self.sizes[cells].sum())
            rates = self._rates(keep, cells) if len(keep) else {}
            row: dict[str, Any] = {"group": group, "site": site, "layer": layer, "bit": bit}
            row |= {
                "trials": len(keep),
                "images": int(self.images[keep].sum()),
                "population": population,
                "rates": rates,
            }
            if bit is None:
                row["fit"] = self._fit(rates, population) if site in MEMORIES and rates else None
            rows.append(
                {name: value for name, value in row.items() if value is not None or name == "fit"}
            )
        return rows

    def _of_cell(self, cell: int) -> Rows:
        """Return the rows of the trials that struck one cell."""
        return self.by_cell[self.ends[cell] : self.ends[cell + 1]]

    def _rates(self, keep: Rows, cells: list[int]) -> dict[str, list[float]]:
        return {name: self._rate(name, keep, cells) for name in OUTCOMES}

    def _rate(self, name: str, keep: Rows, cells: list[int]) -> list[float]:
        """Return the rate over some trials, which sample some cells, with its interval."""
        confidence, method = self.injection.confidence, self.injection.interval
        strata = self.columns["cell"][keep]
        if not cells or not len(strata) or (strata < 0).any():
            return _rounded(self._plain(name, keep))
        place = np.full(len(self.sizes), -1)
        place[cells] = np.arange(len(cells))
        own = place[strata]
        if len(np.unique(own)) == len(cells):
            sizes = self.sizes[cells].tolist()
            values = self.values[name][keep]
            return _rounded(
                stratified_rate(values, own, sizes, confidence=confidence, method=method)
            )
        return _rounded(self._plain(name, keep, self.sizes[strata] / self.planned[strata]))

    def _plain(
        self, name: str, keep: Rows, weights: Float[np.ndarray, " k"] | None = None
    ) -> Interval:
        if not len(keep):
            return Interval(0.0, 0.0, 1.0)
        return cluster_rate(
            self.columns[name][keep],
            self.columns["images"][keep],
            weights=weights,
            confidence=self.injection.confidence,
            method=self.injection.interval,
        )

    def _fit(self, rates: Mapping[str, list[float]], bits: int) -> list[float] | None:
        raw = self.injection.fit_per_mbit
        return None if raw is None else [raw * bits / 1e6 * end for end in rates["sdc1"]]

    def _channels(self) -> list[dict[str, Any]]:
        """Return the most vulnerable output channels, where single weights were struck."""
        faults = self.plan.faults
        members: dict[tuple[int, str], list[int]] = {}
        for index, cell in enumerate(self.plan.cells):
            if cell.site == "weight" and f"{cell.layer}.weight" in self.network.tensors:
                members.setdefault((cell.group, cell.layer), []).append(index)
        found: list[dict[str, Any]] = []
        for (group, layer), cells in members.items():
            rows = np.concatenate([self._of_cell(cell) for cell in cells])
            taps = self.network.tensors[f"{layer}.weight"].codes[0].numel()
            first = np.searchsorted(faults.trial, self.columns["trial"][rows])
            channels = faults.element[first] // taps
            for channel in np.unique(channels).tolist():
                keep = rows[channels == channel]
                if len(keep) >= LEAST_PER_CHANNEL:
                    row: dict[str, Any] = {"group": group, "site": "weight", "layer": layer}
                    row |= {"channel": channel, "trials": len(keep)}
                    row["images"] = int(self.images[keep].sum())
                    row["rates"] = {"sdc1": _rounded(self._plain("sdc1", keep))}
                    found.append(row)
        found.sort(key=lambda row: -row["rates"]["sdc1"][1])
        return found[:MOST_CHANNELS]

    def _convergence(self, number: int) -> dict[str, Any]:
        """Return the estimate after the first trials, in the order in which they were drawn."""
        rows = np.flatnonzero(self.columns["group"] == number)
        points = np.unique(np.geomspace(min(10, len(rows)), max(len(rows), 1), POINTS).astype(int))
        ends = []
        for n in points.tolist():
            keep = rows[:n]
            cell = self.columns["cell"][keep]
            weights = None
            if len(cell) and (cell >= 0).all():
                weights = self.sizes[cell] / self.planned[cell]
            ends.append(self._plain("sdc1", keep, weights))
        return {
            "group": number,
            "outcome": "sdc1",
            "trials": points.tolist(),
            "low": [end.low for end in ends],
            "value": [end.value for end in ends],
            "high": [end.high for end in ends],
        }


def _rounded(interval: Interval) -> list[float]:
    """Return `[low, value, high]` without the last digits, which sums of floats leave."""
    return [round(end, 12) for end in interval]


def _extent(group: FaultGroup) -> str:
    if group.exhaustive:
        return "exhaustive"
    if group.rate is not None:
        return f"rate {group.rate:g}"
    if group.model is not None:
        return "one draw"
    return "one place" if group.count == 1 else f"{group.count} places"
