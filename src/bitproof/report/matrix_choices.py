"""What to choose when: Pareto fronts over the matrix, and the answers as plain sentences.

Model:  a network has up to four figures: clean accuracy, its worst fault, its worst attack, and the
        power of its multipliers as a share of exact ones'. The front holds the networks that no
        other one beats by measured values. A network off the front is *clearly beaten* if another
        is at least as good in every figure and better in one beyond doubt (the 95 % interval of
        that difference excludes zero, or it takes less power); one that is not may belong there.
        Figures that a run does not have are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from bitproof.report.findings import TRADE, lowered
from bitproof.report.matrix import (
    ATTACKS,
    FAULTS,
    Column,
    Matrix,
    MatrixCell,
    power_share,
)
from bitproof.report.page_table import few
from bitproof.report.run import CLEAN
from bitproof.report.wording import percent
from bitproof.stats.costs import undominated

Where = Callable[[Column], str]
"""How a threat at its level is written."""


@dataclass(frozen=True)
class Standing:
    """The figures of one network that a choice looks at."""

    network: str
    clean: MatrixCell | None
    fault: MatrixCell | None
    attack: MatrixCell | None
    both: MatrixCell | None
    """The lower of worst fault and worst attack."""
    power: float | None
    """Share of the power of exact multipliers; None: not known."""


@dataclass(frozen=True)
class Fronts:
    """All networks of a matrix, and which are worth a choice."""

    matrix: Matrix
    standings: tuple[Standing, ...]

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """What the front compares."""
        some = [
            n for n in ("clean", "fault", "attack") if any(getattr(s, n) for s in self.standings)
        ]
        return (*some, *(["power"] if self.has_power else []))

    @cached_property
    def has_power(self) -> bool:
        """Whether the power of all is known, and some multiplier is not exact."""
        return self.some_power and all(s.power is not None for s in self.standings)

    @cached_property
    def some_power(self) -> bool:
        """Whether the power of some approximate multiplier is known."""
        run = self.matrix.run
        return any(
            s.power is not None and run.multiplier_of(s.network) is not None for s in self.standings
        )

    @cached_property
    def compared(self) -> tuple[Standing, ...]:
        """The networks that have every figure."""
        return tuple(
            s for s in self.standings if all(getattr(s, n) is not None for n in self.figures)
        )

    @cached_property
    def front(self) -> tuple[str, ...]:
        """Networks that no other one beats by measured values."""
        if not self.figures:
            return ()
        places = undominated([self._values(one) for one in self.compared])
        return tuple(self.compared[place].network for place in places)

    @cached_property
    def near(self) -> tuple[str, ...]:
        """Networks off the front that none beats beyond doubt."""
        return tuple(
            one.network
            for one in self.compared
            if one.network not in self.front
            and not any(self._clearly_beats(other, one) for other in self.compared)
        )

    def best(self, figure: str) -> list[Standing]:
        """Return the best network by a figure, then those that cannot be told from it."""
        by_name = {one.network: one for one in self.standings}
        found = self.matrix.best_of(getattr(one, figure) for one in self.standings)
        return [by_name[cell.network] for cell in found]

    @cached_property
    def reference(self) -> MatrixCell | None:
        """Clean accuracy that multipliers may cost a point: the baseline's, else the best."""
        base = self.matrix.find(self.matrix.run.facts.baseline, CLEAN)
        known = [one.clean for one in self.standings if one.clean is not None]
        return base or max(known, key=lambda cell: cell.row.value, default=None)

    def frugal(self) -> tuple[list[Standing], bool]:
        """Return the network on multipliers of least power that loses at most a point, clean.

        Against `reference`. Others of equal power follow, the best of both worst cases
        first; the second value is True. Where all lose more, the one that loses least, and False.
        Nothing where the power of no multiplier, or no clean accuracy, is known.
        """
        run = self.matrix.run
        known = [
            one
            for one in self.standings
            if one.clean is not None
            and one.power is not None
            and run.multiplier_of(one.network) is not None
        ]
        if self.reference is None or not known:
            return [], False
        least = self.reference.row.value - TRADE - 1e-9
        cheap = [one for one in known if _clean(one) >= least]
        if not cheap:
            return [max(known, key=_clean)], False
        lowest = min(one.power for one in cheap if one.power is not None)
        chosen = [one for one in cheap if one.power == lowest]
        return sorted(chosen, key=lambda one: -_height(one.both)), True

    def _values(self, one: Standing) -> tuple[float, ...]:
        found = [
            -(one.power or 0.0) if name == "power" else getattr(one, name).row.value
            for name in self.figures
        ]
        return tuple(found)

    def _clearly_beats(self, one: Standing, other: Standing) -> bool:
        pairs = list(zip(self._values(one), self._values(other), strict=True))
        if any(a < b for a, b in pairs):
            return False
        if self.has_power and pairs[-1][0] > pairs[-1][1]:
            return True
        moved = (
            self.matrix.compared(getattr(other, name), getattr(one, name))
            for name in self.figures
            if name != "power"
        )
        return any(each is not None and each.sign > 0 for each in moved)


def fronts_of(matrix: Matrix) -> Fronts:
    """Return the figures of all networks of a matrix."""
    standings = [
        Standing(
            network=name,
            clean=matrix.find(name, CLEAN),
            fault=matrix.worst(name, FAULTS),
            attack=matrix.worst(name, ATTACKS),
            both=matrix.worst(name, (*FAULTS, *ATTACKS)),
            power=power_share(matrix.run, name),
        )
        for name in matrix.networks
    ]
    return Fronts(matrix, tuple(standings))


