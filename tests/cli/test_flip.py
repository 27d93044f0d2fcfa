"""`bitproof flip`: what it prints, what it writes, and that a campaign replays it exactly."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.data import DATA
from bitproof.evaluation.threat import count
from bitproof.faults import read_fault_list, with_flips
from bitproof.injection.engine import Engine
from bitproof.models.digits_cnn import DigitsCNN
from bitproof.quant import load_network, quantize, save_network
from bitproof.train import Optimization, train_

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
SMALL = ("--data", "digits", "--batches", 2, "--attack-images", 32, "--images", 200, "--flips", 3)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network on digits that is right most of the time."""
    train = DATA.build({"kind": "digits"}).load(None).train
    model: nn.Module = DigitsCNN(width=8).build(
        in_channels=1, image_size=8, n_classes=10, generator=make_generator(0)
    )
    train_(model, train, Optimization(epochs=10, learning_rate=0.1), generator=make_generator(1))
    path = tmp_path_factory.mktemp("nets") / "small"
    save_network(quantize(model.eval(), train.inputs(slice(64))), path)
    return path


def test_it_prints_a_line_for_each_batch_and_their_spread(call: Call, stored: Path) -> None:
    outcome = call("flip", stored, *SMALL)
    assert outcome.code == 0
    first, second, spread, took = outcome.out.splitlines()
    assert first.startswith("small, batch 1: ")
    assert "accuracy" in second
    assert re.search(r"chance \(\d+\.\d %\)", spread)
    assert took.startswith("took ")


def test_flips_to_chance_are_told(call: Call, stored: Path) -> None:
    words = ("--batches", 2, "--attack-images", 16, "--images", 100, "--flips", 40)
    spread = call("flip", stored, "--data", "digits", *words).out.splitlines()[2]
    found = re.search(r"median (\S+), from (\d+) to (\d+), 2 of 2 batches;", spread)
    assert found
    assert int(found[2]) <= float(found[1]) <= int(found[3]) <= 40


def test_the_list_gives_the_same_answers_in_a_campaign(
    call: Call, stored: Path, tmp_path: Path
) -> None:
    outcome = call("flip", f"{stored}.json", *SMALL, "--out", "flips.csv")
    assert "6 flips of 2 batches: flips.csv" in outcome.out
    network = load_network(stored)
    faults = read_fault_list(tmp_path / "flips.csv", layers=[node.name for node in network.nodes])
    data = DATA.build({"kind": "digits"}).load(None).test.first(200)
    replayed = Engine(network, data.inputs(), data.labels).run(faults, [0, 1])[:, -1]
    told = [float(acc) for acc in re.findall(r"accuracy (\S+) %, without", outcome.out)]
    assert replayed.tolist() == [round(2 * acc) for acc in told]
    flipped = [count(with_flips(network, faults, trial), data).correct for trial in (0, 1)]
    assert replayed.tolist() == flipped
    words = ("--network", stored, "--list", "flips.csv", "--set", "injection.images=200")
    assert call("inject", *words, "--out", "c").code == 0
    total = json.loads((tmp_path / "c" / "summary.json").read_text())["totals"][0]
    assert total["acc"][1] == pytest.approx(sum(flipped) / 400)
    assert total["acc_min"] == pytest.approx(min(flipped) / 200)


def test_a_run_has_its_networks_and_data(call: Call, toy: Path, tmp_path: Path) -> None:
    text = toy.read_text().replace('variants = ["float", "baseline", "s1+s2+s3"]', "")
    toy.write_text('variants = ["float", "baseline"]\n' + text)
    assert call("run", toy, "--out", "r").code == 0
    words = ("--batches", 1, "--attack-images", 8, "--flips", 2, "--attack", "bit_ascent")
    outcome = call("flip", "r", *words, "--set", "iterations=2", "--out", "f.csv")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("baseline, batch 1: ")
    assert (tmp_path / "f.csv").is_file()
    again = call("flip", "r/networks/baseline", *words, "--set", "iterations=2")
    assert again.out.splitlines()[:2] == outcome.out.splitlines()[:2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere.json: no such file"),
        (["."], ".: wanted a run directory or an integer network"),
        (["NET"], "data: wanted a data set, such as --data digits; "),
        (["NET", "--data", "digit"], "Did you mean 'digits'?"),
        (["NET", "--attack", "bit_ascend"], "Did you mean 'bit_ascent'?"),
        (["NET", "--flips", "0"], "n_flips: should be greater than or equal to 1, got 0"),
        (["NET", "--set", "topk=3"], "no such field. Did you mean 'top_k'?"),
        (["NET", "--set", "top_k"], "wanted KEY=VALUE"),
        (["NET", "--data", "digits", "--batches", "9"], "wanted more than 1152 test images"),
        (["NET", "--data", "digits", "--batches", "0"], "batches: should be greater"),
        (
            ["NET", "--data", "digits", "--attack", "targeted_bit_search", "--set", "target=12"],
            "target: wanted a class below 10, got 12",
        ),
        (["NET", "--data", "digits", "--device", "gpu"], "device: wanted auto, cpu or cuda"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(
    call: Call, stored: Path, words: list[str], told: str
) -> None:
    small = [] if "--batches" in words else ["--batches", "1", "--attack-images", "16"]
    outcome = call("flip", *(str(stored) if word == "NET" else word for word in words), *small)
    assert outcome.code == 2
    assert len(outcome.problems) == 1
    assert told in outcome.problems[0]


@pytest.mark.slow
def test_one_list_is_of_one_network(call: Call, toy: Path) -> None:
    assert call("run", toy, "--out", "r").code == 0
    words = ("--batches", 1, "--attack-images", 8)
    outcome = call("flip", "r", *words, "--out", "f.csv")
    assert outcome.code == 2
    assert "--out: wanted one network, r has 2: baseline, s1+s2+s3" in outcome.problems[0]


def test_threads_and_seed_are_taken(call: Call, stored: Path) -> None:
    before = torch.get_num_threads()
    outcome = call("flip", stored, *SMALL, "--threads", 1, "--seed", 3)
    torch.set_num_threads(before)
    assert outcome.code == 0


THREAT = """
[[evaluation.threats]]
kind = "adversarial_bit_errors"
levels = [1, 3]
batches = 2
"""


def test_a_run_measures_the_threat_where_there_are_integers(
    call: Call, toy: Path, tmp_path: Path
) -> None:
    toy.write_text(toy.read_text() + THREAT + "attack_images = 8\n")
    outcome = call("run", toy, "--out", "r", "--set", 'variants=["float", "baseline"]')
    assert outcome.code == 0, outcome.err
    told = "warning: float: progressive_bit_search is not measured: it flips bits of integer words"
    assert told in outcome.out
    rows = (tmp_path / "r" / "results.csv").read_text().splitlines()
    found = [row.split(",")[0] for row in rows if ",progressive_bit_search," in row]
    assert found == ["baseline"] * 6
    assert (tmp_path / "r" / "report.html").is_file()


def test_a_run_with_too_few_images_is_refused_before_it_trains(
    call: Call, toy: Path, tmp_path: Path
) -> None:
    toy.write_text(toy.read_text() + THREAT)
    outcome = call("run", toy, "--out", "r")
    assert outcome.code == 2
    assert "wanted more than 256 test images" in outcome.problems[0]
    assert not (tmp_path / "r" / "networks").exists()
