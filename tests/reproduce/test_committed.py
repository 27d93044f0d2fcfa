"""Every number in the repository keeps the contract, and the page shows exactly these numbers."""

from pathlib import Path

import pytest

from bitproof.quant import load_network
from bitproof.reproduce import (
    SIZES,
    TABLES,
    Job,
    all_jobs,
    cells_of,
    check,
    document,
    job_key,
    job_state,
    read_cell,
)
from bitproof.reproduce.behaviour import machine
from bitproof.reproduce.keep import FILE_LIMIT, WHOLE_LIMIT, kept
from bitproof.reproduce.result import check_places

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
CELLS = sorted(
    path for size in SIZES for table in TABLES for path in (RESULTS / size / table).glob("*.*.json")
)
KEPT = sorted({path.with_suffix("") for path in kept(RESULTS)})


def test_nothing_lies_outside_the_tables() -> None:
    check_places(RESULTS)
    beside = [path for path in RESULTS.rglob("*") if path.is_file()]
    stamps = sorted(RESULTS.glob("*/*/behaviour.json"))
    assert sorted([*CELLS, *stamps, *kept(RESULTS)]) == sorted(beside)


@pytest.mark.parametrize("size", SIZES)
def test_every_committed_cell_is_one_of_a_job(size: str) -> None:
    known = {
        (job.table.name, cell.name)
        for job in all_jobs()
        if job.size == size
        for cell in cells_of(job)
    }
    mine = [path for path in CELLS if path.relative_to(RESULTS).parts[0] == size]
    assert [path for path in mine if (path.parent.name, path.stem) not in known] == []


def test_every_committed_cell_keeps_the_contract() -> None:
    for path in CELLS:
        result = read_cell(path)
        lowest = -1 if result.metric == "gain" else 0
        assert lowest <= result.ci_low <= result.value <= result.ci_high <= 1, path


def test_the_page_shows_the_committed_cells() -> None:
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    assert page == document(RESULTS), "run: bitproof reproduce --document docs/reproduction.md"


def test_kept_networks_are_small_enough() -> None:
    sizes = [path.stat().st_size for path in kept(RESULTS)]
    assert max(sizes, default=0) <= FILE_LIMIT
    assert sum(sizes) <= WHOLE_LIMIT


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_a_kept_network_can_be_loaded(path: Path) -> None:
    assert load_network(path).nodes


def test_no_committed_cell_is_stale() -> None:
    """Recipes as they were; behaviour as `--check` found it (which takes a minute, and data)."""
    for job in all_jobs(sizes=["small"]):
        state = job_state(job, results=RESULTS, work=RESULTS / "none")
        assert {(one.cell.name, one.changed) for one in state.cells if one.status == "stale"} == (
            set()
        )


@pytest.mark.slow
@pytest.mark.parametrize("job", all_jobs(sizes=["small"]), ids=job_key)
def test_a_committed_job_behaves_as_it_did(job: Job) -> None:
    (found,) = check([job], RESULTS)
    if found.verdict in {"failed", "other machine"}:
        pytest.skip(f"{found.verdict}: {found.problem or machine()}")
    assert found.verdict == "equal"
