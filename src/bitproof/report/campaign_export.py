"""The results of a campaign as files: tidy CSV for programs, LaTeX for papers.

In `results.csv`, a row without layer or bit sums over them. Beside the outcomes of the campaign,
totals have the rows `acc`, `acc_std`, `acc_min` and `rerr`, and those of the task, such as `miou`;
`fit` stands wherever it is known (failures in 10^9 hours; the rest are fractions). Cells that were
not tried have no value. Kinds of fault that hit several places at once have totals alone.
`ranking.csv` has layers, bits and bits of layers by harm, with the ranks that they may have.
`elements.csv`, for faults in arrays, has the processing elements, each over all of its registers.
"""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from bitproof.core.files import write_text
from bitproof.report.campaign_summary import (
    SUMMARY,
    CampaignSummary,
    Slice,
    TrialRates,
    read_summary,
    slices,
)
from bitproof.report.ranking import ranking_csv
from bitproof.report.wording import confidence_text
from bitproof.stats.intervals import Interval

COLUMNS = (
    *("group", "site", "layer", "bit", "outcome", "value"),
    *("ci_low", "ci_high", "trials", "images", "population"),
)
ELEMENT_COLUMNS = (
    *("group", "row", "column", "outcome", "value", "ci_low", "ci_high", "trials", "images"),
)
RESULTS, LATEX, ELEMENTS = "results.csv", "table.tex", "elements.csv"
RANKING = "ranking.csv"
LATEX_ESCAPES = {
    **{char: f"\\{char}" for char in "{}$&#%_"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "[": "{[}",  # at the start of a row, it would be an argument of the line break before
    "*": "{*}",
    "·": r"$\cdot$",
    "–": "--",
    "×": r"$\times$",
}


def write_campaign_tables(folder: Path) -> list[Path]:
    """Write `results.csv` and `table.tex` into a campaign directory; equal input, equal bytes.

    Where layers or bits can be ranked, `ranking.csv` is written as well, and where faults lay in an
    array, `elements.csv`.

    Returns:
        The paths of all.

    Raises:
        DataError: `summary.json` is missing or damaged.
        StorageError: the disk is full, or the place cannot be written.
    """
    summary = read_summary(folder / SUMMARY)
    written = {folder / RESULTS: results_csv(summary), folder / LATEX: results_latex(summary)}
    if summary.rankings:
        written[folder / RANKING] = ranking_csv(summary)
    if summary.elements:
        written[folder / ELEMENTS] = elements_csv(summary)
    for path, text in written.items():
        write_text(path, text)
    return list(written)


def results_csv(summary: CampaignSummary) -> str:
    """Return the tidy table: one rate a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for total in summary.totals:
        writer.writerows(_rows(total, summary))
        extra = {"acc": total.acc, "acc_std": total.acc_std, "acc_min": total.acc_min}
        for name, number in {**extra, "rerr": total.rerr, **total.metrics}.items():
            if number is not None and total.trials:
                writer.writerow(_cells(total, name, number))
    for part in slices(summary):
        for row in [*part.layers, *part.bits, *part.cells]:
            writer.writerows(_rows(row, summary))
    return text.getvalue()


def elements_csv(summary: CampaignSummary) -> str:
    """Return the rates of each processing element of an array, one a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ELEMENT_COLUMNS)
    for one in summary.elements:
        for outcome in summary.outcomes:
            if outcome in one.rates:
                low, value, high = one.rates[outcome]
                place = (summary.label(one.group), one.row, one.column, outcome)
                writer.writerow([*place, value, low, high, one.trials, one.images])
    return text.getvalue()


def results_latex(summary: CampaignSummary) -> str:
    """Return a tabular for each kind of fault at each kind of site; it needs `booktabs`."""
    parts = [part for part in slices(summary) if part.layer_names]
    confidence = confidence_text(summary.campaign.confidence).replace("%", r"\%")
    title = latex(summary.campaign.title or "campaign")
    head = [
        f"% {title}: SDC-1 in per cent with its interval ({confidence}), by layer and bit",
        r"% \usepackage{booktabs}",
        *([] if parts else ["% no layers in this campaign"]),
    ]
    return "\n".join([*head, *(line for part in parts for line in _tabular(part))]) + "\n"


def latex(text: str) -> str:
    r"""Return text as LaTeX prints it; what its default fonts may lack becomes a question mark.

    Example:
        >>> print(latex("layer_1 & 50%"))
        layer\_1 \& 50\%
    """
    return "".join(
        LATEX_ESCAPES.get(char, char if " " <= char <= "~" else "?")
        for char in " ".join(text.split())
    )


def _rows(row: TrialRates, summary: CampaignSummary) -> Iterator[tuple[str, ...]]:
    for outcome in summary.outcomes:
        if row.rate(outcome) is not None or not row.trials:
            yield _cells(row, outcome, row.rate(outcome))
    if row.trials and row.fit is not None:
        yield _cells(row, "fit", row.fit)


def _cells(row: TrialRates, outcome: str, number: Interval | float | None) -> tuple[str, ...]:
    """Return one line: a rate with its interval, a number without one, or nothing yet."""
    if isinstance(number, Interval):
        low, value, high = (_text(each) for each in number)
    else:
        low, value, high = "", "" if number is None else _text(number), ""
    bit, population = ("" if each is None else str(each) for each in (row.bit, row.population))
    place = (str(row.group), row.site, row.layer, bit)
    return (*place, outcome, value, low, high, str(row.trials), str(row.images), population)


def _text(number: float) -> str:
    return f"{number + 0.0:.10g}"  # + 0.0 turns -0.0 into 0.0


def _tabular(part: Slice) -> Iterator[str]:
    yield f"% {latex(part.title)}"
    yield rf"\begin{{tabular}}{{l{'r' * (len(part.bit_numbers) + 1)}}}"
    yield r"\toprule"
    yield " & ".join(["layer", *map(str, part.bit_numbers), "all"]) + r" \\"
    yield r"\midrule"
    *layers, whole = part.lines(part.bit_numbers)
    for name, rows in layers:
        yield " & ".join([latex(name), *map(_latex_cell, rows)]) + r" \\"
    yield r"\midrule"
    yield " & ".join(["all", *map(_latex_cell, whole[1])]) + r" \\"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _latex_cell(row: TrialRates | None) -> str:
    """Return a rate with the ways to the ends of its interval above and below."""
    rate = row.rate() if row else None
    if rate is None:
        return "--"
    low, value, high = (100 * each for each in rate)
    narrow = min((side for side in (value - low, high - value) if side > 0), default=1.0)
    decimals = min(max(math.ceil(-math.log10(narrow) - 1e-9), 1), 4)
    above, below = f"{high - value:.{decimals}f}", f"{value - low:.{decimals}f}"
    return f"${value:.{decimals}f}^{{+{above}}}_{{-{below}}}$"
