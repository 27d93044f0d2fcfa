"""The published tables, reproduced cell by cell.

- `tables`: what papers state; `jobs`: the recipes and plans behind a table; `cells`: its numbers.
- `job_runner`: run what is missing; `collect`, `estimates`: from runs to cells; `keep`: networks.
- `result`: the file of a cell; `digest`: what it came from; `state`: what is stale.
- `behaviour`: jobs at toy size; `checking`: how they behaved, and whether they still do.
- `sheets`, `asymmetry`: tables of cells; `claims`: what five papers say of a matrix; `status`,
  `page`: on the console, and in Markdown.
"""

from bitproof.reproduce.behaviour import job_key
from bitproof.reproduce.cells import Cell, cells_of
from bitproof.reproduce.checking import Checked, check, check_against, write_down
from bitproof.reproduce.job_runner import Place, work
from bitproof.reproduce.jobs import SIZES, Job, JobPlan, Size, all_jobs, read_jobs
from bitproof.reproduce.page import document
from bitproof.reproduce.result import CellResult, read_cell
from bitproof.reproduce.state import JobState, fits, job_state, totals
from bitproof.reproduce.status import listing, status_sheets
from bitproof.reproduce.tables import TABLES, Table, find_table

__all__ = [
    "SIZES",
    "TABLES",
    "Cell",
    "CellResult",
    "Checked",
    "Job",
    "JobPlan",
    "JobState",
    "Place",
    "Size",
    "Table",
    "all_jobs",
    "cells_of",
    "check",
    "check_against",
    "document",
    "find_table",
    "fits",
    "job_key",
    "job_state",
    "listing",
    "read_cell",
    "read_jobs",
    "status_sheets",
    "totals",
    "work",
    "write_down",
]
