"""Recipes in which something is not what it should be are refused in one line, and at once."""

import copy
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import BitproofError, DivergenceError, RecipeError
from bitproof.core.spec import MOST_CHARACTERS, MOST_ENTRIES, MOST_PROBLEMS, Spec
from bitproof.recipe import ExplorationRecipe, InjectionRecipe, Recipe, read_recipe, run
from bitproof.recipe.overrides import parse_change
from bitproof.recipe.toml import parse_spec, read_spec
from tests.recipe.mutations import mutate_, toml

FOLDER = Path(__file__).parents[2] / "recipes"
TOY = Path(__file__).with_name("toy.toml")
MUTATIONS = 1000
LONGEST = 500
"""Characters of a message, without the path of the recipe."""
SECONDS = 5.0
NOT_COUNTS = {"seed", "split_seed", "chip"}
"""Numbers that say which, not how many."""


def recipes() -> list[tuple[dict[str, Any], type[Spec]]]:
    """Return all shipped recipes as complete tables, and what reads them."""
    found: list[tuple[dict[str, Any], type[Spec]]] = []
    for path in (TOY, *sorted(FOLDER.glob("*.toml"))):
        spec: type[Recipe | InjectionRecipe | ExplorationRecipe] = Recipe
        if path.name.startswith("inject"):
            spec = InjectionRecipe
        if path.name.startswith("hawx"):
            spec = ExplorationRecipe
        found.append((read_spec(path, spec).to_dict(), spec))
    return found


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in a block that takes longer, in time of the processor."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def check_sizes(value: Any, name: object = "") -> None:
    """Make sure that nothing in an accepted recipe asks for endless work or memory."""
    if isinstance(value, dict | list):
        assert len(value) <= MOST_ENTRIES
        parts = value.items() if isinstance(value, dict) else ((name, part) for part in value)
        for key, part in parts:
            check_sizes(part, key)
    elif isinstance(value, str):
        assert len(value) <= MOST_CHARACTERS
    elif isinstance(value, int | float):
        assert -(2**31) <= value <= (2**63 - 1 if name in NOT_COUNTS else 1e15)
        assert not isinstance(value, int) or name in NOT_COUNTS or value <= 10**9


def check_message(message: str, path: Path) -> None:
    """Make sure that a message is one short line for each problem, which any terminal prints."""
    lines = message.replace(str(path), "recipe.toml").split("\n")
    assert len(lines) <= MOST_PROBLEMS + 1
    for line in lines:
        assert line.isprintable(), line[:2000]
        assert len(line) <= LONGEST, line[:2000]


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("evaluation.threats.1.chips=9223372036854775808", "less than or equal to 1000000"),
        ("evaluation.threats.3.queries=1000000000000", "less than or equal to 1000000"),
        ("train.epochs=2147483648", "less than or equal to 1000000"),
        (f"evaluation.threats.2.attack.restarts={10**30}", "less than or equal to 1000000"),
        ("stages.s3.grid_points=4611686018427387904", "less than or equal to 1000000"),
        ("train.learning_rate=1e59", "less than or equal to 1e+06, got 1e+59"),
        ("seed=9223372036854775808", "less than 9223372036854775808"),
        ("evaluation.threats.1.chips=1000000", None),
        ("seed=9223372036854775807", None),
        ("stages.s1.optimization.batch_size=65536", None),
    ],
)
def test_work_without_end_is_refused_in_one_line(change: str, wanted: str | None) -> None:
    if wanted is None:
        assert read_recipe(TOY, [parse_change(change)])
    else:
        with pytest.raises(RecipeError, match=re.escape(wanted)) as refused:
            read_recipe(TOY, [parse_change(change)])
        assert len(str(refused.value).splitlines()) == 1


def test_trials_at_all_levels_together_have_an_end() -> None:
    changes = [
        parse_change(f"evaluation.threats.1.{each}")
        for each in ("chips=400000", "levels=[1e-3, 1e-2, 1e-1]")
    ]
    with pytest.raises(RecipeError, match="got 3 levels x 400000"):
        read_recipe(TOY, changes)


@pytest.mark.parametrize(
    "change",
    [
        *(f"title={'x' * 100_000}", f"{'y' * 5000}=1", f"model={'z' * 5000}", "name=a\nb"),
        *(f"seed={'9' * 5000}", f"seed={'[' * 2000}{']' * 2000}", f"{'a.' * 5000}b=1"),
        *(f"seed=0x{'f' * 5000}", f"variants={['s1', 'nosuch'] * 100_000}", "weights=\x1b[2J\0"),
    ],
    ids=range(10),
)
def test_long_values_are_not_repeated(change: str) -> None:
    with pytest.raises(RecipeError) as refused:
        read_recipe(TOY, [parse_change(change)])
    check_message(str(refused.value), TOY)


@pytest.mark.parametrize("text", ["a = " + "[" * 1000 + "]" * 1000, "a = " + "1" * 5000])
def test_text_that_toml_stumbles_over_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.toml: "):
        parse_spec(text, Recipe, name="recipe.toml")


def test_endless_file_is_refused() -> None:
    with pytest.raises(RecipeError, match="at most 4000000 bytes"):
        read_recipe(Path("/dev/zero"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["train", "stages.s1.optimization", "stages.s2.optimization"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_largest_learning_rate_ends_without_a_traceback(
    where: str, optimizer: str, tmp_path: Path
) -> None:
    said = ("learning_rate=1e6", f"optimizer={optimizer}", "weight_decay=1e15", "sam=1e15")
    changes = [parse_change(f"{where}.{each}") for each in said]
    try:
        assert run(read_recipe(TOY, changes), tmp_path / "run", device="cpu")
    except DivergenceError as error:
        check_message(str(error), TOY)


@pytest.mark.slow
def test_mutated_recipes_are_read_or_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, every, found, wrong = random.Random(18), recipes(), Counter[str](), []
    path = tmp_path / "recipe.toml"
    for number in range(MUTATIONS):
        table, spec = copy.deepcopy(draw.choice(every))
        done = mutate_(table, draw)
        path.write_text(toml(table), encoding="utf-8")
        try:
            with at_most(SECONDS):
                recipe = read_spec(path, spec)
            found["accepted"] += 1
            check_sizes(recipe.model_dump(mode="json"))
        except BitproofError as error:
            found["refused"] += 1
            try:
                check_message(str(error), path)
            except AssertionError as problem:
                wrong.append(f"{number}, {done}: {str(problem)[:1500]}")
        except TimeoutError:
            found["hangs"] += 1
            wrong.append(f"{number}, {done}: takes more than {SECONDS} s")
        except Exception as error:
            found["tracebacks"] += 1
            wrong.append(f"{number}, {done}: {type(error).__name__}: {str(error)[:300]}")
    with capsys.disabled():
        print(f"\n{MUTATIONS} mutations: {dict(found)}")  # noqa: T201
    assert not wrong, "\n".join(wrong)
