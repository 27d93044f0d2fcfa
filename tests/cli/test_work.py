"""What a command says of its work before it begins, and when it does not begin."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.recipe.test_exploration import COSTS
from tests.recipe.test_exploration import RECIPE as EXPLORATION

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
CAMPAIGN = ("inject", "--model", "digits_cnn", "--trials", 4, "--set", "injection.images=4")


def test_more_than_a_day_is_refused_in_one_line(
    call: Call, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitproof.cli.work.DAY", 600.0)  # for machines that are fast
    explored = tmp_path / "small.toml"
    explored.write_text(EXPLORATION)
    (tmp_path / "costs.csv").write_text(COSTS)
    for words in (
        ("run", toy, "--device", "cpu", "--set", "train.epochs=1000000"),
        ("demo", "--out", "o", "--set", "train.epochs=1000000"),
        ("explore", explored, "--set", "train.epochs=1000000"),
        (*CAMPAIGN, "--trials", 1_000_000_000, "--set", "injection.faults.0.count=2"),
    ):
        outcome = call(*words)
        (line,) = outcome.problems
        assert outcome.code == 2
        assert line.startswith("bitproof: about ")
        assert line.endswith(" on this machine; go on with --yes")
        assert not [
            path for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path
        ]
        assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", ["run", "inject"])
def test_yes_goes_on(call: Call, toy: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"run": ("run", toy, "--device", "cpu"), "inject": CAMPAIGN}[command]
    monkeypatch.setattr("bitproof.cli.work.DAY", 0.0)
    monkeypatch.setattr("bitproof.cli.work.SHORT_S", 0.0)
    assert call(*words).code == 2
    outcome = call(*words, "--yes")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r" images, \d+ seconds on this machine\n", outcome.out)
    assert "report: " in outcome.out


def test_what_is_short_says_nothing_and_so_does_what_is_wrong(call: Call, toy: Path) -> None:
    assert "on this machine" not in call(*CAMPAIGN).out
    outcome = call("run", toy, "--set", "model.kind='lenet5'", "--set", "model.width=3")
    assert outcome.code == 2
    assert "on this machine" not in outcome.err
