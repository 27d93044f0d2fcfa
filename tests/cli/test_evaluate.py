import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitproof.cli.evaluate import parse_numbers, parse_widths
from bitproof.core.errors import RecipeError
from bitproof.recipe import read_recipe, run

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
FACTORY = """
import torch
from torch import nn

def make(n_classes: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, n_classes))
"""
MEASURED = ("--ber", "1e-2,1e-3", "--chips", 3, "--images", 20)


@pytest.fixture
def own(tmp_path: Path) -> tuple[object, ...]:
    """Return the words of an evaluation of a user's own network, with its weights."""
    (tmp_path / "mine.py").write_text(FACTORY)
    space: dict[str, Any] = {}
    exec(FACTORY, space)
    torch.save(space["make"](10).state_dict(), tmp_path / "w.pt")
    return ("evaluate", "--model", "mine:make", "--weights", "w.pt", "--data", "digits")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_options_alone_tell_accuracy_of_each_width_and_of_stored_networks(
    call: Call, own: tuple[object, ...], tmp_path: Path
) -> None:
    quick = ("--set", "evaluation.threats.3.attack.steps=1", "--set", "data.train_size=64")
    more = ("--protect", "secded", "--site", "weight")
    words = (*own, *MEASURED, *more, "--bits", "4,8", "--pgd", "1/255", *quick, "--out", "e")
    outcome = call(*words, "--json", "e.json")
    assert outcome.code == 0
    header = next(line for line in outcome.out.splitlines() if "condition" in line)
    assert [word for word in header.split() if word.isalnum()][1:4] == ["float", "int8", "int4"]
    for text in ("BER 1e-3", "BER 1e-2", "eps 1/255", "3 chips", "20 images", "report: e/"):
        assert text in outcome.out
    rows = rows_of(tmp_path / "e")
    told = json.loads((tmp_path / "e.json").read_text())["rows"]
    assert [float(row["value"]) for row in rows] == pytest.approx([row["value"] for row in told])
    measured = {(row["variant"], row["threat"]) for row in rows if row["metric"] == "acc"}
    threats = ("clean", "random_flips", "random_flips_secded", "linf_pgd")
    assert measured == {(v, t) for v in ("float", "int4", "int8") for t in threats}
    assert all(row["ci_low"] for row in rows if row["metric"] == "acc")

    words = ("evaluate", "--network", "e/networks/int8", "--data", "digits", *more, *MEASURED)
    outcome = call(*words, "--out", "n")
    assert outcome.code == 0
    left = [row for row in rows if row["variant"] == "int8" and row["threat"] != "linf_pgd"]
    assert rows_of(tmp_path / "n") == left
    assert "holds a measurement of networks already" in call(*words, "--out", "n").err
    assert call(*words, "--out", "n", "--resume").code == 0
    other = call(*words, "--ber", "1e-4", "--out", "n", "--resume")
    assert (other.code, "measures something else" in other.err) == (2, True)


@pytest.mark.slow
def test_its_recipe_runs_again_to_the_same_rows(
    call: Call, own: tuple[object, ...], tmp_path: Path
) -> None:
    call(*own, *MEASURED, "--out", "e")
    run(read_recipe(tmp_path / "e" / "recipe.toml"), tmp_path / "again", device="cpu")
    assert rows_of(tmp_path / "again") == rows_of(tmp_path / "e")
    assert call(*own, *MEASURED, "--out", "e").problems == [
        "bitproof: e: holds a run already; go on with --resume, or choose another --out"
    ]
    assert call(*own, *MEASURED, "--out", "e", "--resume").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "wanted --model, such as m:make, or --network"),
        (["--model", "digits_cnn"], "wanted --data, such as digits or folder:DIR"),
        (["--model", "digits_cnn", "--data", "digits", "--ber", "1e-3,x"], "--ber: wanted numbers"),
        (["--model", "digits_cnn", "--data", "digits", "--ber", "0.1,2"], "wanted fractions up to"),
        (["--model", "digits_cnn", "--data", "digits", "--pgd", "1/0"], "--pgd: wanted numbers"),
        (["--model", "digits_cnn", "--data", "digits", "--bits", "9"], "--bits: wanted widths"),
        (["--model", "digits_cnn", "--data", "digits", "--chips", "3"], "--chips: wanted bit err"),
        (["--model", "digits_cnn", "--data", "digits", "--scheme", "x"], "accurate or rquant, got"),
        (["--model", "digits_cnn", "--data", "digit"], "Did you mean 'digits'?"),
        (["--model", "digits_cnn", "--network", "x"], "--model: wanted it, or --network"),
        (["--network", "nowhere", "--data", "digits"], "nowhere"),
        (["--network", "n", "--set", "evaluation.seeds=1"], "seeds: no such field. Did you mean"),
        (["--network", "n", "--ber", "1e-3", "--protect", "secdet"], "Did you mean 'secded'?"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(call: Call, words: list[str], told: str) -> None:
    outcome = call("evaluate", *words)
    assert outcome.code == 2
    assert len(outcome.problems) == 1
    assert told in outcome.err


def test_numbers_are_fractions_too_and_rise() -> None:
    assert parse_numbers("8/255, 1/255,1/255", "--pgd") == [1 / 255, 8 / 255]
    assert parse_widths("4,8,4") == (8, 4)
    with pytest.raises(RecipeError, match="wanted numbers"):
        parse_numbers("-1", "--ber")
