"""Recipes as TOML: reading with errors that name the line, and writing back complete."""

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from pydantic import ValidationError

from bitproof.core.errors import RecipeError, UnknownKindError
from bitproof.core.files import write_text
from bitproof.core.spec import Spec, describe_problem
from bitproof.recipe.lines import Location, find_line
from bitproof.recipe.recipe import Recipe

R = TypeVar("R", bound=Spec)


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a file.

    Raises:
        RecipeError: see `read_spec`.
    """
    return read_spec(path, Recipe)


def parse_recipe(text: str, *, name: str = "recipe") -> Recipe:
    """Return the recipe that `text` holds; see `read_spec`."""
    return parse_spec(text, Recipe, name=name)


def read_spec(path: Path, spec: type[R]) -> R:
    """Return the spec in a TOML file.

    Raises:
        RecipeError: the file is missing, no TOML, or asks for what does not exist; each problem
            is told with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: wanted UTF-8 text") from None
    return parse_spec(text, spec, name=str(path))


def parse_spec(text: str, spec: type[R], *, name: str) -> R:
    """Return the spec that `text` holds; see `read_spec`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else len(text.splitlines()) or 1
        raise RecipeError(f"{name}:{number}: not valid TOML: {error}") from None
    try:
        return spec.model_validate(table)
    except ValidationError as error:
        problems = [
            (find_line(text, _location(problem)), describe_problem(problem, spec))
            for problem in map(dict, error.errors())
        ]
    lines = [f"{name}:{number}: {problem}" for number, problem in sorted(problems)]
    raise RecipeError("\n".join(lines))


def _location(problem: dict[str, Any]) -> Location:
    """Return where the problem is; that of an unknown kind is in its `kind`."""
    cause = problem.get("ctx", {}).get("error")
    extra = ("kind",) if isinstance(cause, UnknownKindError) else ()
    return (*problem["loc"], *extra)


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the complete recipe, defaults included.

    Raises:
        StorageError: the place cannot be written.
    """
    write_text(path, tomlkit.dumps(recipe.to_dict()))
