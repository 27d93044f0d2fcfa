"""The result table for the console: a line for each variant, in plain characters."""

from pathlib import Path

from bitproof.report.findings import Condition, focus_level, main_attack, main_fault
from bitproof.report.multipliers import conditions
from bitproof.report.pareto import approximations
from bitproof.report.run import Run, read_run
from bitproof.stats.results import Row

PLAIN = {"ε": "eps"}
"""Symbols that some terminals lack."""


def result_table(run_dir: Path) -> list[list[str]]:
    """Return header and rows: accuracies in per cent with half the width of their interval.

    Of each threat it takes the lowest, the middle and the highest level; the report has all. Where
    networks are on approximate multipliers, names are long and rows many: they stand last by rising
    power, which has a column, and there is one level of the main fault and of the main attack.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    run = read_run(run_dir)
    found = {each.variant: each.multiplier.power_mw for each in approximations(run)}
    attack, fault = conditions(run)
    columns = [each for each in (fault, attack) if each] if found else _all_threats(run)
    header = ["variant", *(["mW"] if found else []), "clean"]
    header += [_title(run, *column) for column in columns]
    table = [header]
    for name in [*(name for name in run.variants if name not in found), *found]:
        watts = found.get(name)
        power = ["-" if watts is None else f"{watts:.3g}"] if found else []
        rows = [run.clean(name), *(run.find(name, *column) for column in columns)]
        table.append([name, *power, *(_cell(row) for row in rows)])
    return table


def _all_threats(run: Run) -> list[Condition]:
    return [(threat, level) for threat in run.threats for level in _few(run.levels(threat))]


def _title(run: Run, threat: str, level: float) -> str:
    """Return the head of a column: of the main threats, what their level is called."""
    label = run.label(threat)
    main = threat in {main_fault(run), main_attack(run)}
    name = PLAIN.get(label.symbol, label.symbol) if main else threat
    return f"{name} {label.level_text(level)}"


def _few(levels: list[float]) -> list[float]:
    positive = [level for level in levels if level > 0]
    middle = focus_level(positive)
    return sorted({positive[0], middle, positive[-1]}) if middle is not None else []


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    value = f"{100 * row.value:.1f}"
    if row.ci_low is None or row.ci_high is None:
        return value
    return f"{value} ±{50 * (row.ci_high - row.ci_low):.1f}"
