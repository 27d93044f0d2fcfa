"""What codes over stored words did: words mended and not, accuracy if the system stops or not."""

from collections.abc import Sequence

from bitproof.report.page_table import PageCell, PageTable, accuracy_text, make_table
from bitproof.report.run import Run
from bitproof.report.wording import figure
from bitproof.stats.results import Row

STOPPED = "acc_stop"
"""Metric of accuracy where a word found beyond repair means no answer."""
WORDS = ("words_corrected", "words_detected", "words_silent")
"""Metrics of code words of a chip: mended, found beyond repair, wrong without a sign."""
HEAD = (
    *("level", "accuracy, %\ncarries on", "accuracy, %\nstops", "words\ncorrected"),
    *("words found,\nnot corrected", "words wrong\nwithout a sign"),
)


def correction_table(run: Run, names: Sequence[str]) -> PageTable | None:
    """Return what codes did in some networks; None where no threat counted it."""
    rows: list[list[PageCell | str]] = []
    for threat in run.threats:
        for name in names:
            levels = [one for one in run.levels(threat, STOPPED) if run.find(name, threat, one)]
            found = [one for one in levels if run.find(name, threat, one, metric=STOPPED)]
            if found:
                rows.append([PageCell(f"{name}\n{run.label(threat).title}", "group")])
            for level in found:
                words = [_mean(run.find(name, threat, level, metric=metric)) for metric in WORDS]
                accuracies = [
                    accuracy_text(run.find(name, threat, level, metric=metric))
                    for metric in ("acc", STOPPED)
                ]
                rows.append([run.label(threat).pretty_level(level), *accuracies, *words])
    return make_table(HEAD, rows, look="wide") if rows else None


def _mean(row: Row | None) -> str:
    return figure(None if row is None else row.value)
