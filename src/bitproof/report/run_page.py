"""The report of a run directory as one page."""

from pathlib import Path
from typing import Any

from bitproof.core.files import write_text
from bitproof.report import html, wording
from bitproof.report.findings import (
    change,
    focus,
    from_to,
    headline,
    main_attack,
    main_fault,
    matrix,
)
from bitproof.report.grid import accuracy_cell, accuracy_groups, chip_groups
from bitproof.report.html import REPORT, facts_text
from bitproof.report.multipliers import CIRCUITS, multiplier_section
from bitproof.report.pareto import shown
from bitproof.report.records import layer_bars, stage_records
from bitproof.report.run import FLOAT, Run, parts, read_run

DURATIONS_SHOWN = 8
NAMES_SHOWN = 8
"""Variants named in a row of text; the others are counted."""


def write_report(run_dir: Path, *, interactive: bool = False) -> Path:
    """Write `report.html` into a run directory and return its path.

    Args:
        run_dir: the directory.
        interactive: draw figures in the browser, by a program inside the page.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
        StorageError: the disk is full, or the place cannot be written.
    """
    path = run_dir / REPORT
    write_text(path, render(read_run(run_dir), interactive=interactive))
    return path


def render(run: Run, *, interactive: bool = False) -> str:
    """Return the page; equal runs give equal pages."""
    from bitproof.report.drawing import run_figures  # noqa: PLC0415 - slow to import

    return html.render("run.html.j2", _context(run), run_figures(run), interactive=interactive)


def _context(run: Run) -> dict[str, Any]:
    names = shown(run)
    size = run.facts.model.get("parameters")
    durations = sorted(run.facts.durations.items(), key=lambda item: -item[1])
    mains = (focus(run, main_fault(run)), focus(run, main_attack(run)))
    return {
        "run": run,
        "facts": run.facts,
        "heading": run.facts.title or run.facts.recipe_name or "Robustness report",
        "headline": headline(run),
        "from_to": from_to,
        "shown": names,
        "left_out": [name for name in run.variants if name not in names],
        "multipliers": multiplier_section(run),
        "circuits": CIRCUITS,
        "accuracy_cell": accuracy_cell,
        "change_of": change,
        "names_shown": NAMES_SHOWN,
        "networks": [(name, describe(run, name)) for name in names],
        "stages": [
            (name, str(fields.get("kind", "")), {k: v for k, v in fields.items() if k != "kind"})
            for name, fields in run.facts.stages.items()
            if name not in run.facts.multipliers
        ],
        "groups": accuracy_groups(run, names),
        "has_auc": any(row.metric == "auc_fr" for row in run.rows),
        "has_focus": any(mains),
        "matrix": matrix(run, names),
        "chips": chip_groups(run, names),
        "records": stage_records(run.records, run.variants),
        "layer_bars": layer_bars,
        "durations": durations[:DURATIONS_SHOWN],
        "durations_left": len(durations) - DURATIONS_SHOWN,
        "duration": sum(run.facts.durations.values()),
        "environment": environment_facts(run),
        "parameters": wording.count(size, "parameter") if isinstance(size, int) else "",
        "gaps": run.gaps(),
    }


def describe(run: Run, variant: str) -> str:
    """Return what a variant is: the kinds of its stages, and whose products it has."""
    if variant == FLOAT:
        return "floating point, before quantization"
    if variant == run.facts.baseline:
        return "quantized without hardening: the baseline"
    return ", ".join(_kind(run, part) for part in parts(variant))


def _kind(run: Run, part: str) -> str:
    if part not in run.facts.multipliers:
        return str(run.facts.stages.get(part, {}).get("kind", part))
    multiplier = run.facts.multipliers[part]
    cost = "" if multiplier.power_mw is None else f" ({multiplier.power_mw:.3g} mW)"
    return f"products of {multiplier.label or part}{cost}"


def environment_facts(run: Run) -> list[tuple[str, str]]:
    """Return what the run was made of and on, name by name; missing facts say so."""
    facts = run.facts
    named = {
        "recipe": facts.recipe_name,
        "recipe digest (SHA-256)": facts.digest,
        "data": facts.data.get("name"),
        "data digest": facts.data.get("digest"),
        "training images": facts.data.get("n_train"),
        "test images": facts.data.get("n_test"),
        "model": facts.model.get("kind"),
        "parameters": facts.model.get("parameters"),
    }
    names = ("device", "threads", "started", "finished")
    versions = ("bitproof", "torch", "numpy", "python", "platform")
    return facts_text(named | {name: getattr(facts, name) for name in (*names, *versions)})
