from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.core.errors import RecipeError
from bitproof.recipe import Recipe
from bitproof.recipe.overrides import override, parse_change
from bitproof.recipe.toml import parse_spec

TOY = """
name = "toy"
data = "digits"
model = "digits_cnn"
[train]
epochs = 1
"""


def changed(table: dict[str, Any], *texts: str) -> dict[str, Any]:
    return override(table, [parse_change(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 0.001),
        ("true", True),
        ("'3'", "3"),
        ("cell", "cell"),
        ("layer1.*", "layer1.*"),
        ("", ""),
        ("[1, 2]", [1, 2]),
        ("{kind = 'burst', length = 3}", {"kind": "burst", "length": 3}),
        ("a=b", "a=b"),
        ("1\nb = 2", "1\nb = 2"),
        ("[1, 2", "[1, 2"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_values_are_toml_or_bare_words(text: str, value: object) -> None:
    assert parse_change(f"key={text}").value == value


@pytest.mark.parametrize("text", ["", "key", "=1", "a..b=1", ".a=1", "a.=1"])
def test_a_change_has_a_key_and_a_value(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^--set .*: wanted KEY=VALUE"):
        parse_change(text)


def test_fields_tables_and_elements_of_lists_are_replaced_or_made() -> None:
    table = {"a": {"b": [{"c": 1}, {"c": 2}]}, "d": 4}
    assert changed(table, "a.b.1.c=5", "a.b.0.x.y=6", "d=7", "e.f=8", "a.b.2.c=9", "g.0=1") == {
        "a": {"b": [{"c": 1, "x": {"y": 6}}, {"c": 5}, {"c": 9}]},
        "d": 7,
        "e": {"f": 8},
        "g": [1],
    }
    assert table == {"a": {"b": [{"c": 1}, {"c": 2}]}, "d": 4}


def test_a_name_and_none_become_tables() -> None:
    assert changed({"data": "digits", "train": "none"}, "data.test_size=4", "train.epochs=1") == {
        "data": {"kind": "digits", "test_size": 4},
        "train": {"epochs": 1},
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.3.c=1", "--set a.3.c=1: a is a list: wanted a position from 0 to 2 .*, got '3'"),
        ("a.c=1", "wanted a position from 0 to 2"),
        ("b.3=1", "b is a list: wanted a position from 0 to 0"),
        ("d.x=1", "d is 4, which has no fields"),
    ],
)
def test_a_place_that_cannot_be_is_refused(text: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        changed({"a": [{}, {}], "d": 4}, text)


@given(st.sampled_from(["data", "seed", "train.epochs", "x.1"]) | st.text(), st.text())
def test_whatever_is_set_a_recipe_or_one_kind_of_error_comes(key: str, value: str) -> None:
    with suppress(RecipeError):
        parse_spec(TOY, Recipe, name="toy", changes=[parse_change(f"{key}={value}")])


def test_the_recipe_is_the_one_that_says_the_same() -> None:
    changes = [parse_change("train.epochs=2"), parse_change("seed=5")]
    found = parse_spec(TOY, Recipe, name="toy", changes=changes)
    text = TOY.replace("epochs = 1", "epochs = 2").replace("[train]", "seed = 5\n[train]")
    same = parse_spec(text, Recipe, name="toy")
    assert found == same
    assert found.digest() == same.digest()


def test_each_problem_tells_where_it_comes_from() -> None:
    changes = [parse_change("train.batch_size=0"), parse_change("evalation.seed=1")]
    with pytest.raises(RecipeError) as caught:
        parse_spec(TOY.replace("epochs", "epocs"), Recipe, name="toy.toml", changes=changes)
    assert str(caught.value).splitlines() == [
        "--set evalation.seed=1: evalation: no such field. Did you mean 'evaluation'?",
        "--set train.batch_size=0: train.batch_size: should be greater than or equal to 1, got 0",
        "toy.toml:6: train.epocs: no such field. Did you mean 'epochs'?",
    ]
