import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bitproof.cli.inject import recipe_of
from bitproof.cli.options import parse_shard
from bitproof.cli.running import executor_of
from bitproof.core.errors import RecipeError, SpecError, UnknownKindError
from bitproof.quant import Scheme, quantize, save_network
from bitproof.recipe import InjectionRecipe

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
SMALL = ("inject", "--model", "digits_cnn", "--set", "injection.images=8", "--trials", 40)
FEW = (*SMALL[:-1], 4)


def test_options_alone_make_a_campaign_and_print_its_table(call: Call, tmp_path: Path) -> None:
    outcome = call(*SMALL, "--site", "weight,bias", "--bits", 4, "--out", "c")
    assert outcome.code == 0
    assert "SDC-1, %, by layer and bit" in outcome.out
    assert "40 of 40 planned trials" in outcome.out
    assert "checksum of the counts: " in outcome.out
    with (tmp_path / "c" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["site"] for row in rows} == {"", "weight", "bias"}
    bits = {row["bit"] for row in rows if row["site"] == "weight"}
    assert bits == {"", "0", "1", "2", "3"}


def test_a_list_is_exported_edited_and_replayed(call: Call, tmp_path: Path) -> None:
    call(*SMALL, "--out", "c", "--set", "injection.faults.0.bits=[7]")
    assert call("faults", "c", "--out", "f.csv").out == "40 faults of 40 trials: f.csv\n"
    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert all(line.split(",")[5] == "7" for line in lines[1:])
    (tmp_path / "f.csv").write_text("\n".join(lines[:11]) + "\n")
    outcome = call(*SMALL[:-2], "--list", "f.csv", "--out", "d")
    assert "10 of 10 planned trials" in outcome.out


def test_report_prints_a_campaign_anew(call: Call, tmp_path: Path) -> None:
    printed = call(*SMALL, "--out", "c").out
    (tmp_path / "c" / "report.html").unlink()
    again = call("report", "c")
    assert again.code == 0
    assert again.out.splitlines()[-3:] == printed.splitlines()[-4:-1]
    assert (tmp_path / "c" / "report.html").exists()
    assert "c/figures/convergence-flip-in-weight-sdc-1.pdf" in call("figures", "c").out


def test_resuming_a_finished_campaign_gives_the_same(call: Call, tmp_path: Path) -> None:
    call(*FEW, "--out", "c")
    before = (tmp_path / "c" / "results.csv").read_bytes()
    assert call(*FEW, "--out", "c").problems == [
        "bitproof: c: holds a campaign already; go on with --resume, or choose another --out"
    ]
    assert call(*FEW, "--out", "c", "--resume").code == 0
    assert (tmp_path / "c" / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--site", "weigth"], "--site: injection.faults.0.sites.1: "),
        (["--trials", "0"], "--trials: injection.trials: should be greater"),
        (["--model", "digits_cn"], "--model: model: models: no kind 'digits_cn'. Did you mean "),
        (["--set", "injection.faults.0.kind=flipp"], "Did you mean 'flip'?"),
        (["--set", "injection.faults.0.layers=['conf1']"], "Did you mean 'conv1'"),
        (["--set", "injection.protections=['secdet']"], "Did you mean 'secded'?"),
        (["--set", "injection.faults.0.rate=2"], "--set injection.faults.0.rate=2: injection.f"),
        (["--set", "injection.faults.0.chanels=[1]"], "no such field. Did you mean 'channels'?"),
        (["--set", "injction.seed=1"], "--set injction.seed=1: injction: no such field. Did you "),
        (["--set", "injection.faults.sites=x"], "wanted a position from 0 to 1"),
        (["--set", "injection"], "--set injection: wanted KEY=VALUE"),
        (["--set", "injection.faults.0.bits=[9]"], "wanted bits to break, got none"),
        (["--set", "injection.stop=fixed_looks"], "margin"),
        (["--list", "nowhere.csv"], "wanted a file 'nowhere.csv', there is none"),
        (["--engine", "rey"], "Did you mean 'ray'?"),
        (["--shard", "3/2"], "shard: wanted K/N"),
        (["--network", "net"], "wanted one of 'model' and 'network'"),
        (["--bits", "9"], "should be less than or equal to 8"),
    ],
)
def test_a_wrong_option_is_told_and_code_2(words: list[str], told: str, call: Call) -> None:
    outcome = call(*SMALL, "--site", "weight", *words, "--out", "c")
    assert outcome.code == 2
    assert told in outcome.problems[-1]
    assert len(outcome.problems) == 1 or "--bits" in words  # Typer's own, with the usage
    assert not Path("c/plan.json").exists()


TWO_KINDS = """
name = "two"
model = "digits_cnn"
data = { kind = "digits", test_size = 30 }
quantization = { weight = { kind = "affine", bits = 6, symmetric = true }, bias = "none" }
[injection]
trials = 7
[[injection.faults]]
sites = ["weight"]
[[injection.faults]]
sites = ["bias"]
"""


def test_options_and_sets_lie_on_top_of_the_recipe_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(TWO_KINDS)
    sets = ["injection.trials=9", "injection.faults.1.sites=['output']", "data.test_size=20"]
    recipe = recipe_of(path, {"margin": 0.1, "trials": 8, "bits": 4, "site": []}, sets)
    assert (recipe.name, recipe.title) == ("two", "")
    assert (recipe.injection.margin, recipe.injection.trials) == (0.1, 9)
    assert [group.sites for group in recipe.injection.faults] == [("weight",), ("output",)]
    assert recipe.data.model_dump()["test_size"] == 20
    weight = {"kind": "affine", "bits": 4, "symmetric": True}
    assert recipe.quantization == Scheme(weight=weight, bias=None, activation_bits=4)


