"""The section on approximate multipliers: a table of all, four drawings, what they show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bitproof.report import wording
from bitproof.report.findings import Change, change, focus_level, main_threat
from bitproof.report.grid import ABSENT, Cell, accuracy_cell
from bitproof.report.headline import lowered
from bitproof.report.marks import PALETTE
from bitproof.report.multiplier_findings import multiplier_sentences
from bitproof.report.pareto import Approximation, approximations, area, clean_accuracy, front, power
from bitproof.report.run import Circuit, Multiplier, Run
from bitproof.report.scatter import INK, Spot, line_swatch, scatter_chart, spot_swatch
from bitproof.report.threats import condition, pretty_level, symbol, title
from bitproof.report.wording import percent
from bitproof.stats.results import Row

Condition = tuple[str, float]
FEWEST_SPOTS = 2
"""Networks that a drawing needs."""
UNITS = {"power": "mW", "area": "µm²"}
CIRCUITS: dict[Circuit, tuple[str, str]] = {
    "signed": ("signed", "signed circuit"),
    "unsigned": ("unsigned", "unsigned circuit"),
    "sign_bits": (
        "unsigned between sign bits",
        "unsigned circuit between sign bits (sign gates not in the cost)",
    ),
    "unknown": ("", "circuit of unknown kind"),
}
"""What rows and the legend call each kind of circuit."""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    variant: str
    sub: str
    """What the multiplier is, beyond its name."""
    on_front: bool
    cells: tuple[Cell, ...]
    """Cost and error figures, then clean accuracy."""
    change: Change | None
    """Of clean accuracy, against the baseline."""
    under: tuple[Cell, ...]
    """Accuracy under each condition."""


@dataclass(frozen=True)
class Section:
    """All that the page shows."""

    lines: tuple[Line, ...]
    conditions: tuple[tuple[str, str], ...]
    """Headers of the last columns."""
    drawings: tuple[tuple[str, Markup], ...]
    legend: tuple[tuple[Markup, str], ...]
    sentences: tuple[str, ...]
    sources: tuple[str, ...]
    uncosted: int
    """Multipliers without published power."""


def multiplier_section(run: Run) -> Section | None:
    """Return the section; None where no network is on a multiplier of `run.json`."""
    found = approximations(run)
    if not found:
        return None
    attack, faults = smallest_attack(run), _faults(run)
    focus = focus_level([level for _, level in faults])
    fault = next((each for each in faults if each[1] == focus), None)
    columns = [*([attack] if attack else []), *faults]
    best = front(found, power, clean_accuracy(run))
    used = {each.name: each.multiplier for each in found}
    drawings = _drawings(run, found, attack, fault)
    return Section(
        lines=(_baseline_line(run, columns), *(_line(run, each, columns, best) for each in found)),
        conditions=tuple(
            (title(threat), f"{symbol(threat)} = {pretty_level(threat, level)}")
            for threat, level in columns
        ),
        drawings=tuple(drawings),
        legend=tuple(_legend(found)) if drawings else (),
        sentences=tuple(multiplier_sentences(run, attack, fault)),
        sources=tuple(dict.fromkeys(each.source for each in used.values() if each.source)),
        uncosted=sum(each.power_mw is None for each in used.values()),
    )


def smallest_attack(run: Run) -> Condition | None:
    """Return the main attack at the smallest radius measured."""
    threat = main_threat(run, "attack")
    levels = [level for level in run.levels(threat) if level > 0] if threat else []
    return (threat, levels[0]) if threat and levels else None


def _faults(run: Run) -> list[Condition]:
    threat = main_threat(run, "fault")
    return [(threat, level) for level in run.levels(threat) if level > 0] if threat else []


def _baseline_line(run: Run, columns: Sequence[Condition]) -> Line:
    name = run.facts.baseline
    clean = accuracy_cell(run.clean(name))
    under = tuple(accuracy_cell(run.find(name, *column)) for column in columns)
    return Line(name, "exact baseline", False, (*(ABSENT,) * 5, clean), None, under)


def _line(
    run: Run, each: Approximation, columns: Sequence[Condition], best: Sequence[Approximation]
) -> Line:
    kind, _ = CIRCUITS[each.multiplier.circuit]
    label = each.multiplier.label if each.multiplier.label != each.name else None
    clean = run.clean(each.variant)
    return Line(
        each.variant,
        ", ".join(filter(None, [label, kind])),
        each in best,
        (*_figures(each.multiplier), accuracy_cell(clean)),
        change(run.clean(run.facts.baseline), clean),
        tuple(accuracy_cell(run.find(each.variant, *column)) for column in columns),
    )


def _figures(told: Multiplier) -> tuple[Cell, ...]:
    """Return power, area and delay, MED and NMED, MRED and EP, bias."""
    return (
        Cell(_number(told.power_mw)),
        _two(_number(told.area_um2), _number(told.delay_ns)),
        _two(_number(told.med), _per_cent(told.nmed)),
        _two(_per_cent(told.mred), _per_cent(told.ep)),
        Cell(_number(told.bias)),
    )


def _two(main: str, sub: str) -> Cell:
    return Cell(main, "" if sub == main == ABSENT.main else sub)


def _number(figure: float | None) -> str:
    """Return three digits that matter, never in powers of ten that a reader must count."""
    if figure is None:
        return ABSENT.main
    text = f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
    return text.replace("-", wording.MINUS)


def _per_cent(fraction: float | None) -> str:
    if fraction is None:
        return ABSENT.main
    return f"{100 * fraction:.1f} %" if fraction >= 0.1 else f"{100 * fraction:.2g} %"


def _drawings(
    run: Run, found: Sequence[Approximation], attack: Condition | None, fault: Condition | None
) -> list[tuple[str, Markup]]:
    clean: Condition = ("none", 0.0)
    plans = [(clean, power, "power"), (clean, area, "area")]
    plans += [(each, power, "power") for each in (attack, fault) if each is not None]
    drawn = []
    for wanted, cost, cost_name in plans:
        spots = _spots(run, found, wanted, cost)
        if len(spots) < FEWEST_SPOTS:
            continue
        what = (
            "Clean accuracy" if wanted == clean else f"Accuracy under {lowered(condition(*wanted))}"
        )
        base = _row(run, run.facts.baseline, wanted)
        drawing = scatter_chart(
            spots,
            label=f"{what} against {cost_name} of the multiplier; the table has the numbers",
            cost_title=f"{cost_name} of one multiplier, {UNITS[cost_name]}",
            reference=(f"{run.facts.baseline} (exact)", base.value) if base is not None else None,
        )
        drawn.append((f"{what} against {cost_name}", drawing))
    return drawn


def _spots(
    run: Run,
    found: Sequence[Approximation],
    wanted: Condition,
    cost: Callable[[Approximation], float | None],
) -> list[Spot]:
    colours = _colours(found)
    return [
        Spot(
            each.variant,
            amount,
            row.value,
            row.ci_low,
            row.ci_high,
            f"{amount:.3g} {'mW' if cost is power else 'µm²'}, {_told(row)}",
            each.multiplier.circuit,
            colours[each.exact],
            each.before,
        )
        for each in found
        if (amount := cost(each)) is not None
        and (row := _row(run, each.variant, wanted)) is not None
        and row.unit == "fraction"
    ]


def _row(run: Run, variant: str, wanted: Condition) -> Row | None:
    return run.clean(variant) if wanted[0] == "none" else run.find(variant, *wanted)


def _told(row: Row) -> str:
    if row.ci_low is None or row.ci_high is None:
        return f"{percent(row.value)} %"
    return f"{percent(row.value)} % ({percent(row.ci_low)} to {percent(row.ci_high)})"


def _colours(found: Sequence[Approximation]) -> dict[str, str]:
    """Return a colour for the networks on the same exact one; the most frequent is black."""
    names = list(dict.fromkeys(each.exact for each in found))
    names.sort(key=lambda name: -sum(each.exact == name for each in found))
    palette = (INK, *PALETTE)
    return {name: palette[i % len(palette)] for i, name in enumerate(names)}


def _legend(found: Sequence[Approximation]) -> list[tuple[Markup, str]]:
    """Return samples and words of what the drawings use."""
    used = {each.multiplier.circuit for each in found}
    kinds = [kind for kind in CIRCUITS if kind in used]
    told = [(spot_swatch(circuit=kind), CIRCUITS[kind][1]) for kind in kinds]
    told.append((spot_swatch(circuit=kinds[0], filled=True), "filled: on the Pareto front"))
    if any(each.later for each in found):
        ring = "ring: with stages after the multiplier, joined to the same network without"
        told.append((spot_swatch(circuit=kinds[0], ring=True), ring))
    colours = _colours(found)
    if len(colours) > 1:
        told += [
            (spot_swatch(circuit=kinds[0], filled=True, colour=colour), f"on “{name}”")
            for name, colour in colours.items()
        ]
    told.append((line_swatch(dash=""), "front: the most accuracy that this cost buys"))
    told.append((line_swatch(dash="6 4"), "exact baseline"))
    return told
