"""The result table for the console: a line for each variant, in plain characters."""

from pathlib import Path

from bitproof.report.findings import focus_level, main_threat
from bitproof.report.multiplier_section import smallest_attack
from bitproof.report.pareto import approximations
from bitproof.report.run import Multiplier, Run, read_run
from bitproof.report.threats import level_text
from bitproof.stats.results import Row

SHORT = {"random_flips": "BER", "linf_pgd": "eps"}


def result_table(run_dir: Path) -> list[list[str]]:
    """Return header and rows: accuracies in per cent with half the width of their interval.

    Of each threat it takes the lowest, the middle and the highest level; the report has all. Where
    networks are on approximate multipliers, names are long and rows many: they stand last by rising
    power, which has a column, and there is one level of the main fault and of the main attack.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    run = read_run(run_dir)
    found = {each.variant: each.multiplier for each in approximations(run)}
    columns = _main_levels(run) if found else _all_threats(run)
    header = ["variant", *(["mW"] if found else []), "clean"]
    header += [
        f"{SHORT.get(threat, threat)} {level_text(threat, level)}" for threat, level in columns
    ]
    names = [*(name for name in run.variants if name not in found), *found]
    powers = {name: [_power(found.get(name))] if found else [] for name in names}
    return [header, *([name, *powers[name], *_cells(run, name, columns)] for name in names)]


def _all_threats(run: Run) -> list[tuple[str, float]]:
    return [(threat, level) for threat in run.threats for level in _few(run.levels(threat))]


def _main_levels(run: Run) -> list[tuple[str, float]]:
    """Return the conditions that the drawings of multipliers have."""
    threat = main_threat(run, "fault")
    level = focus_level(run.levels(threat)) if threat else None
    faults = [(threat, level)] if threat and level is not None else []
    attack = smallest_attack(run)
    return [*faults, *([attack] if attack else [])]


def _power(multiplier: Multiplier | None) -> str:
    watts = multiplier.power_mw if multiplier else None
    return "-" if watts is None else f"{watts:.3g}"


def _cells(run: Run, variant: str, columns: list[tuple[str, float]]) -> list[str]:
    rows = [run.clean(variant), *(run.find(variant, *column) for column in columns)]
    return [_cell(row) for row in rows]


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
