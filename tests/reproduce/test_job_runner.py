import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bitproof import load_network
from bitproof.core.errors import DataError, ResumeError, StorageError
from bitproof.core.lock import claim
from bitproof.core.stop_request import StopRequest
from bitproof.recipe import RunDirectory
from bitproof.reproduce import (
    TABLES,
    Job,
    JobState,
    Place,
    cells_of,
    job_state,
    status_sheets,
    work,
    write_down,
)
from bitproof.reproduce.collect import job_folder, seed_runs
from bitproof.reproduce.job_runner import _JobRunner, choose
from bitproof.reproduce.result import read_cells
from bitproof.stats import read_results

Notes = Any
"""The progress of conftest.py that keeps what is said."""


def done(place: Place) -> set[str]:
    return set(read_cells(place.results, "small", "resq-matrix"))


def statuses(job: Job, place: Place) -> set[str]:
    return {one.status for one in job_state(job, results=place.results, work=place.work).cells}


def test_a_real_run_fills_every_cell(job: Job, place: Place) -> None:
    work([job], place, stop=StopRequest())
    results = read_cells(place.results, "small", "resq-matrix")
    assert list(results) == sorted(cell.name for cell in cells_of(job))
    run = place.work / "small" / "resq-matrix" / "tiny-digits" / "seed-0"
    for row in read_results(run / "results.csv"):
        level = f"-{row.level:g}" if row.level else ""
        result = results.get(f"tiny-digits.{row.variant}.{row.threat}{level}.{row.metric}")
        assert (result is None) == (row.metric in {"acc_std", "acc_min"})
        if result:
            got = (result.value, result.ci_low, result.ci_high, result.n)
            assert got == (row.value, row.ci_low, row.ci_high, row.n)
    accuracy = {name.split(".", 1)[1]: result.value for name, result in results.items()}
    for threat in ("clean", "random_flips-0.01", "linf_pgd-0.05"):
        gain = accuracy[f"s1.{threat}.acc"] - accuracy[f"baseline.{threat}.acc"]
        assert accuracy[f"s1.{threat}.gain"] == pytest.approx(gain)
    assert results["tiny-digits.s1.linf_pgd-0.05.gain"].n == 3
    assert results["tiny-digits.s1.clean.gain"].n == 240
    facts = RunDirectory(run).facts()
    first = results["tiny-digits.float.clean.acc"]
    durations = facts["durations"]
    spent = durations.get("train float", 0) + durations["evaluate float"]
    assert first.seconds == pytest.approx(spent, abs=0.1)
    assert (first.device, first.versions["torch"]) == (facts["device"], facts["torch"])
    kept = place.results / "small" / "resq-matrix" / "weights" / "tiny-digits.baseline"
    assert load_network(kept).nodes == load_network(run / "networks" / "baseline").nodes


