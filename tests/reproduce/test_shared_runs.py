"""A table that counts what the runs of another one measured; energy as a cell."""

from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import RecipeError
from bitproof.core.stop_request import StopRequest
from bitproof.report.fault_counts import rate_threats
from bitproof.report.operating_points import EnergyQuestion, OperatingPoint, operating_points
from bitproof.report.run import read_unfinished_run
from bitproof.reproduce import Job, Place, cells_of, find_table, read_jobs, work
from bitproof.reproduce.collect import seed_runs
from bitproof.reproduce.result import read_cells

PLAN = """
[jobs.tiny-digits]
seeds = [0]
runs_of = "resq-matrix"
max_drop = 0.05
variants = ["baseline", "s1"]
note = "everything"
"""


@pytest.fixture
def energy(folder: Path) -> Path:
    """Return the plan of a table that counts the runs of the tiny one."""
    path = folder.parent / "energy" / "table.toml"
    path.parent.mkdir()
    path.write_text(PLAN)
    return path


def read_energy() -> Job:
    (only,) = read_jobs(find_table("energy"), "small")
    return only


def test_cells_are_the_energy_saved_by_chosen_variants(energy: Path) -> None:
    assert [cell.name for cell in cells_of(read_energy())] == [
        f"tiny-digits.{variant}.random_flips-0.05.energy_saved" for variant in ("baseline", "s1")
    ]


@pytest.mark.slow
def test_runs_are_shared_and_answers_are_those_of_bitproof_energy(
    energy: Path, job: Job, place: Place, notes: Any
) -> None:
    work([job], place, stop=StopRequest())
    run = seed_runs(job, place.work)[0].folder
    before = run.tallies.read_bytes(), run.facts()["started"]
    work([read_energy()], place, stop=StopRequest(), progress=notes)
    assert (run.tallies.read_bytes(), run.facts()["started"]) == before
    assert not list(run.path.parent.glob("*.old-*"))
    cells = read_cells(place.results, "small", "energy")
    found = read_unfinished_run(run.path)
    points = operating_points(found, EnergyQuestion(max_drop=0.05), rate_threats(found))
    for point in points:
        assert isinstance(point, OperatingPoint)
        cell = cells.get(f"tiny-digits.{point.variant}.random_flips-0.05.energy_saved")
        assert (cell is None) == (point.variant not in {"baseline", "s1"})
        if cell is not None:
            assert (cell.ci_low, cell.value, cell.ci_high) == pytest.approx(tuple(point.saved))
            assert cell.n == 3


def test_the_other_way_round_energy_makes_the_runs(
    energy: Path, job: Job, place: Place, pretending: None
) -> None:
    assert seed_runs(read_energy(), place.work) == seed_runs(job, place.work)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"resq-matrix"', '"resq-matirx"', "runs_of: no other table 'resq-matirx'. Did you mean"),
        ('"resq-matrix"', '"energy"', "runs_of: no other table 'energy'"),
        ('"resq-matrix"', '"randbet-ladder"', "runs_of: wanted a job 'tiny-digits'"),
        ("seeds = [0]", "seeds = [1]", "runs_of: wanted a job 'tiny-digits' of resq-matrix"),
        ('"s1"]', '"s3"]', "variants: wanted some of"),
        ("max_drop = 0.05", 'max_drop = 0.05\nthreats = ["none"]', "threats: wanted some of"),
        ("max_drop = 0.05", "max_drop = 5", "max_drop"),
    ],
)
def test_a_plan_that_does_not_fit_is_told(energy: Path, old: str, new: str, problem: str) -> None:
    energy.write_text(PLAN.replace(old, new))
    with pytest.raises(RecipeError, match=problem):
        read_energy()


def test_gains_are_counted_from_the_variant_that_the_plan_names(job: Job, change: Any) -> None:
    other = change("gain_ber = 1e-2", 'gain_ber = 1e-2\ngain_against = "s1"')
    gains = {cell.variant for cell in cells_of(other) if cell.metric == "gain"}
    assert gains == {"baseline", "s2"}
    none = change("gain_epsilon = 0.05\n", "")
    threats = {cell.threat for cell in cells_of(none) if cell.metric == "gain"}
    assert threats == {"clean", "random_flips"}
