"""From the counts of all trials to rates with intervals, as one JSON table.

Model:  the fault is the unit. Where trials were drawn by layer and bit, each cell counts as much
        as it has places, however many of its trials were done. FIT of a memory is the raw rate
        times its bits times the probability that a fault changes an answer.
Source: METHODS C.3; ANCHORS section 6 (definitions); JEDEC JESD89 for FIT.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bitproof.faults.table import ARRAY_SITES
from bitproof.injection.plan import Plan
from bitproof.injection.ranking import OF, OUTCOME, rank_places
from bitproof.injection.spec import FaultGroup, Injection
from bitproof.injection.worker import CARRIED
from bitproof.metrics import OUTCOMES, metrics_of
from bitproof.quant.network import IntegerNetwork
from bitproof.stats import Interval
from bitproof.stats.clusters import Method, cluster_rate, stratified_rate

MEMORIES = frozenset({"weight", "bias", "activation", "output"})
"""Sites whose places are bits of a memory."""
POINTS = 24
"""Points of the convergence curve."""
MOST_CHANNELS = 20
"""Channels that are listed, the most vulnerable ones."""
MOST_ELEMENTS = 4096
"""Processing elements of an array that are listed; larger arrays have no list."""
STOPPED = "stopped"
"""Column of the images of trials that a word beyond repair stops."""
ANSWERS = frozenset({"correct", CARRIED})
"""Counts of right answers, or parts of them."""
PLAIN = frozenset(
    {"trial", "group", "cell", "faults", "images", "correct", CARRIED, STOPPED, *OUTCOMES}
)
"""Columns of every campaign; what else there is comes from its task."""
LEAST_PER_CHANNEL = 5
"""Trials of a channel that is listed."""

Columns = Mapping[str, np.ndarray]
Rows = Int[np.ndarray, " k"]
"""Numbers of trials among those that were done."""


def summarize_injection(
    plan: Plan, injection: Injection, columns: Columns, network: IntegerNetwork
) -> dict[str, Any]:
    """Return totals, layers, bits, cells, channels, elements of an array, and convergence.

    Rates are `[low, value, high]`; `columns` are the counts of those planned trials that were done,
    in any order.
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
        self.outcomes = [name for name in OUTCOMES if name in columns]
        self.answers = columns.get("parts", columns["images"])
        self.values = {name: columns[name] / self.images for name in self.outcomes}
        self.values["correct"] = columns["correct"] / self.answers
        if injection.protections:
            # A trial with a word beyond repair has no outcome but DUE, for all its images.
            carried = columns.get(CARRIED, columns["correct"])
            stopped = (columns["due"] >= columns["images"]) & (CARRIED in columns)
            self.columns = {**columns, CARRIED: carried, STOPPED: stopped * columns["images"]}
            self.values |= {CARRIED: carried / self.answers, STOPPED: stopped.astype(float)}
        self.sizes = np.array([cell.size for cell in plan.cells], np.int64)
        self.planned = np.bincount(plan.cell[plan.cell >= 0], minlength=max(len(plan.cells), 1))
        self.sparse = {group: plan.is_sparse(group) for group in set(plan.group.tolist())}
        self.by_cell = np.argsort(columns["cell"], kind="stable")
        numbers = np.arange(len(plan.cells) + 1)
        self.ends = np.searchsorted(columns["cell"], numbers, sorter=self.by_cell)

    def tables(self) -> dict[str, Any]:
        numbers = sorted(set(self.plan.group.tolist()))
        places = {of: self._over("group", "site", *names) for of, names in OF.items()}
        return {
            "outcomes": self.outcomes,
            "groups": [self._group(number) for number in numbers],
            "totals": [self._total(number) for number in numbers],
            "layers": places["layer"],
            "bits": places["bit"],
            "cells": places["cell"],
            "channels": self._channels(),
            "elements": self._elements(),
            "rankings": self._rankings(places),
            "convergence": [self._convergence(number) for number in numbers],
        }

    def _group(self, number: int) -> dict[str, Any]:
        """Return what a kind of fault is; -1 stands for all of them together."""
        if number < 0:
            groups, rate, extent, label = self.injection.faults, None, "together", "all together"
            kind: dict[str, Any] = {"kind": " + ".join(group.source.kind for group in groups)}
            sites = tuple(dict.fromkeys(site for group in groups for site in group.sites))
        else:
            group = self.injection.faults[number]
            rate, extent, sites = group.rate, _extent(group), group.sites
            kind = group.source.model_dump(mode="json")
            label = f"{group.source.kind} in {', '.join(sites)}"
        population = self._population(number)
        return {
            "group": number,
            "label": label,
            "kind": kind,
            "sites": list(sites),
            "extent": extent,
            "rate": rate,
            "population": population,
            "trials": int((self.columns["group"] == number).sum()),
            "needed": int((self.plan.group == number).sum()),
            "bits_of_memory": population if self._in_memory(number) else None,
        }

    def _population(self, number: int) -> int:
        return sum(self.plan.populations) if number < 0 else self.plan.populations[number]

    def _in_memory(self, number: int) -> bool:
        return number >= 0 and set(self.injection.faults[number].sites) <= MEMORIES

    def _counts(self, keep: Rows) -> dict[str, Any]:
        return {"trials": len(keep), "images": int(self.images[keep].sum())}

    def _total(self, number: int) -> dict[str, Any]:
        keep = np.flatnonzero(self.columns["group"] == number)
        cells = [i for i, cell in enumerate(self.plan.cells) if cell.group == number]
        population = self._population(number)
        rates = self._rates(keep, cells)
        acc = self._rate("correct", keep, cells)
        accs = self.values["correct"][keep]
        return {
            "group": number,
            **self._counts(keep),
            "population": population,
            "rates": rates,
            "acc": acc,
            "acc_std": float(accs.std(ddof=1)) if len(accs) > 1 else 0.0,
            "acc_min": float(accs.min()) if len(accs) else 0.0,
            "rerr": [1 - end for end in reversed(acc)],
            **self._carried(keep, cells),
            **self._metrics(keep),
            "fit": self._fit(rates, population) if self._in_memory(number) and cells else None,
        }

    def _carried(self, keep: Rows, cells: list[int]) -> dict[str, Any]:
        """Return accuracy if words beyond repair are read as they are, and how many trials stop.

        Nothing without a protection, which alone finds such words.
        """
        if CARRIED not in self.columns or not len(keep):
            return {}
        return {
            "acc_carried": self._rate(CARRIED, keep, cells),
            "stopped": self._rate(STOPPED, keep, cells),
        }

    def _metrics(self, keep: Rows) -> dict[str, Any]:
        """Return the means over trials of what else the task counts, such as `miou`."""
        weights = self._weights(keep)
        names = [name for name in self.columns if name not in PLAIN]
        if not names or not len(keep):
            return {}
        each = [
            metrics_of({name: int(self.columns[name][row]) for name in (*names, "images")})
            for row in keep
        ]
        ones = np.ones(len(keep))
        return {
            "metrics": {
                name: _rounded(
                    cluster_rate(
                        np.array([found[name] for found in each]),
                        ones,
                        weights=weights,
                        confidence=self.injection.confidence,
                        method=self.injection.interval,
                    )
                )
                for name in each[0]
            }
        }

    def _over(self, *names: str) -> list[dict[str, Any]]:
        """Return the rates of cells that agree in some fields, in the order of cells."""
        rows = []
        for values, cells in self._cells_by(*names).items():
            place = dict(zip(names, values, strict=True))
            keep = self._of_cells(cells)
            population = int(self.sizes[cells].sum())
            rates = self._rates(keep, cells) if len(keep) else {}
            row = place | self._counts(keep) | {"population": population, "rates": rates}
            if "bit" not in names:
                memory = place["site"] in MEMORIES
                row["fit"] = self._fit(rates, population) if memory and rates else None
            rows.append(row)
        return rows

    def _rankings(self, places: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return layers, bits and cells by what faults there do."""
        if OUTCOME not in self.outcomes:
            return []

        def rate(cells: Sequence[int], confidence: float) -> Interval:
            keep = self._of_cells(list(cells))
            return self._interval(OUTCOME, keep, list(cells), confidence, "clopper_pearson")

        return [
            ranking
            for of, names in OF.items()
            for ranking in rank_places(
                self._cells_by("group", "site", *names),
                places[of],
                of=of,
                rate=rate,
                confidence=self.injection.confidence,
            )
        ]

    def _cells_by(self, *names: str) -> dict[tuple[Any, ...], list[int]]:
        """Return the numbers of cells that agree in some fields, by these."""
        members: dict[tuple[Any, ...], list[int]] = {}
        for index, cell in enumerate(self.plan.cells):
            members.setdefault(attrgetter(*names)(cell), []).append(index)
        return members

    def _of_cells(self, cells: list[int]) -> Rows:
        """Return the rows of the trials in some cells."""
        return np.concatenate([self.by_cell[self.ends[i] : self.ends[i + 1]] for i in cells])

    def _rates(self, keep: Rows, cells: list[int]) -> dict[str, list[float]]:
        return {name: self._rate(name, keep, cells) for name in self.outcomes}

    def _rate(self, name: str, keep: Rows, cells: list[int]) -> list[float]:
        """Return the rate over some trials, which sample some cells, with its interval."""
        confidence, method = self.injection.confidence, self.injection.interval
        return _rounded(self._interval(name, keep, cells, confidence, method))

    def _interval(
        self, name: str, keep: Rows, cells: list[int], confidence: float, method: Method
    ) -> Interval:
        """Return the same at any confidence."""
        strata = self.columns["cell"][keep]
        if not cells or not np.array_equal(np.unique(strata), cells):
            weights = self._weights(keep)
            return self._plain(name, keep, weights, confidence=confidence, method=method)
        return stratified_rate(
            self.values[name][keep],
            np.searchsorted(cells, strata),
            self.sizes[cells].tolist(),
            confidence=confidence,
            method=method,
        )

    def _weights(self, keep: Rows) -> Float[np.ndarray, " k"] | None:
        """Return how many places each trial stands for; None where all stand for as many."""
        cell = self.columns["cell"][keep]
        if (cell < 0).any():
            return None  # trials have several places
        groups = self.columns["group"][keep]
        by_chance = self.injection.allocation == "proportional"
        if by_chance and len(keep) and self.sparse[int(groups[0])]:
            return None  # places were drawn whatever their cell
        weights: np.ndarray = self.sizes[cell] / self.planned[cell]
        return weights

    def _plain(
        self,
        name: str,
        keep: Rows,
        weights: Float[np.ndarray, " k"] | None = None,
        *,
        confidence: float | None = None,
        method: Method | None = None,
    ) -> Interval:
        if not len(keep):
            return Interval(0.0, 0.0, 1.0)
        return cluster_rate(
            self.columns[name][keep],
            (self.answers if name in ANSWERS else self.columns["images"])[keep],
            weights=weights,
            confidence=confidence or self.injection.confidence,
            method=method or self.injection.interval,
        )

    def _fit(self, rates: Mapping[str, list[float]], bits: int) -> list[float] | None:
        raw = self.injection.fit_per_mbit
        return None if raw is None else [raw * bits / 1e6 * end for end in rates["sdc1"]]

    def _channels(self) -> list[dict[str, Any]]:
        """Return the most vulnerable output channels, where single weights were faulty."""
        faults = self.plan.faults
        found: list[dict[str, Any]] = []
        for (group, site, layer), cells in self._cells_by("group", "site", "layer").items():
            if site != "weight":
                continue
            rows = self._of_cells(cells)
            words = self.network.tensors[f"{layer}.weight"].codes
            taps = words[0].numel() if words.ndim else 1
            first = np.searchsorted(faults.trial, self.columns["trial"][rows])
            channels = faults.element[first] // taps
            for channel in np.unique(channels).tolist():
                keep = rows[channels == channel]
                if len(keep) >= LEAST_PER_CHANNEL:
                    place = {"group": group, "site": site, "layer": layer, "channel": channel}
                    rates = {"sdc1": _rounded(self._plain("sdc1", keep))}
                    found.append({**place, **self._counts(keep), "rates": rates})
        found.sort(key=lambda row: -row["rates"]["sdc1"][1])
        return found[:MOST_CHANNELS]

    def _elements(self) -> list[dict[str, Any]]:
        """Return the processing elements of an array whose registers were faulty."""
        faults, columns = self.plan.faults, self.injection.array.columns
        if self.injection.array.n_elements > MOST_ELEMENTS:
            return []
        found: list[dict[str, Any]] = []
        struck_by_group: dict[int, list[int]] = {}
        for (group, site), cells in self._cells_by("group", "site").items():
            if site in ARRAY_SITES:
                struck_by_group.setdefault(group, []).extend(cells)
        for group, struck in struck_by_group.items():
            rows = self._of_cells(struck)
            first = np.searchsorted(faults.trial, self.columns["trial"][rows])
            elements = faults.element[first]
            weights = self._weights(rows)
            for element in np.unique(elements).tolist():
                chosen = elements == element
                own = None if weights is None else weights[chosen]
                rates = {
                    name: _rounded(self._plain(name, rows[chosen], own)) for name in self.outcomes
                }
                row, column = divmod(element, columns)
                place = {"group": group, "row": row, "column": column}
                found.append({**place, **self._counts(rows[chosen]), "rates": rates})
        return found

    def _convergence(self, number: int) -> dict[str, Any]:
        """Return the estimate after the first trials, in the order in which they were drawn."""
        rows = np.flatnonzero(self.columns["group"] == number)
        points = np.unique(np.geomspace(min(10, len(rows)), max(len(rows), 1), POINTS).astype(int))
        firsts = [rows[:n] for n in points.tolist()]
        ends = [self._plain("sdc1", keep, self._weights(keep)) for keep in firsts]
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