def test_what_is_done_is_left_alone(
    job: Job, finished: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert statuses(job, finished) == {"done"}
    monkeypatch.setattr("bitproof.reproduce.job_runner.run_recipe", lambda *_, **__: None)
    work([job], finished, stop=StopRequest())


def test_several_seeds_make_one_value(
    change: Callable[..., Job], place: Place, pretending: None
) -> None:
    job = change("seeds = [0]", "seeds = [0, 1, 5]")
    work([job], place, stop=StopRequest())
    result = read_cells(place.results, "small", "resq-matrix")["tiny-digits.s1.clean.acc"]
    assert result.seeds == (0, 1, 5)
    assert result.value == pytest.approx((9 + 10 + 14) / 3 / 240)
    assert result.seconds == 3 * 3.0


def test_cells_wait_for_all_seeds(
    change: Callable[..., Job], place: Place, pretending: None, after: Callable[[int], StopRequest]
) -> None:
    job = change("seeds = [0]", "seeds = [0, 1]")
    # Looks at the clock: choosing, seed 0, its four variants, seed 1, two of its variants.
    work([job], place, stop=after(9))
    assert {name.split(".")[1] for name in done(place)} == {"float", "baseline"}
    assert statuses(job, place) == {"done", "partial"}


def test_a_halted_job_goes_on(
    job: Job, place: Place, pretending: None, after: Callable[[int], StopRequest]
) -> None:
    assert statuses(job, place) == {"missing"}
    work([job], place, stop=after(5))
    assert {name.split(".")[1] for name in done(place)} == {"float", "baseline", "s1"}
    assert not list(place.results.rglob("*.safetensors"))
    before = {path: path.stat().st_mtime_ns for path in place.results.rglob("*.*.json")}
    work([job], place, stop=StopRequest())
    assert statuses(job, place) == {"done"}
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert [path.name for path in place.results.rglob("*.safetensors")] == [
        "tiny-digits.baseline.safetensors"
    ]


def test_a_job_of_another_process_is_left_to_it(
    job: Job, place: Place, pretending: None, notes: Notes
) -> None:
    with claim(job_folder(job, place.work) / "claims" / "seed-0", shard=None):
        work([job], place, progress=notes, stop=StopRequest())
    assert statuses(job, place) == {"missing"}
    assert any("in use by" in line for line in notes.lines)
    work([job], place, stop=StopRequest())
    assert statuses(job, place) == {"done"}


def test_a_seed_of_another_process_is_left_to_it(
    change: Callable[..., Job], place: Place, pretending: None, notes: Notes
) -> None:
    job = change("seeds = [0]", "seeds = [0, 1, 2]")
    with claim(job_folder(job, place.work) / "claims" / "seed-1", shard=None):
        work([job], place, progress=notes, stop=StopRequest())
    assert [run.finished() for run in seed_runs(job, place.work)] == [True, False, True]
    assert statuses(job, place) == {"partial"}
    work([job], place, stop=StopRequest())
    assert statuses(job, place) == {"done"}


def test_no_time_does_nothing(job: Job, place: Place, pretending: None) -> None:
    work([job], place, stop=StopRequest(0.0))
    assert not list(place.work.rglob("recipe.toml"))


def test_what_a_killed_process_had_finished_is_written(
    job: Job, finished: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = done(finished)
    for path in (finished.results / "small" / "resq-matrix").glob("*.s1.*.json"):
        path.unlink()
    monkeypatch.setattr("bitproof.reproduce.job_runner.run_recipe", lambda *_, **__: None)
    work([job], finished, stop=StopRequest())
    assert done(finished) == whole


def test_a_pattern_chooses_cells(job: Job, place: Place, pretending: None) -> None:
    work([job], place, patterns=["*.s2.*.gain"], stop=StopRequest())
    assert done(place) == {
        f"tiny-digits.s2.{threat}.gain"
        for threat in ("clean", "random_flips-0.01", "linf_pgd-0.05")
    }
    work([job], place, patterns=["other-*"], stop=StopRequest())
    assert len(done(place)) == 3


def test_a_changed_recipe_makes_cells_stale_and_they_are_done_again(
    finished: Place, change: Callable[..., Job], notes: Notes
) -> None:
    job = change("[stages.s2]", "[stages.s2]\nsteps = 3")
    states = job_state(job, results=finished.results, work=finished.work).cells
    assert {(one.cell.variant, one.changed) for one in states if one.status == "stale"} == {
        ("s2", "recipe")
    }
    work([job], finished, progress=notes, stop=StopRequest())
    assert statuses(job, finished) == {"done"}
    assert any("recipe or behaviour of s2 changed" in line for line in notes.lines)
    aside = finished.work / "small" / "resq-matrix" / "tiny-digits" / "seed-0.old-1"
    assert (aside / "tallies.jsonl").exists()


def test_changed_behaviour_makes_cells_stale(
    job: Job, finished: Place, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    write_down(job, "f" * 16, finished.results)
    states = job_state(job, results=finished.results, work=finished.work).cells
    assert {(one.status, one.changed) for one in states} == {("stale", "behaviour")}
    monkeypatch.setattr("bitproof.reproduce.job_runner.behaviour_of", lambda *_: "f" * 16)
    work([job], finished, progress=notes, stop=StopRequest())
    assert statuses(job, finished) == {"done"}
    assert any("recipe or behaviour of float, baseline, s1, s2 changed" in it for it in notes.lines)


def test_a_run_notices_by_itself_that_behaviour_changed(
    job: Job, finished: Place, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    monkeypatch.setattr("bitproof.reproduce.job_runner.behaviour_of", lambda *_: "f" * 16)
    for path in (finished.results / "small" / "resq-matrix").glob("*.s1.*.json"):
        path.unlink()
    work([job], finished, progress=notes, stop=StopRequest())
    assert any("behaves differently; cells of before are stale" in line for line in notes.lines)
    cells = (finished.results / "small" / "resq-matrix").glob("*.*.json")
    assert {path.read_text().count("f" * 16) for path in cells} == {1}


def test_stale_numbers_stand_behind_no_claim(job: Job, finished: Place) -> None:
    def said() -> str:
        sheets = status_sheets(
            [TABLES["resq-matrix"]], ["small"], results=finished.results, work=finished.work
        )
        return "\n".join(line for sheet in sheets for line in sheet.lines)

    assert "over 1 measured" in said()
    write_down(job, "f" * 16, finished.results)
    assert "over 0 measured" in said()
    assert "22 stale: behaviour changed" in said()


def test_a_job_that_fails_leaves_the_others_their_turn(
    job: Job, place: Place, pretending: None, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    other = replace(job, name="tiny2-digits")
    plain = _JobRunner.carry_out

    def carry_out(self: _JobRunner) -> None:
        if self.job.name == "tiny2-digits":
            raise DataError("no images today")
        plain(self)

    monkeypatch.setattr(_JobRunner, "carry_out", carry_out)
    with pytest.raises(DataError, match="no images today"):
        work([other, job], place, progress=notes, stop=StopRequest())
    assert statuses(job, place) == {"done"}
    assert "tiny2-digits: no images today" in notes.lines


def test_results_that_cannot_be_written_are_found_out_first(
    job: Job, place: Place, pretending: None
) -> None:
    place.results.write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        work([job], place, stop=StopRequest())
    assert not list(place.work.rglob("recipe.toml"))


def test_a_run_on_other_versions_starts_afresh(  # noqa: PLR0917
    job: Job,
    place: Place,
    pretending: None,
    after: Callable[[int], StopRequest],
    monkeypatch: pytest.MonkeyPatch,
    notes: Notes,
) -> None:
    work([job], place, stop=after(3))
    plain = RunDirectory.check

    def check(self: RunDirectory, recipe: object, *, resume: bool) -> None:
        if resume:
            raise ResumeError("torch: 1 before, 2 now")

    monkeypatch.setattr(RunDirectory, "check", check)
    work([job], place, progress=notes, stop=StopRequest())
    monkeypatch.setattr(RunDirectory, "check", plain)
    assert statuses(job, place) == {"done"}
    assert any("seed-0.old-1 (torch: 1 before, 2 now)" in line for line in notes.lines)


def test_a_run_of_unknown_origin_is_not_harvested(job: Job, finished: Place) -> None:
    for path in (finished.results / "small" / "resq-matrix").glob("*.json"):
        path.unlink()
    run = finished.work / "small" / "resq-matrix" / "tiny-digits" / "seed-0"
    (run / "reproduce.json").unlink()
    work([job], finished, stop=StopRequest())
    assert (run.with_name("seed-0.old-1") / "tallies.jsonl").exists()
    assert statuses(job, finished) == {"done"}


def test_missing_cells_come_first_then_what_has_begun_then_the_most(
    job: Job, finished: Place
) -> None:
    def state(*, drop: int, begun: bool, stale: bool = False) -> JobState:
        found = job_state(job, results=finished.results, work=finished.work)
        cells = [
            replace(one, status="missing" if place < drop else "stale" if stale else "done")
            for place, one in enumerate(found.cells)
        ]
        return replace(found, begun=begun, cells=tuple(cells))

    few, many = state(drop=2, begun=False), state(drop=5, begun=False)
    begun, old = state(drop=1, begun=True), state(drop=0, begun=True, stale=True)
    assert choose([old, few, many, begun]) is begun
    assert choose([old, few, many]) is many
    assert choose([old]) is old
    assert choose([state(drop=0, begun=True)]) is None


def test_a_network_that_is_too_large_is_not_kept(
    change: Callable[..., Job],
    place: Place,
    pretending: None,
    monkeypatch: pytest.MonkeyPatch,
    notes: Notes,
) -> None:
    job = change('keep = ["baseline"]', 'keep = ["baseline", "s1", "s2"]')
    monkeypatch.setattr("bitproof.reproduce.keep.WHOLE_LIMIT", 130)
    work([job], place, progress=notes, stop=StopRequest())
    weights = place.results / "small" / "resq-matrix" / "weights"
    assert {path.name for path in weights.iterdir()} == {
        f"tiny-digits.{variant}{suffix}"
        for variant in ("baseline", "s1")
        for suffix in (".safetensors", ".json")
    }
    assert any(line.startswith("tiny-digits.s2: not kept") for line in notes.lines)
    monkeypatch.setattr("bitproof.reproduce.keep.FILE_LIMIT", 49)
    write_down(job, "f" * 16, place.results)
    monkeypatch.setattr("bitproof.reproduce.job_runner.behaviour_of", lambda *_: "f" * 16)
    work([job], place, progress=notes, stop=StopRequest())
    assert sum("over the" in line for line in notes.lines) == 3
    assert json.loads((weights / "tiny-digits.baseline.json").read_text()) == {"made": "up"}
