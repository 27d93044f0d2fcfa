"""What each stage does to the resilience that the other one is for.

Model:  stage 2 (faults) is said to raise attack resilience as well, stage 1 (attacks) not to
        raise fault resilience. A gain counts where its 95 % interval leaves zero out.
Source: RESQ, arXiv 2603.15413 (asymmetry); METHODS A.3 (matrix).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from bitproof.reproduce.jobs import Job
from bitproof.reproduce.result import CellResult
from bitproof.reproduce.sheets import EMPTY, Sheet, TextTable, gain_text, value_text

Verdict = Literal["yes", "no", "undecided", "not measured"]
CLAIMS = (("s2", "AR", "s2 alone raises AR"), ("s1", "FR", "s1 alone raises FR"))
"""Variant, column and words; the paper says yes to the first, and no to the second."""
COLUMNS = ("CA", "AR", "FR")
"""Clean accuracy, attack and fault resilience."""


def asymmetry_sheet(title: str, job: Job, results: Sequence[CellResult]) -> list[Sheet]:
    """Return the matrix of a job in per cent, with a line for each claim; nothing without one."""
    rows = []
    for variant in job.table.matrix:
        if variant in job.recipe.variants:
            found = (_find(results, variant, column, job, "acc") for column in COLUMNS)
            rows.append((variant, *(value_text(one) if one else EMPTY for one in found)))
    if not rows or not results:
        return []
    lines = tuple(claims(results, job))
    return [Sheet(title, TextTable(("variant", *COLUMNS), tuple(rows)), lines)]


def claims(results: Sequence[CellResult], job: Job) -> list[str]:
    """Return one line for each claim: yes, no or undecided, with the gain."""
    lines = []
    for variant, column, words in CLAIMS:
        found = _find(results, variant, column, job, "gain")
        lines.append(f"{words}: {verdict(found)}" + (f" ({gain_text(found)})" if found else ""))
    return lines


def verdict(gain: CellResult | None) -> Verdict:
    """Return whether a gain is above zero, by its interval; `no` says that it is below."""
    if gain is None:
        return "not measured"
    if gain.ci_low > 0:
        return "yes"
    return "no" if gain.ci_high < 0 else "undecided"


def tally_of_claims(jobs: Iterable[tuple[Sequence[CellResult], Job]]) -> list[str]:
    """Return for each claim in how many jobs it holds, fails, or is open."""
    measured = list(jobs)
    lines = []
    for variant, column, words in CLAIMS:
        found = [verdict(_find(results, variant, column, job, "gain")) for results, job in measured]
        counts = ", ".join(f"{found.count(v)} {v}" for v in ("yes", "no", "undecided"))
        lines.append(f"{words}, over {len(found) - found.count('not measured')} measured: {counts}")
    return lines


def _find(
    results: Sequence[CellResult], variant: str, column: str, job: Job, metric: str
) -> CellResult | None:
    """Return the cell that stands in the matrix."""
    family, level = {
        "CA": ("none", 0.0),
        "AR": ("input_attack", job.plan.gain_epsilon),
        "FR": ("memory_fault", job.plan.gain_ber),
    }[column]
    if level is None:
        return None
    threats = [title for title, label in job.labels().items() if label.family == family]
    for result in results:
        same = (result.variant, result.metric) == (variant, metric) and result.threat in threats
        if same and result.level is not None and math.isclose(result.level, level, rel_tol=1e-6):
            return result
    return None
