"""What every page of a run says of it: what is missing, what was warned of, where it was made."""

from collections.abc import Sequence

from bitproof.report.html import Alert
from bitproof.report.page_table import PageTable, facts_table, few
from bitproof.report.run import Run
from bitproof.report.wording import count


def alerts(run: Run) -> list[Alert]:
    """Return what is missing in a run, and the warnings of its checks."""
    gaps = run.gaps()
    missing = [
        f"{count(gaps, 'measurement')} missing in networks that have results; "
        "the table shows “–” there."
    ]
    return _filled([Alert("Partial run", unfinished(run) + missing * bool(gaps)), _warned(run)])


def alerts_of_matrix(run: Run) -> list[Alert]:
    """Return the same, but for cells of the matrix: it says itself who lacks which, and why."""
    return _filled([Alert("Partial run", unfinished(run)), _warned(run)])


def unfinished(run: Run) -> list[str]:
    """Return what tells that a run has not come to its end."""
    found = []
    if not run.facts.finished:
        found.append("No finishing time is recorded: the run was still going, or was interrupted.")
    if run.missing:
        found.append(f"No results yet for {few(run.missing)}.")
    return found


def environment(run: Run) -> PageTable:
    """Return what the run was made of and on; missing facts say so."""
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
        **({"weights": facts.weights} if facts.weights else {}),
    }
    names = ("device", "engine", "threads", "started", "finished")
    versions = ("bitproof", "torch", "numpy", "python", "platform")
    return facts_table(named | {name: getattr(facts, name) for name in (*names, *versions)})


def _warned(run: Run) -> Alert:
    warnings = run.facts.warnings or ()
    return Alert(f"{count(len(warnings), 'warning')} from the checks of this run", warnings)


def _filled(found: Sequence[Alert]) -> list[Alert]:
    return [alert for alert in found if alert.lines]