def page_words(column: Column) -> str:
    """Return a threat at its level for the middle of a sentence of a page."""
    return lowered(column.words)


def headline(fronts: Fronts) -> str:
    """Return who has the best worst case over faults, and who over attacks."""
    matrix = fronts.matrix
    if not matrix.cells:
        return "This run has no results yet."
    told = [
        _headline_part(fronts, figure, len(matrix.counted(families)))
        for figure, families in (("fault", FAULTS), ("attack", ATTACKS))
        if fronts.best(figure)
    ]
    if told:
        return " ".join(told)
    best = fronts.best("clean")
    return f"{_figures(best[0], 'clean', page_words)}." if best else "No cell is complete yet."


def choice_lines(fronts: Fronts, where: Where = page_words) -> list[str]:
    """Return what to choose when, in plain sentences, each with its numbers.

    Args:
        fronts: all networks.
        where: how a threat at its level is written in the middle of a sentence.
    """
    cases = {
        "clean": "Where no threat is expected",
        "fault": "Where faults matter most",
        "attack": "Where attacks matter most",
        "both": "Where both matter",
    }
    if len(fronts.standings) < 2:
        return []
    if not {"fault", "attack"} <= set(fronts.figures):
        del cases["both"]
    lines = [_line(case, fronts, figure, where) for figure, case in cases.items()]
    return [line for line in [*lines, _power_line(fronts, where), _front_line(fronts)] if line]


def _headline_part(fronts: Fronts, figure: str, counted: int) -> str:
    """Return the best worst case by a figure, over so many threats, and what else may be it."""
    first, *others = fronts.best(figure)
    many = len(fronts.standings)
    best = f"the best worst case of {many} networks is that" if many > 1 else "the worst case"
    clean = "" if first.clean is None else f"; clean {percent(first.clean.row.value)} %"
    text = (
        f"Under {figure}s ({counted} counted), {best} of “{first.network}”: "
        f"{kept(getattr(first, figure), page_words)}{clean}."
    )
    if len(others) == many - 1 and others:
        return f"{text} No network can be told from it."
    names = few([f"“{one.network}”" for one in others])
    return f"{text} Cannot be told from it: {names}." if others else text


def _line(case: str, fronts: Fronts, figure: str, where: Where) -> str:
    """Return the best networks by a figure; nothing where there is none."""
    best = fronts.best(figure)
    if not best:
        return ""
    first, *others = best
    text = _figures(first, figure, where)
    if len(best) == len(fronts.standings):
        return f"{case}: none of the {len(best)} networks can be told from the best, {text}."
    near = few([f"“{one.network}” ({percent(_height(getattr(one, figure)))} %)" for one in others])
    return f"{case}: {text}." + (f" Cannot be told from it: {near}." if others else "")


def _power_line(fronts: Fronts, where: Where) -> str:
    unknown = [one.network for one in fronts.standings if one.power is None]
    if not fronts.some_power:
        names = few([f"“{name}”" for name in unknown])
        return f"Power is no part of this: not known for {names}." if unknown else ""
    found, cheap = fronts.frugal()
    if not found:
        return ""
    first, *others = found
    against = "" if fronts.reference is None else f" against “{fronts.reference.network}”"
    point = f"a point of clean accuracy{against}"
    rule = "the least power at a loss of at most" if cheap else "on multipliers, all lose more than"
    rule = f"{rule} {point}{'' if cheap else ', this one least'}"
    worst = [kept(cell, where) for cell in (first.fault, first.attack) if cell is not None]
    parts = [f"{percent(_clean(first))} % clean", *worst]
    share = f"{percent(first.power or 0.0)} % of the power of exact multipliers"
    text = f"Where power matters: “{first.network}”, {share}; {', '.join(parts)} ({rule})."
    same = few([f"“{one.network}”" for one in others])
    return text + (f" Equal power: {same}." if others else "")


def _front_line(fronts: Fronts) -> str:
    words = {"clean": "clean accuracy", "fault": "worst fault", "attack": "worst attack"}
    names = [words.get(name, name) for name in fronts.figures]
    if len(names) < 2 or not fronts.front:
        return ""
    on = ", ".join(f"“{name}”" for name in fronts.front)
    text = f"On the Pareto front of {', '.join(names[:-1])} and {names[-1]}: {on}."
    if fronts.near:
        near = ", ".join(f"“{name}”" for name in fronts.near)
        text += f" Off it by measured values, but beaten by none beyond doubt: {near}."
    return text


def _figures(one: Standing, figure: str, where: Where) -> str:
    """Return a network with its accuracy by a figure, and clean."""
    text = f"“{one.network}”, {kept(getattr(one, figure), where)}"
    if figure == "clean" or one.clean is None:
        return text
    return f"{text}; {percent(one.clean.row.value)} % clean"


def kept(cell: MatrixCell, where: Where) -> str:
    """Return an accuracy with its interval, and under what."""
    ends = cell.row.interval
    told = ends is not None and not cell.alike
    interval = f" ({percent(ends.low)} to {percent(ends.high)})" if ends and told else ""
    under = "clean" if cell.column.threat == CLEAN else f"under {where(cell.column)}"
    return f"{percent(cell.row.value)} %{interval} {under}"


def _clean(one: Standing) -> float:
    return _height(one.clean)


def _height(cell: MatrixCell | None) -> float:
    return cell.row.value if cell is not None else 0.0
