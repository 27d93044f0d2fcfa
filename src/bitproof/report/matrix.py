"""The matrix of a run: every integer network under every threat, at one level each.

Model:  each threat is one column, at its middle level (`findings.focus_level`), so that no result
        decides at which. A worst case is the lowest accuracy of a network under the threats of some
        families. Only threats that every network met count for it: the lowest of four numbers does
        not compare with the lowest of five. As it is picked for being the lowest, it is rather too
        low where several are close, which its interval does not tell.
        Two networks are compared on the same images or draws where their worst cases are those of
        one threat, else as if they were measured apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bitproof.report.findings import focus_level
from bitproof.report.paired import AccuracyChange, change, paired_change
from bitproof.report.run import CLEAN, FLOAT, Run
from bitproof.report.tallies import Measurement
from bitproof.report.wording import slug
from bitproof.stats.results import Row
from bitproof.stats.threats import Family, ThreatLabel

ORDER: tuple[Family, ...] = (
    *("memory_fault", "compute_fault", "bit_flip_attack", "input_attack"),
    *("hardware", "crossing", "none"),
)
"""Families of columns, from left to right, after clean inputs."""
FAULTS: tuple[Family, ...] = ("memory_fault", "compute_fault")
ATTACKS: tuple[Family, ...] = ("bit_flip_attack", "input_attack")
THREATENING: tuple[Family, ...] = (*FAULTS, *ATTACKS, "hardware", "crossing")
"""All that a worst case may come from; what has no family is shown and does not count."""
UNITS: Mapping[Family, str] = {
    "memory_fault": "chip",
    "compute_fault": "draw",
    "bit_flip_attack": "batch",
}
"""What `n` counts in runs that do not tell it."""


@dataclass(frozen=True)
class Column:
    """A threat at the level of the matrix."""

    threat: str
    level: float
    label: ThreatLabel
    place: str
    """Where the page tells more of it: the anchor of its section."""
    unit: str
    """What one trial more or less is: an image, a chip, a draw, a batch."""

    @property
    def family(self) -> Family:
        """What the threat changes."""
        return self.label.family

    @property
    def words(self) -> str:
        """The threat and its level, if it has levels."""
        return self.label.at(self.level) if self.level else self.label.title


@dataclass(frozen=True)
class MatrixCell:
    """One network under one threat."""

    network: str
    column: Column
    row: Row
    """Its accuracy."""
    change: AccuracyChange | None
    """Against the network that all are compared with; None: that is this one, or has no cell."""

    @property
    def alike(self) -> bool:
        """Whether all draws came out alike: their interval has no width, and tells nothing."""
        return is_alike(self.row)


@dataclass(frozen=True)
class Effort:
    """What all levels of one threat took on one network."""

    trials: int
    seconds: float | None
    """None: nobody looked at the clock."""


@dataclass(frozen=True)
class Matrix:
    """All cells of a run."""

    run: Run
    networks: tuple[str, ...]
    """Integer networks with results, as planned."""
    first: str
    """The network that others are compared with; empty where there is none."""
    columns: tuple[Column, ...]
    """Clean inputs first."""
    cells: Mapping[tuple[str, str], MatrixCell]
    """By network and threat; what was not measured is missing."""

    def find(self, network: str, threat: str) -> MatrixCell | None:
        """Return one cell, None where nothing was measured."""
        return self.cells.get((network, threat))

    def column_cells(self, column: Column) -> list[MatrixCell]:
        """Return the cells of one threat, in the order of networks."""
        found = (self.find(name, column.threat) for name in self.networks)
        return [cell for cell in found if cell is not None]

    def unmet(self, column: Column) -> tuple[str, ...]:
        """Return the networks that have no cell of a threat."""
        return tuple(n for n in self.networks if (n, column.threat) not in self.cells)

    @cached_property
    def threats(self) -> tuple[Column, ...]:
        """All columns but clean inputs."""
        return tuple(one for one in self.columns if one.threat != CLEAN)

    def counted(self, families: Sequence[Family]) -> tuple[Column, ...]:
        """Return the threats of some families that every network met."""
        return tuple(c for c in self.threats if c.family in families and not self.unmet(c))

    def uncounted(self, families: Sequence[Family] = THREATENING) -> tuple[Column, ...]:
        """Return the threats of some families that a network lacks: no worst case is theirs."""
        return tuple(c for c in self.threats if c.family in families and self.unmet(c))

    def worst(self, network: str, families: Sequence[Family]) -> MatrixCell | None:
        """Return the lowest accuracy of a network under the threats that count; None without."""
        found = [self.cells[network, column.threat] for column in self.counted(families)]
        return min(found, key=lambda cell: cell.row.value, default=None)

    def is_worst(self, cell: MatrixCell) -> bool:
        """Return whether a cell is the worst fault, worst attack or worst of all of its network."""
        return any(
            self.worst(cell.network, families) is cell
            for families in (FAULTS, ATTACKS, THREATENING)
        )

    def compared(self, before: MatrixCell, after: MatrixCell) -> AccuracyChange | None:
        """Return how much one cell lies above another, paired where both are of one threat."""
        if before.column == after.column:
            column = after.column
            return paired_change(
                self.run, before.network, after.network, column.threat, column.level
            )
        return change(before.row, after.row)

    def best_of(self, cells: Iterable[MatrixCell | None]) -> list[MatrixCell]:
        """Return the cell of highest accuracy, then those that cannot be told from it, falling.

        Two cannot be told apart where the 95 % interval of their difference holds zero, or is not
        known.
        """
        found = sorted((c for c in cells if c is not None), key=lambda cell: -cell.row.value)
        return [
            cell
            for place, cell in enumerate(found)
            if not place or (moved := self.compared(cell, found[0])) is None or moved.sign <= 0
        ]

    def effort(self, network: str, threat: str) -> Effort:
        """Return what all levels of a threat took on a network, or on one that is equal to it."""
        done: list[Measurement] = [
            one
            for level in self.run.levels(threat)
            for one in self.run.trials.get(
                (self.run.network_of(network), threat, level), {}
            ).values()
        ]
        spent = sum(one.seconds for one in done)
        return Effort(len(done), spent or None)


def matrix_of(run: Run) -> Matrix:
    """Return the matrix of a run; it may lack cells, columns, or everything."""
    networks = tuple(name for name in run.variants if name not in {FLOAT, *run.missing})
    base = run.facts.baseline
    first = base if base in networks else next(iter(networks), "")
    columns = _columns(run, networks)
    cells = {
        (name, column.threat): MatrixCell(name, column, row, _change(run, first, name, column))
        for column in columns
        for name in networks
        if (row := run.find(name, column.threat, column.level)) is not None
    }
    return Matrix(run, networks, first, columns, cells)


def is_alike(row: Row) -> bool:
    """Return whether the interval of a row has no width: few draws, all with one result."""
    return row.interval is not None and row.interval.low == row.interval.high


def power_share(run: Run, network: str) -> float | None:
    """Return the power of a network's multipliers as a share of exact ones'; None: not known."""
    name = run.multiplier_of(network)
    if name is not None:
        return run.facts.multipliers[name].power_share
    return None if run.is_approximate(network) else 1.0


def _columns(run: Run, networks: Sequence[str]) -> tuple[Column, ...]:
    """Return the threats that some network met at their level: clean, then by family."""
    threats = sorted(run.threats, key=lambda threat: ORDER.index(run.label(threat).family))
    levels = {CLEAN: 0.0} | {one: focus_level(run.levels(one)) or 0.0 for one in threats}
    met = {
        threat: level
        for threat, level in levels.items()
        if any(run.find(name, threat, level) for name in networks)
    }
    places = anchors(list(met))
    return tuple(
        Column(threat, level, _label(run, threat), places[threat], _unit(run, threat, level))
        for threat, level in met.items()
    )


def anchors(threats: Sequence[str]) -> dict[str, str]:
    """Return the anchor of each threat on a page; no two are alike.

    Example:
        >>> anchors(["linf_pgd", "linf-pgd"])
        {'linf_pgd': 'threat-linf-pgd', 'linf-pgd': 'threat-linf-pgd-2'}
    """
    found: dict[str, str] = {}
    for threat in threats:
        place, number = f"threat-{slug(threat)}", 2
        while place in found.values():
            place, number = f"threat-{slug(threat)}-{number}", number + 1
        found[threat] = place
    return found


def _label(run: Run, threat: str) -> ThreatLabel:
    label = run.label(threat)
    return ThreatLabel("none", "Clean") if threat == CLEAN and label.title == CLEAN else label


def _unit(run: Run, threat: str, level: float) -> str:
    """Return what one trial more or less is; runs before `unit` was written do not tell it."""
    label = run.label(threat)
    if label.unit != "image":
        return label.unit
    trials = {len(found) for key, found in run.trials.items() if key[1:] == (threat, level)}
    counts = {
        row.n
        for row in run.rows
        if (row.threat, row.level, row.metric) == (threat, level, "acc") and row.n is not None
    }
    pooled = bool(trials) and not counts <= trials
    return "image" if pooled else UNITS.get(label.family, "image")


def _change(run: Run, first: str, network: str, column: Column) -> AccuracyChange | None:
    if network == first:
        return None
    return paired_change(run, first, network, column.threat, column.level)