def test_a_site_for_one_of_several_kinds_of_fault_has_to_say_which(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(TWO_KINDS)
    with pytest.raises(RecipeError, match="2 kinds of fault; say which, such as --set"):
        recipe_of(path, {"site": ["output"]}, [])


def test_a_problem_of_the_file_keeps_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(TWO_KINDS.replace("trials = 7", "trails = 7"))
    with pytest.raises(RecipeError, match=r"^/\S+r\.toml:7: injection.trails: no such field. Did"):
        recipe_of(path, {"margin": 0.1}, [])


def test_options_alone_are_the_recipe_that_says_the_same() -> None:
    found = recipe_of(None, {"model": "resnet20", "bits": 4, "site": ["weight,bias"]}, ["seed=3"])
    assert found == InjectionRecipe.model_validate(
        {
            "title": "bitproof inject --model resnet20 --bits 4 --site weight,bias --set seed=3",
            "data": {"kind": "digits"},
            "model": {"kind": "resnet20"},
            "quantization": {"preset": "accurate", "bits": 4, "activation_bits": 4},
            "seed": 3,
            "injection": {"faults": [{"sites": ["weight", "bias"]}]},
        }
    )


def test_models_without_a_recipe_are_quantized_accurately_unless_said_otherwise() -> None:
    plain = recipe_of(None, {"model": "resnet20"}, [])
    assert plain.quantization == Scheme("accurate")
    sets = ["quantization.preset=rquant"]
    assert recipe_of(None, {"model": "resnet20"}, sets).quantization == Scheme()
    assert recipe_of(None, {"network": "runs/x"}, []).quantization == Scheme()


def test_engines_by_name_and_by_number_of_workers() -> None:
    assert executor_of("auto", None).kind == "in_process"
    assert executor_of("auto", 1).kind == "in_process"
    assert executor_of("auto", 2).model_dump() == {"kind": "processes", "workers": 2}
    assert executor_of("ray", 3).model_dump()["workers"] == 3
    with pytest.raises(UnknownKindError):
        executor_of("spark", None)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2"])
def test_shards_are_counted_from_one(text: str) -> None:
    assert parse_shard("2/8") == (2, 8)
    with pytest.raises(SpecError, match="wanted K/N"):
        parse_shard(text)


def test_a_list_without_faults_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("trial,site,layer,element,tap,bit,action\n")
    outcome = call(*SMALL[:-2], "--list", "f.csv", "--out", "d")
    assert outcome.code == 2
    assert outcome.problems == ["bitproof: f.csv: wanted at least one fault, got only the header"]


def test_a_list_with_one_large_number_has_one_trial(call: Call, tmp_path: Path) -> None:
    header = "trial,site,layer,element,tap,bit,action"
    call(*SMALL, "--out", "c")
    call("faults", "c", "--out", "f.csv")
    row = (tmp_path / "f.csv").read_text().splitlines()[1].split(",")
    (tmp_path / "f.csv").write_text(f"{header}\n{','.join(['20000', *row[1:]])}\n")
    outcome = call(*SMALL[:-2], "--list", "f.csv", "--out", "d")
    assert "1 of 1 planned trials" in outcome.out
    assert "1 trials have faults, with numbers up to 20000" in outcome.out


def test_a_network_for_other_images_is_refused(call: Call, tmp_path: Path) -> None:
    images = torch.rand(8, 1, 12, 12)
    layers = torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 10)
    save_network(quantize(torch.nn.Sequential(*layers), images), tmp_path / "mine")
    outcome = call("inject", "--network", "mine", "--data", "digits", "--trials", "5", "--out", "d")
    assert outcome.code == 2
    assert outcome.problems == [
        "bitproof: mine: wanted a network for digits (images of 1 x 8 x 8), this one takes others"
    ]


def test_labels_beyond_the_outputs_are_refused(call: Call, tmp_path: Path) -> None:
    layers = torch.nn.Flatten(), torch.nn.Linear(64, 7)
    network = quantize(torch.nn.Sequential(*layers), torch.rand(8, 1, 8, 8))
    save_network(network, tmp_path / "mine")
    outcome = call("inject", "--network", "mine", "--data", "digits", "--trials", "5", "--out", "d")
    assert outcome.code == 2
    assert "10 classes), this one answers 7" in outcome.problems[0]


def test_worst_layers_bits_and_faults_are_told(call: Call, tmp_path: Path) -> None:
    outcome = call(*SMALL, "--bits", 4, "--out", "c")
    assert "layers by harm" in outcome.out
    assert "bits by harm" in outcome.out
    assert "by layer: " in outcome.out
    assert "by bit of a layer: " in outcome.out
    with (tmp_path / "c" / "ranking.csv").open() as file:
        ranked = list(csv.DictReader(file))
    assert {row["of"] for row in ranked} == {"layer", "bit", "cell"}
    with (tmp_path / "c" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["outcome"] == "sdc1" and row["site"]]
    rates = {(row["layer"], row["bit"]): row["value"] for row in rows}
    assert {(row["layer"], row["bit"]): row["value"] for row in ranked} == rates
    told = call("faults", "c", "--outcomes", "--top", 3, "--out", "o.csv")
    assert told.code == 0
    with (tmp_path / "o.csv").open() as file:
        faults = list(csv.DictReader(file))
    assert told.out.splitlines()[-1] == "40 faults of 40 trials with what they did: o.csv"
    assert len(faults) == 40
    assert {"trial", "layer", "bit", "before", "after", "outcome", "sdc1", "acc_lost"} <= set(
        faults[0]
    )
    most = max(int(row["sdc1"]) for row in faults)
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Which layers, which bits are worst" in page
    assert f"{most} of 8" in page if most else "did harm" in page
