"""Rows of coverage as a table on the console, a few lines of sums, and a page of the docs."""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import mean, stdev

from coverage_measures import VERBS, Row

TOLERANCE = 0.02
"""Agreement that may be lost against torch's own quantization."""
STEPS = ("build", "quantized", *VERBS)


def outcome(row: Row) -> str:
    """Return "ok", or the first thing that went wrong."""
    failures = [f"{step}: {row[step]}" for step in STEPS if row.get(step, "ok") != "ok"]
    return failures[0] if failures else "ok"


def is_captured(row: Row) -> bool:
    """Tell whether there was a graph, even where something in it has no rule."""
    found = row.get("quantized", "build")
    return found == "ok" or not re.search(r"cannot (trace|capture|export)|TRACEBACK|build", found)


def reason(row: Row) -> str:
    """Return the first failure without names and numbers, so that equal reasons are equal."""
    first = outcome(row).split("; ")[0]
    first = re.sub(r"^quantized: TraceError: .*?(?=no rule|torch.fx cannot)", "quantized: ", first)
    first = re.sub(r" \(\S+\.py:\d+: .*", "", first)  # the line of the user's code
    first = re.sub(r"\b\d+(\.\d+)?(e[-+]\d+)?\b", "N", first)
    return first[:160]


def grouped(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Return the reasons of failures with the models that they stop, most frequent first."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        if outcome(row) != "ok":
            groups.setdefault(reason(row), []).append(row["key"])
    return sorted(groups.items(), key=lambda pair: -len(pair[1]))


def missing(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return the operations without a rule, with the number of models that need each."""
    pattern = re.compile(r"no rule to quantize (?:the operation|an?) '?(\w+)'?")
    counts = Counter(
        name for row in rows for name in set(pattern.findall(row.get("quantized", "")))
    )
    return counts.most_common()


def _number(row: Row, name: str, *, percent: bool) -> str:
    value = row.get(name)
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if percent else f"{value:.1f}"


def _cells(row: Row) -> list[str]:
    return [
        row["name"],
        row.get("captured_by", "-"),
        _number(row, "agreement", percent=True),
        _number(row, "rival_agreement", percent=True),
        _number(row, "db", percent=False),
        _number(row, "rival_db", percent=False),
        outcome(row),
    ]


HEADS = ["model", "by", "agree", "torch", "dB", "torch", "outcome"]


def table(rows: Sequence[Row]) -> str:
    """Return the table for the console."""
    lines = [HEADS, *map(_cells, rows)]
    numbers = [" ".join(f"{cell:>6}" for cell in cells[2:6]) for cells in lines]
    return "\n".join(
        f"{cells[0]:34} {cells[1]:6} {four}  {cells[6][:90]}"
        for cells, four in zip(lines, numbers, strict=True)
    )


def _clearly_below(row: Row) -> bool:
    """Tell whether torch's agreement is higher by more than the choice of samples explains."""
    pairs = list(zip(row["right"], row["rival_right"], strict=True))
    gaps = [theirs - ours for ours, theirs in pairs]
    return mean(gaps) - TOLERANCE > 2 * stdev(gaps) / len(gaps) ** 0.5


def facts(rows: Sequence[Row]) -> dict[str, str]:
    """Return the sums that the issue asks for, as text by name."""
    done = sum(outcome(row) == "ok" for row in rows)
    both = [row for row in rows if "agreement" in row and "rival_agreement" in row]
    gaps = sorted((row["agreement"] - row["rival_agreement"], row["key"]) for row in both)
    below = [row for row in both if row["agreement"] < row["rival_agreement"] - TOLERANCE]
    clearly = [row["key"] for row in below if _clearly_below(row)]
    return {
        "models": f"{len(rows)}",
        "captured": f"{sum(map(is_captured, rows))}",
        "quantized": f"{sum(row.get('quantized') == 'ok' for row in rows)}",
        "end to end": f"{done} ({100 * done / max(len(rows), 1):.1f} %)",
        "tracebacks": f"{sum('TRACEBACK' in outcome(row) for row in rows)}",
        "quantized by torch": f"{sum(row.get('rival') == 'ok' for row in rows)}",
        "more than 2 points below torch's": f"{len(below)} of {len(both)}",
        "of these, beyond chance (2 sigma, paired)": f"{len(clearly)}: {', '.join(clearly) or '-'}",
        "worst against torch": f"{100 * gaps[0][0]:+.1f} points, {gaps[0][1]}" if gaps else "-",
    }


def summary(rows: Sequence[Row]) -> str:
    """Return the sums, then the reasons of failures with the models that they stop."""
    lines = [f"{name:42} {value}" for name, value in facts(rows).items()]
    for why, names in grouped(rows):
        lines += ["", f"{len(names):3}  {why}", f"     {', '.join(names)}"]
    needed = ", ".join(f"{name} {count}" for name, count in missing(rows))
    return "\n".join(
        [*lines, "", f"operations without a rule, and models that need them: {needed}"]
    )


ABOUT = """# Supported networks

Public models as their authors wrote them, each taken through the whole of bitproof without a
change: captured, quantized to 8 bits, compared, corrupted (bit errors at 10⁻³), attacked (three
steps of PGD), injected with 20 faults, stored and loaded. Made by `benchmarks/coverage.py`, which
says how to repeat it; every number here is measured by it.

- Models come from timm, transformers and vit-pytorch (versions in
  `benchmarks/public_models/requirements.txt`); others are small networks that we wrote from the
  papers, in the manner of widely used public code. Small members, small inputs, 10 classes.
- Weights are random, as nothing is fetched. What authors start at a constant (norms, layer scales,
  the last norm of a branch) is drawn anew, batch norms get the statistics of 32 samples, and the
  last bias centers the outputs. Such networks are harder to quantize than trained ones, since their
  answers are close.
- Samples are smooth random images or signals in [0, 1], or token ids; 32 for calibration, 128
  for the test.
- *Agreement* is the share of answers that equal those of the float model, per cent; *dB* the
  signal-to-error ratio of the outputs. *torch* is torch's own int8 network (pt2e, x86 recipe, run
  without a compiler) on the same calibration samples; it keeps all but convolutions in two
  dimensions and linear layers in floats: residuals, attention, norms, recurrent layers and all of
  a network along one axis. Ours computes everything on integers. One of 128 samples is 0.8 points.
  Where torch's network lies far below 0 dB
  we do not know why; the one that we looked into (PreActResNet) is off before any rounding.
- The list (`--list`) holds more models than these: one without a row here has not been measured,
  and *torch* is `-` where torch's own network has not been.
- torchvision is not installed beside these packages; what they import of it is replaced by empty
  classes, which no model that is built here calls.
"""


def page(rows: Sequence[Row]) -> str:
    """Return the page of the docs."""
    lines = [ABOUT, "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts(rows).items()]
    lines += ["", "## What is refused, and why", ""]
    for why, names in grouped(rows):
        lines.append(f"- {len(names)}: {_escaped(why)}. {', '.join(names)}")
    families = Counter(row["family"] for row in rows)
    for family in families:
        here = [row for row in rows if row["family"] == family]
        done = sum(outcome(row) == "ok" for row in here)
        lines += ["", f"## {family}: {done} of {len(here)}", ""]
        lines += ["| model | captured by | agreement | torch | dB | torch | end to end |"]
        lines += ["|---|---|--:|--:|--:|--:|---|"]
        for row in here:
            cells = _cells(row)
            lines.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")[:200]
