"""One offline HTML file from a run directory: no script, no font, no request.

Every text that comes from files is escaped by the template, and a content security policy in the
page forbids scripts and requests once more.
"""

from pathlib import Path
from typing import Any

from bitproof.core.files import write_text
from bitproof.report import grid, headline, threats, wording
from bitproof.report.curves import Line, Point, line_chart
from bitproof.report.environment import make_environment
from bitproof.report.findings import asymmetry, focus_level, main_threat, matrix
from bitproof.report.marks import Style, bar, sparkline, styles, swatch
from bitproof.report.multiplier_section import multiplier_section
from bitproof.report.pareto import shown
from bitproof.report.records import layer_bars, stage_records
from bitproof.report.run import FLOAT, Run, parts, read_run
from bitproof.stats.results import Row

REPORT = "report.html"
BARS_SHOWN = 20
DURATIONS_SHOWN = 8
NAMES_SHOWN = 8
"""Variants named in a row of text; the others are counted."""
STAGE_WORDS = {
    "desensitize": "training against small changes of the input",
    "fault_aware": "training with bit flips in the most sensitive layers",
    "adjust": "choice of clip ranges while quantizing, without training",
    "approximate": "products from tables of a multiplier",
    "approximation_aware": "fine-tuning through the multiplier",
}


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run directory and return its path.

    Raises:
        DataError: `run.json` or `results.csv` is missing, or a file is malformed.
        StorageError: the disk is full, or the place cannot be written.
    """
    path = run_dir / REPORT
    write_text(path, render(read_run(run_dir)))
    return path


def render(run: Run) -> str:
    """Return the page; equal runs give equal pages."""
    environment = make_environment(
        percent=wording.percent, points=wording.points, seconds=wording.seconds
    )
    page = environment.get_template("report.html.j2").render(_context(run))
    return page.encode("utf-8", errors="replace").decode("utf-8")  # lone surrogates of JSON


def _context(run: Run) -> dict[str, Any]:
    names = shown(run)
    looks = styles(names, reference=run.facts.baseline, plain=FLOAT, strong=run.full)
    by_name = dict(zip(names, looks, strict=True))
    table = matrix(run, names)
    changes = [each for line in table.lines for each in line.changes if each is not None]
    size = run.facts.model.get("parameters")
    durations = sorted(run.facts.durations.items(), key=lambda item: -item[1])
    return {
        "run": run,
        "facts": run.facts,
        "heading": run.facts.title or run.facts.recipe_name or "Robustness report",
        "headline": headline.headline(run),
        "verdict": headline.verdict,
        "from_to": headline.from_to,
        "shown": names,
        "left_out": [name for name in run.variants if name not in names],
        "approximate": sum(run.multiplier_of(name) is not None for name in run.variants),
        "multipliers": multiplier_section(run),
        "names_shown": NAMES_SHOWN,
        "legend": [(name, swatch(by_name[name]), describe(run, name)) for name in names],
        "stages": [
            (name, str(fields.get("kind", "")), {k: v for k, v in fields.items() if k != "kind"})
            for name, fields in run.facts.stages.items()
            if name not in run.facts.multipliers
        ],
        "stage_words": STAGE_WORDS,
        "groups": grid.accuracy_groups(run, names),
        "has_auc": any(row.metric == "auc_fr" for row in run.rows),
        "charts": [(threats.title(t), chart(run, t, by_name)) for t in run.threats],
        "matrix": table,
        "conditions": [
            (threats.title(t), f"{threats.symbol(t)} = {threats.pretty_level(t, level)}")
            for t, level in table.columns
        ],
        "heat_scale": max([0.1, *(abs(each.value) for each in changes)]),
        "asymmetry": asymmetry(run),
        "threat_title": threats.title,
        "chips": grid.chip_groups(run, names),
        "records": stage_records(run.records, run.variants),
        "layer_bars": layer_bars,
        "bars_shown": BARS_SHOWN,
        "bar": bar,
        "sparkline": sparkline,
        "durations": durations[:DURATIONS_SHOWN],
        "durations_left": len(durations) - DURATIONS_SHOWN,
        "duration": sum(run.facts.durations.values()),
        "environment": environment_facts(run),
        "focus": {
            kind: threats.condition(threat, level)
            for kind in ("fault", "attack")
            if (threat := main_threat(run, kind))
            and (level := focus_level(run.levels(threat))) is not None
        },
        "parameters": wording.count(size, "parameter") if isinstance(size, int) else "",
        "absent": wording.ABSENT,
        "gaps": run.gaps(),
    }


def chart(run: Run, threat: str, looks: dict[str, Style]) -> str:
    """Draw the accuracies of the variants in `looks`, the full pipeline on top."""
    is_fault = threats.family(threat) == "fault"
    levels = [level for level in run.levels(threat) if level > 0]
    logarithmic = bool(levels) and (is_fault or levels[-1] >= 50 * levels[0])
    order = sorted(looks, key=lambda name: (name == run.full, name == run.facts.baseline))
    lines = []
    for name in order:
        rows = [run.find(name, threat, level) for level in run.levels(threat)]
        measured = [row for row in rows if row is not None]
        clean = run.clean(name)
        if not measured:
            continue
        if clean is not None and measured[0].level != 0:
            measured.insert(0, clean)
        points = tuple(_point(row, threat) for row in measured)
        lines.append(Line(name, looks[name], points))
    return line_chart(
        lines,
        label=f"Accuracy of each network under {threats.title(threat)}; the table has the numbers",
        level_title="bit error rate (BER)"
        if is_fault
        else f"{threats.symbol(threat)} of the threat",
        tick_text=lambda level: threats.pretty_level(threat, level),
        logarithmic=logarithmic,
    )


def describe(run: Run, variant: str) -> str:
    """Return what a variant is, in words."""
    if variant == FLOAT:
        return "trained network in floating point, before quantization"
    if variant == run.facts.baseline:
        return "the same network on integers, without hardening: the baseline"
    kinds = [_kind(run, part) for part in parts(variant)]
    if len(kinds) == 1 and variant in run.facts.multipliers:
        return f"quantized without hardening, with {kinds[0]}"
    return "quantized after " + ", then ".join(kinds)


def _kind(run: Run, part: str) -> str:
    """Return the kind of a stage, or which products a multiplier makes."""
    if part in run.facts.multipliers:
        told = run.facts.multipliers[part]
        cost = "" if told.power_mw is None else f" ({told.power_mw:.3g} mW)"
        return f"products of {told.label or part}{cost}"
    return str(run.facts.stages.get(part, {}).get("kind", part))


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
        "device": facts.device,
        "threads": facts.threads,
        "started": facts.started,
        "finished": facts.finished,
        "bitproof": facts.bitproof,
        "torch": facts.torch,
        "numpy": facts.numpy,
        "python": facts.python,
        "platform": facts.platform,
    }
    return [(k, wording.ABSENT if v is None or v == "" else str(v)) for k, v in named.items()]


def _point(row: Row, threat: str) -> Point:
    level = row.level or 0.0
    note = f"{wording.percent(row.value)} %"
    if row.ci_low is not None and row.ci_high is not None:
        note += f" ({wording.percent(row.ci_low)} to {wording.percent(row.ci_high)})"
    where = "clean" if row.threat == "none" else threats.condition(threat, level)
    return Point(level, row.value, row.ci_low, row.ci_high, f"{where}: {note}")
