"""A table of one small job, and a run that only pretends to train."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bitproof.core.progress import Progress, Silent
from bitproof.core.stop_request import StopRequest
from bitproof.evaluation import TallyStore
from bitproof.metrics import Tally
from bitproof.recipe import Recipe, RunDirectory
from bitproof.reproduce import Job, Place, find_table, read_jobs, work

TINY = Path(__file__).with_name("tiny")
FACTS = {"bitproof": "0.1.0", "torch": "2", "numpy": "2", "python": "3.11", "device": "cpu"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of recipes that stands for the shipped one."""
    at = tmp_path / "recipes" / "small" / "resq-matrix"
    shutil.copytree(TINY, at)
    monkeypatch.setattr("bitproof.reproduce.jobs.recipes_folder", lambda: tmp_path / "recipes")
    return at


@pytest.fixture
def job(folder: Path) -> Job:
    (only,) = read_jobs(find_table("resq-matrix"), "small")
    return only


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "results", tmp_path / "work", "cpu")


Reread = Callable[..., Job]


@pytest.fixture
def change(folder: Path) -> Reread:
    """Return a function that replaces text in recipe and plan, and reads the job again."""

    def edit(old: str, new: str) -> Job:
        for path in folder.iterdir():
            path.write_text(path.read_text().replace(old, new))
        (only,) = read_jobs(find_table("resq-matrix"), "small")
        return only

    return edit


def pretend(
    recipe: Recipe,
    out: Path,
    *,
    device: str,
    data_dir: Path | None,
    recipe_dir: Path,
    resume: bool,
    progress: Progress,
    stop: StopRequest,
) -> Path:
    """Do as `bitproof.recipe.run` does, with made-up counts that depend on seed and variant."""
    run = RunDirectory(out)
    run.check(recipe, resume=resume)
    run.begin(recipe, **FACTS)
    store = TallyStore(run.tallies)
    test = recipe.data.load(data_dir).test
    for place, variant in enumerate(recipe.variants):
        stop.check()
        for task, key in recipe.evaluation.keys(variant, test).items():
            total = 240 if task.level == 0.0 else 20
            store.add(key, Tally(5 + 2 * place + recipe.seed + task.trial % 2, total))
        run.note(networks={variant: variant})
        run.note(durations={f"evaluate {variant}": 2.0, f"harden {variant}": 1.0})
        network = run.network(variant)
        network.parent.mkdir(exist_ok=True)
        network.with_name(f"{variant}.safetensors").write_bytes(b"words" * 10)
        network.with_name(f"{variant}.json").write_text(json.dumps({"made": "up"}))
    run.note(finished="now")
    return out / "report.html"


@pytest.fixture
def pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitproof.reproduce.job_runner.run_recipe", pretend)
    monkeypatch.setattr("bitproof.reproduce.job_runner.behaviour_of", lambda *_: "0" * 16)
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)


class Notes(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def finished(job: Job, place: Place, pretending: None) -> Place:
    """Return where the job was done, with made-up counts."""
    work([job], place, stop=StopRequest())
    return place
