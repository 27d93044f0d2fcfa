"""Measuring in several processes changes no byte of the results."""

from pathlib import Path

import pytest

from bitproof.evaluation import Executor, Processes, Ray
from bitproof.recipe import Recipe, run


@pytest.mark.slow
@pytest.mark.parametrize(
    "executor", [Processes(workers=2), Ray(workers=2)], ids=lambda one: one.kind
)
def test_whoever_measures_the_results_are_the_same(
    executor: Executor, toy: Recipe, finished: Path, tmp_path: Path
) -> None:
    if isinstance(executor, Ray):
        pytest.importorskip("ray")
    run(toy, tmp_path / "run", device="cpu", executor=executor)
    assert (tmp_path / "run/results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    counts = [
        sorted(at.read_text().splitlines())
        for at in (tmp_path / "run/tallies.jsonl", finished / "tallies.jsonl")
    ]
    assert counts[0] == counts[1]
