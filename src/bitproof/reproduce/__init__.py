"""The published tables, reproduced cell by cell.

- `tables`: what papers state; `jobs`: the recipes and plans behind a table; `cells`: its numbers.
- `shift`: run what is missing; `harvest`, `estimates`: from runs to cells; `keep`: networks.
- `result`: the file of a cell; `digest`, `sources`: what it came from; `state`: what is stale.
- `status`, `page`: the grid, on the console and in Markdown; `grid`, `asymmetry`, `against`.
"""

from bitproof.reproduce.cells import Cell, cells_of
from bitproof.reproduce.jobs import SIZES, Job, Plan, Size, all_jobs, read_jobs
from bitproof.reproduce.page import document
from bitproof.reproduce.result import CellResult, read_cell
from bitproof.reproduce.shift import Place, work
from bitproof.reproduce.state import JobState, fits, job_state, totals
from bitproof.reproduce.status import listing, status_sheets
from bitproof.reproduce.tables import TABLES, Table, find_table

__all__ = [
    "SIZES",
    "TABLES",
    "Cell",
    "CellResult",
    "Job",
    "JobState",
    "Place",
    "Plan",
    "Size",
    "Table",
    "all_jobs",
    "cells_of",
    "document",
    "find_table",
    "fits",
    "job_state",
    "listing",
    "read_cell",
    "read_jobs",
    "status_sheets",
    "totals",
    "work",
]
