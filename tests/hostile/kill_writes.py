"""Kill work at every write, just before and just after, and go on: a program, no test.

Prints a line of JSON: how many kills there were, and what was wrong.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from bitproof.recipe import ExplorationRecipe, explore_recipe, inject_recipe, read_recipe, run
from bitproof.recipe.injection import InjectionRecipe
from bitproof.recipe.toml import read_spec

Work = Callable[[Path, bool], object]
"""Work at a directory, new or gone on with."""
MOMENTS = ("before", "after")


def work_of(kind: str, recipes: Path) -> Work:
    path = recipes / f"{kind}.toml"
    if kind == "run":
        recipe = read_recipe(path)
        return lambda out, resume: run(recipe, out, device="cpu", resume=resume)
    if kind == "inject":
        campaign = read_spec(path, InjectionRecipe)
        return lambda out, resume: inject_recipe(campaign, out, resume=resume)
    search = read_spec(path, ExplorationRecipe)
    return lambda out, resume: explore_recipe(search, out, recipe_dir=recipes, resume=resume)


def found(folder: Path) -> object:
    """Return what was found, without what tells of clocks."""
    if (folder / "exploration.json").exists():
        summary = json.loads((folder / "exploration.json").read_text())
        return (folder / "front.csv").read_bytes(), summary["chosen"], summary["held_out"]
    if (folder / "summary.json").exists():
        return json.loads((folder / "summary.json").read_text())
    return (folder / "results.csv").read_bytes()


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@contextmanager
def watched(at_write: Callable[[str, Callable[[], object]], None]) -> Iterator[None]:
    """Let `at_write` carry out every rename of a file and every line at the end of a log."""
    with pytest.MonkeyPatch.context() as patch:
        replace, sync = Path.replace, os.fsync

        def watched_replace(self: Path, target: Path) -> Path:
            at_write(target.name, partial(replace, self, target))
            return target

        def watched_sync(file: int) -> None:
            name = Path(f"/proc/self/fd/{file}").readlink().name
            if name.endswith(".jsonl"):
                at_write(name, partial(sync, file))

        patch.setattr(Path, "replace", watched_replace)
        patch.setattr(os, "fsync", watched_sync)
        yield


def forked(do: Callable[[], object]) -> int:
    """Do something in a child; return how it ended.

    This process itself does no work, as threads of libraries do not outlive a fork.
    """
    child = os.fork()
    if not child:
        try:
            do()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def carried_out(work: Work, out: Path, *, resume: bool) -> None:
    """Do all the work in a child."""
    assert forked(lambda: work(out, resume)) == 0


def writes(work: Work, out: Path) -> list[str]:
    """Do all the work; return the names of what was written, in order."""
    log = out.with_name("order")

    def note(name: str, write: Callable[[], object]) -> None:
        with log.open("a") as file:
            file.write(f"{name}\n")
        write()

    def do() -> None:
        with watched(note):
            work(out, False)

    assert forked(do) == 0
    return log.read_text().splitlines()


def killed(work: Work, out: Path, *, number: int, moment: str) -> None:
    """Begin the work in a child that is killed at one write."""
    left = [number]

    def strike(_name: str, write: Callable[[], object]) -> None:
        left[0] -= 1
        if left[0] >= 0:
            write()
            return
        if moment == "after":
            write()
        os.kill(os.getpid(), signal.SIGKILL)

    def do() -> None:
        with watched(strike):
            work(out, False)

    assert forked(do) == signal.SIGKILL


def some_of(order: list[str]) -> list[int]:
    """Return the first, the middle and the last write of each file."""
    found = set()
    for name in order:
        places = [number for number, one in enumerate(order) if one == name]
        found |= {places[0], places[len(places) // 2], places[-1]}
    return sorted(found)


def main(kind: str, recipes: Path, place: Path) -> None:
    torch.set_num_threads(1)
    work, whole = work_of(kind, recipes), place / "whole"
    order = writes(work, whole)
    wrong, kills = [], 0
    for number in some_of(order):
        name = order[number]
        for moment in MOMENTS:
            out = place / f"{number}-{moment}"
            killed(work, out, number=number, moment=moment)
            kills += 1
            if name.endswith(".jsonl") and moment == "after":  # half a line, as of a power cut
                log = out / name
                log.write_bytes(log.read_bytes()[:-9])
            carried_out(work, out, resume=out.exists())
            if found(out) != found(whole):
                wrong.append(f"{name} ({number}, {moment}): another result")
            if names(out) != names(whole):
                wrong.append(f"{name} ({number}, {moment}): {names(out) ^ names(whole)}")
    print(json.dumps({"kills": kills, "writes": order, "wrong": wrong}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
