"""Ours against theirs: what a paper states beside our best cell of that kind."""

from collections.abc import Iterable

from bitproof.reproduce.asymmetry import gain_text
from bitproof.reproduce.grid import label_of
from bitproof.reproduce.result import CellResult
from bitproof.reproduce.tables import Table


def against_theirs(table: Table, results: Iterable[CellResult]) -> list[str]:
    """Return one line for each number that the paper of a table states."""
    results = list(results)
    lines = []
    for number in table.published:
        theirs = f"{number.about}: theirs {100 * number.value:+.2f} points [{number.trust}]"
        ours = [r for r in results if number.fits(r.variant, r.threat, r.metric)]
        best = max(ours, key=lambda result: result.value, default=None)
        text = _best_text(best) if best else "not measured"
        if best and not number.covers(best.network, best.dataset):
            text += ", which is none of the paper's"
        lines.append(f"{theirs}, ours {text}")
    return lines


def _best_text(best: CellResult) -> str:
    level = label_of(best.threat).level_text(best.level or 0.0)
    job = f"{best.network} on {best.dataset}"
    return f"{gain_text(best)} ({job}, {best.variant}, {best.threat} at {level})"
