"""Recipes as TOML: reading with errors that name the line, and writing back complete."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from pydantic import ValidationError

from bitproof.core.errors import RecipeError, UnknownKindError
from bitproof.core.files import write_text
from bitproof.core.spec import Spec, describe_problem, problems_of
from bitproof.recipe.lines import Location, find_line
from bitproof.recipe.overrides import Change, override
from bitproof.recipe.recipe import Recipe

R = TypeVar("R", bound=Spec)


def read_recipe(path: Path, changes: Sequence[Change] = ()) -> Recipe:
    """Return the recipe in a file, with changes; see `read_spec`."""
    return read_spec(path, Recipe, changes)


def read_spec(path: Path, spec: type[R], changes: Sequence[Change] = ()) -> R:
    """Return the spec in a TOML file, with changes.

    Raises:
        RecipeError: the file is missing, no TOML, or asks for what does not exist; each problem
            comes with its line, or with the change that causes it.
    """
    return parse_spec(read_text(path), spec, name=str(path), changes=changes)


def read_text(path: Path) -> str:
    """Return the text of a recipe."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: wanted UTF-8 text") from None


def parse_spec(text: str, spec: type[R], *, name: str, changes: Sequence[Change] = ()) -> R:
    """Return the spec that `text` holds, with changes; see `read_spec`. No `name`: no file."""
    table = override(parse_table(text, name), changes)
    try:
        return spec.model_validate(table)
    except ValidationError as error:
        problems = [
            (*_source(_location(problem), text, name, changes), describe_problem(problem, spec))
            for problem in problems_of(error)
        ]
    raise RecipeError("\n".join(source + problem for _, source, problem in sorted(problems)))


def parse_table(text: str, name: str) -> dict[str, Any]:
    """Return the table that `text` holds."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of too many digits or brackets
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else len(text.splitlines()) or 1
        raise RecipeError(f"{name}:{number}: not valid TOML: {error}") from None


def _source(location: Location, text: str, name: str, changes: Sequence[Change]) -> tuple[int, str]:
    """Return the line of a problem (0: of none), and how to tell where it comes from."""
    for change in reversed(changes):
        if change.touches(location):
            return 0, f"{change.said}: "
    line = find_line(text, location)
    return (line, f"{name}:{line}: ") if name else (0, "")


def _location(problem: dict[str, Any]) -> Location:
    """Return where the problem is; that of an unknown kind is in its `kind`."""
    cause = problem.get("ctx", {}).get("error")
    extra = ("kind",) if isinstance(cause, UnknownKindError) else ()
    return (*problem["loc"], *extra)


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the complete recipe, defaults included."""
    write_text(path, tomlkit.dumps(recipe.to_dict()))
