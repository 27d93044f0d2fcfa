import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bitproof.core.errors import DataError, RecipeError
from bitproof.reproduce import Job, Place, all_jobs, check, check_against, job_key, write_down
from bitproof.reproduce.behaviour import behaviour_of, behaviours_at, machine
from bitproof.reproduce.checking import Stamp, read_stamps, verdict
from bitproof.reproduce.toy import TOY_LIMITS, toy


@pytest.mark.slow
def test_the_digest_follows_what_code_does_and_no_names(
    job: Job, change: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = behaviour_of(job)
    assert behaviour_of(job) == before
    renamed = change("s2", "later")
    assert renamed.recipe.variants[-1] == "later"
    assert behaviour_of(renamed) != before  # the seed of a stage is its name
    monkeypatch.setattr("bitproof.evaluation.adversarial_examples.BLOCK", 8)
    assert behaviour_of(job) != before


@pytest.mark.slow
def test_a_name_that_seeds_nothing_keeps_the_digest(job: Job) -> None:
    other = replace(job, recipe=job.recipe.model_copy(update={"name": "other", "title": "other"}))
    assert behaviour_of(other) == behaviour_of(job)


@pytest.mark.parametrize("job", all_jobs(), ids=job_key)
def test_a_shipped_job_is_small_at_toy_size(job: Job) -> None:
    small = toy(job.recipe)
    assert small.variants == job.recipe.variants
    assert small.data.train_size == TOY_LIMITS["train_size"]
    assert small.stages.keys() == job.recipe.stages.keys()
    if job.recipe.train:
        assert small.train
        assert small.train.epochs == 2
        kept = {"epochs", "batch_size", "images_per_epoch"}
        assert small.train.model_dump(exclude=kept) == job.recipe.train.model_dump(exclude=kept)


def test_verdicts() -> None:
    one, other = "1" * 16, "2" * 16
    assert verdict(None, one) == "new"
    assert verdict(Stamp(digests={"elsewhere": one}), one) == "equal"
    assert verdict(Stamp(digests={"elsewhere": one}), other) == "other machine"
    assert verdict(Stamp(digests={"elsewhere": one, machine(): one}), other) == "changed"


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs be carried out in threads instead of processes, which take seconds to start."""
    monkeypatch.setattr(
        "bitproof.reproduce.behaviour.ProcessPoolExecutor",
        lambda workers, **_context: ThreadPoolExecutor(workers),
    )


def test_a_job_that_fails_leaves_others_alone(
    job: Job, place: Place, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(one: Job, _data_dir: Path | None) -> str:
        if one.name == "lost-digits":
            raise RecipeError("weights: no file 'nowhere.npz'")
        return "1" * 16

    monkeypatch.setattr("bitproof.reproduce.behaviour.behaviour_of", behave)
    write_down(job, "1" * 16, place.results)
    found = list(check([replace(job, name="lost-digits"), job], place.results))
    assert [one.verdict for one in found] == ["failed", "equal"]
    assert "nowhere.npz" in found[0].problem


@pytest.mark.slow
def test_jobs_are_checked_side_by_side_and_fail_alone(job: Job, place: Place) -> None:
    write_down(job, behaviour_of(job), place.results)
    recipe = job.recipe.model_copy(update={"weights": "nowhere.npz"})
    found = list(check([replace(job, name="lost-digits", recipe=recipe), job], place.results))
    assert [one.verdict for one in found] == ["failed", "equal"]
    assert "nowhere.npz" in found[0].problem


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every job behave alike, in no time."""
    monkeypatch.setattr(
        "bitproof.reproduce.checking.behaviours",
        lambda jobs, _data_dir: [(job, "1" * 16) for job in jobs],
    )


def test_what_is_written_down_is_checked(job: Job, place: Place, constant: None) -> None:
    def verdicts() -> list[str]:
        return [one.verdict for one in check([job], place.results)]

    assert verdicts() == ["new"]
    write_down(job, "1" * 16, place.results)
    assert verdicts() == ["equal"]
    assert write_down(job, "0" * 16, place.results) == "changed"
    assert verdicts() == ["changed"]


def test_another_machine_s_digest_stays_until_behaviour_changes(job: Job, place: Place) -> None:
    path = place.results / "small" / "resq-matrix" / "behaviour.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({job.name: {"digests": {"elsewhere": "1" * 16}}}))
    assert write_down(job, "2" * 16, place.results) == "other machine"
    stamp = read_stamps(place.results, "small", "resq-matrix")[job.name]
    assert stamp.digests == {"elsewhere": "1" * 16, machine(): "2" * 16}
    write_down(job, "3" * 16, place.results, equal_to="abc")
    stamp = read_stamps(place.results, "small", "resq-matrix")[job.name]
    assert (stamp.digests["elsewhere"], stamp.equal_to) == ("1" * 16, "abc")
    write_down(job, "4" * 16, place.results)
    stamp = read_stamps(place.results, "small", "resq-matrix")[job.name]
    assert (stamp.digests, stamp.equal_to) == ({machine(): "4" * 16}, "")


def test_a_damaged_file_of_stamps_is_one_line(place: Place) -> None:
    path = place.results / "small" / "resq-matrix" / "behaviour.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(DataError, match=r"behaviour\.json: wanted"):
        read_stamps(place.results, "small", "resq-matrix")


def test_an_older_revision_is_compared_by_name(
    job: Job, monkeypatch: pytest.MonkeyPatch, constant: None
) -> None:
    digest = "1" * 16
    monkeypatch.setattr(
        "bitproof.reproduce.checking.behaviours_at", lambda *_: {job_key(job): digest}
    )
    other = replace(job, name="other-digits")
    found = list(check_against("HEAD", [job, other], None))
    assert [one.verdict for one in found] == ["equal", "new"]
    monkeypatch.setattr("bitproof.reproduce.checking.behaviours_at", lambda *_: {job_key(job): "0"})
    assert [one.verdict for one in check_against("HEAD", [job], None)] == ["changed"]


def test_a_revision_that_is_none_is_told(job: Job) -> None:
    root = Path(__file__).parents[2]
    inside = subprocess.run(
        ["git", "rev-parse"], cwd=root, capture_output=True, check=False
    ).returncode
    if inside:
        pytest.skip("not a git checkout")
    with pytest.raises(RecipeError, match="--against: 'git worktree add --detach"):
        behaviours_at("no-such-revision", [job])


def test_a_revision_that_cannot_tell_is_one_line(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python ends with 1 after a traceback, as a check that found differences does."""

    def run(words: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        code = 1 if "-m" in words else 0
        return subprocess.CompletedProcess(words, code, "", "No such option: --check")

    monkeypatch.setattr("bitproof.reproduce.behaviour.subprocess.run", run)
    with pytest.raises(RecipeError, match="failed: No such option: --check"):
        behaviours_at("HEAD", [job])
