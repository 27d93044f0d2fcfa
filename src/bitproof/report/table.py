"""The result table for the console: a line for each variant, in plain characters."""

from pathlib import Path

from bitproof.report.findings import focus_level
from bitproof.report.run import Run, read_run
from bitproof.report.threats import level_text
from bitproof.stats.results import Row

SHORT = {"random_flips": "BER", "linf_pgd": "eps"}


def result_table(run_dir: Path) -> list[list[str]]:
    """Return header and rows: accuracies in per cent with half the width of their interval.

    Of each threat it takes the lowest, the middle and the highest level; the report has all.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
    """
    run = read_run(run_dir)
    columns = [(threat, level) for threat in run.threats for level in _few(run.levels(threat))]
    header = ["variant", "clean"]
    header += [
        f"{SHORT.get(threat, threat)} {level_text(threat, level)}" for threat, level in columns
    ]
    return [header, *([name, *_cells(run, name, columns)] for name in run.variants)]


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
