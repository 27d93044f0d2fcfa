"""Drawing the trials of a campaign, and cutting them into chunks of neighbours."""

from dataclasses import dataclass, replace
from operator import le

import numpy as np
from jaxtyping import Int16, Int32, Int64

from bitproof.core.errors import SpecError
from bitproof.core.rng import derive_seed, make_generator
from bitproof.faults.base import FaultModel
from bitproof.faults.kinds import MOST_ROWS, Places
from bitproof.faults.space import Shapes, Stratum
from bitproof.faults.table import COLUMNS, FLIP, MOST_TRIALS, SITES, FaultTable
from bitproof.injection.spec import Injection
from bitproof.quant.network import IntegerNetwork
from bitproof.stats.sample_size import allocate, sample_size

MOST_CHUNKS = 400
"""Chunks of a large campaign: each is one file."""
LEAST_TRIALS = 64
"""Trials of a chunk of a small campaign."""


@dataclass(frozen=True)
class Cell:
    """One bit of one kind of site in one layer: the grain of the results."""

    group: int
    """Index of the kind of fault."""
    site: str
    layer: str
    bit: int
    size: int
    """Places."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Every trial of a campaign, and who is done beside whom."""

    faults: FaultTable
    """What breaks in each trial, before protections."""
    group: Int16[np.ndarray, " t"]
    """Kind of fault of each trial; -1: several."""
    cell: Int32[np.ndarray, " t"]
    """Index into `cells`; -1: several places break in the trial."""
    cells: tuple[Cell, ...]
    populations: tuple[int, ...]
    """Places of each kind of fault."""

    @property
    def n_trials(self) -> int:
        """Number of trials."""
        return self.faults.n_trials

    def is_sparse(self, group: int) -> bool:
        """Return whether a kind of fault has fewer trials than cells."""
        cells = sum(cell.group == group for cell in self.cells)
        return int((self.group == group).sum()) < cells

    def chunks(self, first: int = 0, last: int | None = None) -> list[Int64[np.ndarray, " n"]]:
        """Return trials `first` to `last`, cut into chunks of trials whose faults lie close."""
        stop = self.n_trials if last is None else last
        trials = np.arange(first, stop)
        left, right = (
            np.searchsorted(self.faults.trial, trials, side) for side in ("left", "right")
        )
        layers = np.append(self.faults.layer, -1)
        starts = np.where(right > left, layers[left], -1)
        order = trials[np.lexsort((trials, starts))]
        size = max(LEAST_TRIALS, -(-self.n_trials // MOST_CHUNKS))
        return [order[at : at + size] for at in range(0, len(order), size)]


def draw_plan(injection: Injection, network: IntegerNetwork, shapes: Shapes) -> Plan:
    """Return the trials of a campaign; equal arguments give equal trials.

    Raises:
        SpecError: there is nothing to break, or the draw is too large.
    """
    numbers = range(len(injection.faults))
    drawn = [_GroupDraw(number, injection, network, shapes) for number in numbers]
    counts = [group.n_trials() for group in drawn]
    if injection.together:
        counts = [max(counts)] * len(counts)
    if sum(counts) > MOST_TRIALS:
        raise SpecError(f"trials: wanted at most {MOST_TRIALS}, got {sum(counts)}")
    tables, cells = [], []
    if sum(counts) > MOST_ROWS:
        raise SpecError(f"trials: wanted at most {MOST_ROWS} in all, got {sum(counts)}")
    names: list[Cell] = []
    start = 0
    for group, n in zip(drawn, counts, strict=True):
        columns, cell = group.draw(n)
        columns["trial"] = columns["trial"] + (0 if injection.together else start)
        tables.append(columns)
        cells.append(np.where(cell >= 0, cell + len(names), -1))
        names += group.cells()
        start += n
    if injection.together and len(drawn) > 1:
        n = counts[0]
        group_of, cell_of = np.full(n, -1), np.full(n, -1)
    else:
        n = sum(counts)
        group_of, cell_of = np.repeat(np.arange(len(drawn)), counts), np.concatenate(cells)
    return Plan(
        FaultTable.build([node.name for node in network.nodes], n, **_joined(tables)),
        group_of.astype(np.int16),
        cell_of.astype(np.int32),
        tuple(names),
        tuple(group.population for group in drawn),
    )


def count_trials(injection: Injection, network: IntegerNetwork, shapes: Shapes) -> int:
    """Return how many trials `draw_plan` would draw, were there no bound on them."""
    numbers = range(len(injection.faults))
    counts = [_GroupDraw(number, injection, network, shapes).n_trials() for number in numbers]
    return max(counts) if injection.together else sum(counts)


def plan_of_list(faults: FaultTable) -> Plan:
    """Return the plan that replays a list of faults."""
    n = faults.n_trials
    return Plan(faults, np.zeros(n, np.int16), np.full(n, -1, np.int32), (), (len(faults),))


class _GroupDraw:
    """The draw of one kind of fault."""

    def __init__(
        self, number: int, injection: Injection, network: IntegerNetwork, shapes: Shapes
    ) -> None:
        self.number, self.injection, self.network = number, injection, network
        self.group = group = injection.faults[number]
        self.strata = group.strata(
            network, shapes, array=injection.array, permanent=group.kind.permanent
        )
        self.population = sum(stratum.size for stratum in self.strata)
        self.places = {node.name: place for place, node in enumerate(network.nodes)}
        self.parts = [replace(one, bits=(bit,)) for one in self.strata for bit in one.bits]
        self.sampled = group.count == 1 and group.rate is None and group.model is None

    def cells(self) -> list[Cell]:
        if not self.sampled:
            return []
        return [Cell(self.number, p.site, p.layer, p.bits[0], p.size) for p in self.parts]

    def n_trials(self) -> int:
        if self.group.exhaustive:
            return self.population
        if self.injection.trials is not None:
            n = self.injection.trials
            return min(n, self.population) if self.sampled else n
        if not self.sampled:
            return sum(self._needed([2**62]))  # subsets of places are without number
        if self.injection.per == "cell":
            return sum(self._needed([part.size for part in self.parts]))
        return sum(self._needed([self.population]))

    def _needed(self, sizes: list[int]) -> list[int]:
        """Return how many trials the margin asks for in populations of some sizes."""
        margin, confidence = self.injection.margin, self.injection.confidence
        return [sample_size(size, margin=margin, confidence=confidence) for size in sizes]

    def draw(self, n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return fault columns, and the cell of each trial."""
        if self.group.model is not None:
            return self._of_model(n, self.group.model)
        if self.group.rate is not None:
            return self._at_rate(n, self.group.rate)
        if not self.sampled:
            return self._several(n)
        share = self._shares(n)
        random = self._random("order")
        order = random.permutation(n)  # the trial that each draw becomes
        columns, cells = [], np.empty(n, np.int64)
        start = 0
        for index, (part, k) in enumerate(zip(self.parts, share, strict=True)):
            if not k:
                continue
            own = self._random("cell", index)
            places = np.arange(k) if k == part.size else own.choice(part.size, k, replace=False)
            trials = order[start : start + k]
            cells[trials] = index
            columns.append(self._break(part, np.asarray(places, np.int64), trials, own))
            start += k
        return _joined(columns), cells

    def _shares(self, n: int) -> list[int]:
        sizes = [part.size for part in self.parts]
        if self.group.exhaustive or n == self.population:
            return sizes
        if self.injection.per == "cell" and self.injection.trials is None:
            return self._needed(sizes)
        if self.injection.allocation == "proportional" and n < len(sizes):
            # Largest remainders would leave the same small cells out in every campaign.
            chances = np.array(sizes, np.float64) / self.population
            drawn: list[int] = self._random("shares").multinomial(n, chances).tolist()
            return drawn if all(map(le, drawn, sizes)) else allocate(sizes, n)
        if self.injection.allocation != "data_aware":
            return allocate(sizes, n, how=self.injection.allocation)
        reach = [_reach(part, self.network) for part in self.parts]
        likely = [0.5 * one / max(reach) for one in reach]
        return allocate(sizes, n, how="neyman", spread=[(p * (1 - p)) ** 0.5 for p in likely])

    def _several(self, n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        count = self.group.count
        if count > self.population:
            raise SpecError(f"count: wanted at most {self.population} places, got {count}")
        if n * count > MOST_ROWS:
            raise SpecError(f"trials: wanted at most {MOST_ROWS} faults in all, got {n * count}")
        random = self._random("several")
        chosen = random.integers(0, self.population, (n, count))
        while len(again := _repeating(chosen)):
            chosen[again] = (
                random.integers(0, self.population, (len(again), count))
                if count * count < self.population
                else [random.choice(self.population, count, replace=False) for _ in again]
            )
        return self._at(chosen.ravel(), np.repeat(np.arange(n), count)), np.full(n, -1)

    def _at_rate(self, n: int, rate: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
        if n * self.population * rate > MOST_ROWS:
            raise SpecError(
                f"rate: wanted at most {MOST_ROWS} faults in all, got about "
                f"{n * self.population * rate:.3g}; set `trials`, or measure accuracy against the "
                "bit error rate with `bitproof run`"
            )
        places, trials = [], []
        for trial in range(n):
            random = self._random("trial", trial)
            k = int(random.binomial(self.population, rate))
            places.append(np.sort(random.choice(self.population, k, replace=False)))
            trials.append(np.full(k, trial))
        return self._at(np.concatenate(places), np.concatenate(trials)), np.full(n, -1)

    def _of_model(self, n: int, model: FaultModel) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the bits of the group that change in draws of `corrupt` by a fault model."""
        codes = self.network.codes(*self.group.sites)
        trials, rows = [], 0
        for trial in range(n):
            generator = make_generator(self.injection.seed, "faults", self.number, "trial", trial)
            faulty = model.corrupt_all(codes, generator=generator)
            columns = []
            for stratum in self.strata:
                name, bits = f"{stratum.layer}.{stratum.site}", np.array(stratum.bits)
                changed = (faulty[name] ^ codes[name][0]).cpu().flatten().numpy()
                element = np.flatnonzero(changed)
                if stratum.elements is not None:
                    element = np.intersect1d(element, stratum.elements, assume_unique=True)
                source, which = np.nonzero(changed[element, None] >> bits & 1)
                own = {"trial": np.full(len(which), trial), "element": element[source]}
                columns.append(self._columns(stratum, bit=bits[which], tap=-1, action=FLIP, **own))
            trials.append(_joined(columns))
            rows += len(trials[-1]["trial"])
            if rows > MOST_ROWS:
                raise SpecError(f"trials: wanted at most {MOST_ROWS} faults in all, got more")
        return _joined(trials), np.full(n, -1)

    def _at(self, places: np.ndarray, trials: np.ndarray) -> dict[str, np.ndarray]:
        """Return fault columns of places that are numbered through all strata."""
        ends = np.cumsum([stratum.size for stratum in self.strata])
        index = np.searchsorted(ends, places, side="right")
        columns = []
        for number, stratum in enumerate(self.strata):
            mine = index == number
            if mine.any():
                own = places[mine] - (ends[number] - stratum.size)
                random = self._random("stratum", number)
                columns.append(self._break(stratum, own, trials[mine], random))
        return _joined(columns)

    def _break(
        self, stratum: Stratum, places: np.ndarray, trials: np.ndarray, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        element, tap, bit = stratum.locate(places)
        bits = self.group.kind.spread(Places(stratum, element, bit), random)
        return self._columns(
            stratum,
            trial=trials[bits.source],
            element=bits.element,
            tap=tap[bits.source],
            bit=bits.bit,
            action=bits.action,
        )

    def _columns(self, stratum: Stratum, **columns: np.ndarray | int) -> dict[str, np.ndarray]:
        """Return fault columns in one stratum; a number stands for all rows."""
        columns |= {"site": SITES.index(stratum.site)}
        if stratum.hits is None:
            columns |= {"layer": self.places[stratum.layer]}
            return dict(zip(columns, np.broadcast_arrays(*columns.values()), strict=True))
        found = dict(zip(columns, np.broadcast_arrays(*columns.values()), strict=True))
        layers = [
            {name: column[found["bit"] < width] for name, column in found.items()}
            | {"layer": np.full(int((found["bit"] < width).sum()), self.places[layer])}
            for layer, width in stratum.hits.items()
        ]
        return _joined(layers)

    def _random(self, *parts: object) -> np.random.Generator:
        seed = derive_seed(self.injection.seed, "faults", self.number, *parts)
        return np.random.Generator(np.random.SFC64(seed))


def _joined(columns: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    parts = columns or [{name: np.empty(0, np.int64) for name in COLUMNS}]
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}


def _repeating(chosen: np.ndarray) -> np.ndarray:
    """Return the rows in which a number stands twice."""
    ordered = np.sort(chosen, axis=1)
    return np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(1))


def _reach(part: Stratum, network: IntegerNetwork) -> float:
    """Return how far a flip of the bit moves a value: the bit's weight times the step."""
    name = f"{part.layer}.{part.site}"
    step = 1.0
    if name in network.tensors:
        step = float(network.tensors[name].grid.scale.double().mean())
    elif part.site in {"activation", "output"}:
        step = float(network.grids[part.layer].scale)
    return step * 2.0 ** part.bits[0]
