"""The page of all reproduced numbers, made of the finished cells and the tables' definitions.

It tells with each number what it came from, and nothing that depends on the code of the day, so
that the page only changes when a result does.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from bitproof.report.wording import seconds
from bitproof.reproduce.asymmetry import asymmetry_sheet, tally_of_claims
from bitproof.reproduce.claims import claim_lines
from bitproof.reproduce.jobs import SIZES, Job, Size, read_jobs
from bitproof.reproduce.result import CellResult, check_places, read_cells
from bitproof.reproduce.sheets import TextTable, against_theirs, cell_table, labels_of, value_text
from bitproof.reproduce.tables import TABLES, Table

HEAD = """\
# Reproduction

Made by `bitproof reproduce --document docs/reproduction.md` from the files under `results/` and
the definitions of the tables, and from nothing else; do not edit it. `bitproof reproduce --status`
tells in addition which cells are missing, and which are stale because recipe or behaviour changed.

Accuracies are per cent, gains are percentage points over `baseline`, the quantized network
without hardening, or over `normal` in `randbet-ladder`; energy saved is per cent of what the memory
takes at the lowest voltage without errors, the least that is saved where even the highest rate that
was measured is safe; ± is half of the 95 % interval. Under bit errors the interval is between
chips (one chip alone: ± 50), on clean and attacked images between images (Wilson). Gains are
paired: by chip, and by block of 100 attacked images; on clean images the two counts are taken as
independent (Newcombe). With several seeds of training the value is their mean, and the interval
covers seeds as well; one seed says nothing about others. AUC-FR is the mean accuracy over log10 of
the bit error rate, on the rates of the columns.
"""
SECTIONS: dict[Size, str] = {
    "full": "## Full size: the networks and data sets of the papers",
    "small": "## Small size: what two CPU cores can do, beside the papers' networks",
}


def document(results: Path) -> str:
    """Return the page, in Markdown.

    Raises:
        DataError: a finished cell is damaged, or lies in the wrong place.
        RecipeError: the definition of a table is damaged.
    """
    check_places(results)
    blocks = [HEAD.rstrip()]
    for size in SIZES:
        blocks.append(SECTIONS[size])
        for table in TABLES.values():
            found = read_cells(results, size, table.name).values()
            jobs = {job.name: job for job in read_jobs(table, size)}
            blocks += _table_blocks(table, found, jobs)
    return "\n\n".join(blocks) + "\n"


def _table_blocks(table: Table, found: Iterable[CellResult], jobs: dict[str, Job]) -> list[str]:
    results = sorted(found, key=lambda result: result.key.job)
    by_job = {job: list(part) for job, part in groupby(results, lambda result: result.key.job)}
    blocks = [f"### {table.name}", f"{table.title}. Source: {table.source}."]
    if not by_job:
        return [*blocks, "No cell is finished yet."]
    lines = against_theirs(table, results, labels_of(jobs.values()))
    begun = [name for name in jobs if name in by_job]
    if table.matrix:
        lines += tally_of_claims((by_job[name], jobs[name]) for name in begun)
    blocks.append(_bullets(lines))
    for name in [*begun, *sorted(by_job.keys() - jobs.keys())]:
        blocks += _job_blocks(name, by_job[name], jobs.get(name))
    missing = [name for name in jobs if name not in by_job]
    return blocks + ([f"Not begun: {', '.join(missing)}."] if missing else [])


def _job_blocks(name: str, results: list[CellResult], job: Job | None) -> list[str]:
    blocks = [f"#### {name}"]
    if job and job.plan.note:
        blocks.append(f"Scaled down: {job.plan.note}")
    texts = {result.key: value_text(result) for result in results}
    blocks.append(_markdown(cell_table(texts, job.labels() if job else {})))
    title = "Asymmetry, at the levels of the gains:"
    for sheet in asymmetry_sheet(title, job, results) if job else []:
        assert sheet.grid is not None
        blocks += [sheet.title, _markdown(sheet.grid), _bullets(sheet.lines)]
    if told := list(claim_lines(job, results)) if job else []:
        blocks += ["Claims of the papers:", _bullets(told)]
    return [*blocks, _origin(results)]


def _origin(results: Sequence[CellResult]) -> str:
    """Return seeds, machine and versions, and the digests of each variant."""
    seeds = _each(", ".join(map(str, result.seeds)) for result in results)
    versions = _each(
        ", ".join(f"{name} {number}" for name, number in result.versions.items())
        for result in results
    )
    devices = _each(result.device for result in results)
    spent = {result.variant: seconds(result.seconds) for result in results}
    digests = {v: _each(r.digest for r in results if r.variant == v) for v in spent}
    rows = tuple((variant, f"`{digests[variant]}`", spent[variant]) for variant in spent)
    table = _markdown(TextTable(("variant", "digest", "time"), rows))
    return f"Seeds {seeds}; device {devices}; {versions}.\n\n{table}"


def _each(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _markdown(grid: TextTable) -> str:
    rule = ("---", *("---:" for _ in grid.header[1:]))
    return "\n".join(f"| {' | '.join(row)} |" for row in (grid.header, rule, *grid.rows))
