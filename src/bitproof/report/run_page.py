"""The report of a run directory as one page."""

import math
from pathlib import Path
from typing import Any

from bitproof.core.files import write_text
from bitproof.report import html, run_tables
from bitproof.report.checks import checks_line
from bitproof.report.correction import correction_table
from bitproof.report.corruption import corruption_table
from bitproof.report.energy import energy_table
from bitproof.report.fidelity import fidelity_table
from bitproof.report.findings import focus, headline, main_threats
from bitproof.report.glossary import terms
from bitproof.report.html import REPORT
from bitproof.report.matrix_page import rewrite_matrix
from bitproof.report.multipliers import (
    approximations,
    commonest_exact,
    cost_table,
    rank_table,
    shown,
)
from bitproof.report.page_table import few
from bitproof.report.records import layer_bars, stage_records
from bitproof.report.run import Run, read_run
from bitproof.report.run_facts import alerts, environment
from bitproof.report.scaling import correlation_lines, scaling_table
from bitproof.report.weights import weight_table
from bitproof.report.wording import ABSENT, count, seconds


def write_report(run_dir: Path, *, interactive: bool = False) -> Path:
    """Write `report.html` into a run directory and return its path.

    A `matrix.html` that is there already is written anew, too.

    Args:
        run_dir: the directory.
        interactive: draw figures in the browser, by a program inside the page.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
        StorageError: the disk is full, or the place cannot be written.
    """
    path, run = run_dir / REPORT, read_run(run_dir)
    write_text(path, render(run, interactive=interactive))
    rewrite_matrix(run, run_dir, interactive=interactive)
    return path


def render(run: Run, *, interactive: bool = False) -> str:
    """Return the page; equal runs give equal pages."""
    from bitproof.report.drawing import run_figures  # noqa: PLC0415 - slow to import

    return html.render("run.html.j2", _context(run), run_figures(run), interactive=interactive)


def _context(run: Run) -> dict[str, Any]:
    facts, names = run.facts, shown(run)
    sentence, tiles = headline(run)
    records = stage_records(run.records, run.variants)
    size = facts.model.get("parameters")
    model = str(facts.model.get("kind") or f"model {ABSENT}")
    spent = math.fsum(each for each in facts.durations.values() if math.isfinite(each))
    corruption = corruption_table(run, names)
    costs = _multipliers(run)
    correction = correction_table(run, names)
    return {
        "brand": "robustness report",
        "heading": facts.title or facts.recipe_name or "Robustness report",
        "subtitle": [
            f"{model}, {count(size, 'parameter')}" if isinstance(size, int) else model,
            f"data: {facts.data.get('name') or ABSENT}",
            f"device: {facts.device or ABSENT}",
            f"engine: {facts.engine or ABSENT}",
            f"computing: {seconds(spent) if facts.durations else ABSENT}",
            f"finished: {facts.finished[:10] if facts.finished else ABSENT}",
        ],
        "alerts": alerts(run),
        "headline": sentence,
        "aside": "In brackets: 95 % intervals." if tiles else "",
        "tiles": tiles,
        "checks": checks_line(run),
        "run": run,
        "facts": facts,
        "left_out": [name for name in run.variants if name not in names],
        "networks": run_tables.network_table(run, names),
        "stages": run_tables.stage_table(run),
        "accuracies": run_tables.accuracy_table(run, names),
        "has_auc": any(row.metric == "auc_fr" for row in run.rows),
        "has_focus": any(focus(run, threat) for threat in main_threats(run)),
        "asymmetry": _asks_for_asymmetry(run),
        "correction": correction,
        "energy": energy_table(run),
        **costs,
        "matrix": run_tables.matrix_table(run, names),
        "chips": run_tables.chip_table(run, names),
        "corruption": corruption,
        "fidelity": fidelity_table(run),
        "weights": weight_table(run),
        "scaling": scaling_table(run),
        "correlations": correlation_lines(run),
        "rankings": [
            (record, layer_bars(record.critical), few(record.variants))
            for record in records
            if record.critical
        ],
        "adjusted": [run_tables.adjustment_table(each) for each in records if each.alpha],
        "training": run_tables.training_table(records),
        "durations": run_tables.duration_table(run),
        "environment": environment(run),
        "glossary": terms(
            [
                *("baseline", "int8", "ber", "chip"),
                *("epsilon", "pgd", "masking", "point", "interval", "paired", "auc", "front"),
                *(("sdc", "sdc-1") if corruption else ()),
                *(("ecc",) if correction else ()),
                *(("med", "mred", "ep") if costs["costs"] else ()),
                "sqnr",
            ]
        ),
    }


def _asks_for_asymmetry(run: Run) -> bool:
    """Return whether a run sets hardening against faults and attacks side by side."""
    hardened = [v for v in run.variants if run.is_hardened(v) and not run.is_approximate(v)]
    return len(main_threats(run)) > 1 and len(hardened) > 1


def _multipliers(run: Run) -> dict[str, Any]:
    found = approximations(run)
    used = {each.name: each.multiplier for each in found}.values()
    exact = commonest_exact(run, found)
    return {
        "costs": cost_table(run, found) if found else None,
        "ranks": rank_table(run, found, exact),
        "exact": exact,
        "sources": list(dict.fromkeys(each.source for each in used if each.source)),
        "uncosted": sum(each.power_mw is None for each in used),
    }
