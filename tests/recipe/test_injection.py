import json
import random
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import BitproofError, FaultListError, RecipeError
from bitproof.data import Splits
from bitproof.evaluation import Processes
from bitproof.faults import read_fault_list
from bitproof.quant import IntegerNetwork, quantize, save_network
from bitproof.recipe import InjectionRecipe, inject, inject_recipe
from bitproof.recipe.toml import parse_spec, read_spec
from bitproof.recipe.verbs import build_model, load_data

RECIPE = """
recipe = 1
name = "small"
data = { kind = "digits" }
model = { kind = "digits_cnn" }

[injection]
trials = 40
images = 8

[[injection.faults]]
sites = ["weight", "accumulator"]
kind = { kind = "burst", length = 2 }
layers = ["*conv*", "*"]
bits = [0, 7]
"""


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_data("digits")


@pytest.fixture(scope="module")
def network(splits: Splits) -> IntegerNetwork:
    model = build_model("digits_cnn", splits).eval()
    return quantize(model, splits.train.inputs(slice(0, 64)))


def parse(text: str) -> InjectionRecipe:
    return parse_spec(text, InjectionRecipe, name="r.toml")


def test_a_recipe_gives_report_tables_and_summary(tmp_path: Path) -> None:
    report = inject_recipe(parse(RECIPE), tmp_path / "c")
    assert report == tmp_path / "c" / "report.html"
    for name in ("results.csv", "table.tex", "summary.json", "faults.parquet", "plan.json"):
        assert (tmp_path / "c" / name).stat().st_size > 0


def test_a_campaign_on_a_stored_network_equals_the_one_on_its_model(
    network: IntegerNetwork, splits: Splits, tmp_path: Path
) -> None:
    save_network(network, tmp_path / "net")
    text = RECIPE.replace('model = { kind = "digits_cnn" }', 'network = "net"')
    inject_recipe(parse(text), tmp_path / "c", recipe_dir=tmp_path)
    stored = json.loads((tmp_path / "c" / "summary.json").read_text())
    direct = inject(network, splits.test, parse(RECIPE).injection)
    assert stored["totals"] == direct["totals"]


def test_shares_on_one_directory_end_with_the_report(tmp_path: Path) -> None:
    recipe = parse(RECIPE.replace("trials = 40", "trials = 200"))
    found = [inject_recipe(recipe, tmp_path / "c", shard=(k, 2)) for k in (1, 2)]
    assert found == [None, tmp_path / "c" / "report.html"]


@pytest.mark.slow
def test_the_verb_keeps_a_directory_only_if_asked(
    network: IntegerNetwork, splits: Splits, tmp_path: Path
) -> None:
    injection = parse(RECIPE).injection
    kept = inject(network, splits.test, injection, out=tmp_path / "c")
    gone = inject(network, splits.test, injection, executor=Processes(workers=1))
    assert kept["totals"] == gone["totals"]
    assert (tmp_path / "c" / "report.html").exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ('sites = ["weigth"]', "r.toml:12: injection.faults.0.sites.0"),
        ('kind = { kind = "flipp" }', "Did you mean 'flip'"),
        ("count = 0", "injection.faults.0.count"),
        ("rate = 2.0", "injection.faults.0.rate"),
        ("count = 2\nexhaustive = true", "wanted one of count, rate and exhaustive"),
    ],
)
def test_a_wrong_field_is_told_with_its_line(wrong: str, told: str) -> None:
    text = RECIPE[: RECIPE.index("sites")] + wrong + "\n"
    with pytest.raises(RecipeError) as error:
        parse(text)
    assert told in str(error.value)


def test_model_and_network_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match="one of 'model' and 'network'"):
        parse('network = "x"\n' + RECIPE)


def test_the_recipes_of_the_repository_can_be_read() -> None:
    path = Path(__file__).parents[2] / "recipes" / "inject-resnet20.toml"
    assert read_spec(path, InjectionRecipe).injection.margin == 0.01


def mangled(text: str, draw: random.Random) -> str:
    """Return `text` with a few characters, words or lines deleted, doubled, swapped or replaced."""
    for _ in range(draw.randint(1, 4)):
        lines = text.splitlines()
        at = draw.randrange(len(lines))
        match draw.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(draw.randrange(len(lines)), lines[at])
            case 2:
                words = lines[at].split(" ")
                junk = ['""', "-1", "1e999", "nan", "[]", "{}", "true", "\x00", "é", "9" * 30, '"']
                words[draw.randrange(len(words))] = draw.choice(junk)
                lines[at] = " ".join(words)
            case 3:
                cut = draw.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:cut]
            case _:
                chars = list(lines[at] or " ")
                chars[draw.randrange(len(chars))] = chr(draw.randrange(1, 0x250))
                lines[at] = "".join(chars)
        text = "\n".join(lines) or " "
    return text


def read_all(n: int, seed: int, folder: Path) -> dict[str, int]:
    """Read `n` mangled recipes and as many fault lists; anything but our errors comes through."""
    draw = random.Random(seed)
    told: dict[str, list[str]] = {"recipe": [], "list": []}
    rows = "".join(f"{t},weight,conv1,{t % 7},-1,{t % 8},flip\n" for t in range(6))
    listed = "trial,site,layer,element,tap,bit,action\n" + rows
    path = folder / "faults.csv"
    for _ in range(n):
        try:
            parse(mangled(RECIPE, draw))
        except BitproofError as error:
            told["recipe"].append(str(error))
        path.write_text(mangled(listed, draw), encoding="utf-8")
        try:
            read_fault_list(path, layers=["conv1"])
        except FaultListError as error:
            told["list"].append(str(error))
    assert all(told["recipe"])
    assert not any("\n" in line for line in told["list"])
    return {name: len(lines) for name, lines in told.items()}


def test_malformed_recipes_and_lists_are_refused_in_words(tmp_path: Path) -> None:
    counts = read_all(150, 0, tmp_path)
    assert min(counts.values()) > 50


@pytest.mark.slow
def test_ten_thousand_malformed_recipes_and_lists_are_refused_in_words(tmp_path: Path) -> None:
    read_all(10_000, 1, tmp_path)


def test_a_recipe_survives_its_dictionary() -> None:
    recipe = parse(RECIPE)
    table: dict[str, Any] = recipe.to_dict()
    assert InjectionRecipe.model_validate(table) == recipe
