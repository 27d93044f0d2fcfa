import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.cli.inject import component, executor_of, parse_shard, recipe_of
from bitproof.core.errors import RecipeError, SpecError, UnknownKindError

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""
SMALL = ("inject", "--model", "digits_cnn", "--images", 8, "--trials", 40)


def test_options_alone_make_a_campaign_and_print_its_table(call: Call, tmp_path: Path) -> None:
    outcome = call(*SMALL, "--site", "weight,bias", "--bits", 4, "--out", "c")
    assert outcome.code == 0
    assert "SDC-1, %, by layer and bit" in outcome.out
    assert "40 of 40 planned trials" in outcome.out
    assert "checksum of the counts: " in outcome.out
    with (tmp_path / "c" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["site"] for row in rows} == {"", "weight", "bias"}
    assert {row["bit"] for row in rows} == {"", "0", "1", "2", "3"}


def test_a_list_is_exported_edited_and_replayed(call: Call, tmp_path: Path) -> None:
    call(*SMALL, "--out", "c", "--bit", 7)
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
    call(*SMALL, "--out", "c")
    before = (tmp_path / "c" / "results.csv").read_bytes()
    assert call(*SMALL, "--out", "c").problems == [
        "bitproof: c: holds a campaign already; go on with --resume, or choose another --out"
    ]
    assert call(*SMALL, "--out", "c", "--resume").code == 0
    assert (tmp_path / "c" / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--site", "weigth"], "sites"),
        (["--kind", "flipp"], "Did you mean 'flip'?"),
        (["--layer", "conf1"], "Did you mean 'conv1'"),
        (["--protect", "secdet"], "Did you mean 'secded'?"),
        (["--rate", "2"], "rate"),
        (["--bit", "9", "--site", "weight"], "wanted bits to break, got none"),
        (["--list", "nowhere.csv"], "wanted a file 'nowhere.csv', there is none"),
        (["--engine", "rey"], "Did you mean 'ray'?"),
        (["--shard", "3/2"], "shard: wanted K/N"),
        (["--network", "net"], "wanted one of 'model' and 'network'"),
        (["--bits", "9"], "bits"),
        (["--stop", "fixed_looks"], "margin"),
    ],
)
def test_a_wrong_option_is_one_line_and_code_2(words: list[str], told: str, call: Call) -> None:
    outcome = call(*SMALL, *words, "--out", "c")
    assert outcome.code == 2
    assert len(outcome.problems) == 1
    assert told in outcome.err


def test_a_recipe_and_options_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match="--margin"):
        recipe_of(Path("x.toml"), {"margin": 0.1, "rate": None, "exhaustive": False})


def test_components_read_values_as_toml() -> None:
    assert component("burst:length=3") == {"kind": "burst", "length": 3}
    assert component("word_line:line=row,words=8") == {
        "kind": "word_line",
        "line": "row",
        "words": 8,
    }
    with pytest.raises(SpecError, match="KIND:field=value"):
        component("burst:length")


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
