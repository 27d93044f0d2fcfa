"""Recipes as TOML: reading with errors that name the line, and writing back complete."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from pydantic import ValidationError

from bitproof.core.errors import RecipeError, UnknownKindError
from bitproof.core.files import read_bytes, write_text
from bitproof.core.spec import (
    MORE_PROBLEMS,
    MOST_PROBLEMS,
    Spec,
    describe_problem,
    problems_of,
)
from bitproof.core.user_code import looking_in
from bitproof.recipe.lines import Location, line_in, lines_of
from bitproof.recipe.overrides import Change, override
from bitproof.recipe.recipe import Recipe

R = TypeVar("R", bound=Spec)
LONGEST = 4_000_000
"""Characters of a recipe; one with a multiplier for each filter of a ResNet-152 has fewer."""


def read_recipe(path: Path | str, changes: Sequence[Change] = ()) -> Recipe:
    """Return the recipe in a file, with changes; see `read_spec`."""
    return read_spec(Path(path), Recipe, changes)


def read_spec(path: Path, spec: type[R], changes: Sequence[Change] = ()) -> R:
    """Return the spec in a TOML file, with changes.

    Raises:
        RecipeError: the file is missing, no TOML, or asks for what does not exist; each problem
            comes with its line, or with the change that causes it.
    """
    with looking_in(path.parent):
        return parse_spec(read_text(path), spec, name=str(path), changes=changes)


def read_text(path: Path) -> str:
    """Return the text of a recipe."""
    try:
        with path.open("rb") as file:  # what never ends is read this far
            whole = len(file.read(LONGEST + 1)) <= LONGEST
        text = read_bytes(path).decode() if whole else ""
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror})") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: wanted UTF-8 text") from None
    if not whole:
        raise RecipeError(f"{path}: wanted a recipe of at most {LONGEST} bytes")
    return text


def parse_spec(text: str, spec: type[R], *, name: str, changes: Sequence[Change] = ()) -> R:
    """Return the spec that `text` holds, with changes; see `read_spec`. No `name`: no file."""
    table = override(parse_table(text, name), changes)
    try:
        return spec.model_validate(table)
    except ValidationError as error:
        every, known = problems_of(error), lines_of(text)
        problems = [
            (*_source(_location(problem), known, name, changes), describe_problem(problem, spec))
            for problem in every[:MOST_PROBLEMS]
        ]
    lines = [source + problem for _, source, problem in sorted(problems)]
    if len(every) > MOST_PROBLEMS:
        lines.append(f"{name}: {MORE_PROBLEMS}" if name else MORE_PROBLEMS)
    raise RecipeError("\n".join(lines))


def parse_table(text: str, name: str) -> dict[str, Any]:
    """Return the table that `text` holds."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else len(text.splitlines()) or 1
        raise RecipeError(f"{name}:{number}: not valid TOML: {error}") from None
    except RecursionError:
        raise RecipeError(f"{name}: wanted fewer lists and tables in each other") from None
    except ValueError as error:  # Python reads no number of thousands of digits
        raise RecipeError(f"{name}: not valid TOML: {error}") from None


def _source(
    location: Location, known: Mapping[Location, int], name: str, changes: Sequence[Change]
) -> tuple[int, str]:
    """Return the line of a problem (0: of none), and how to tell where it comes from."""
    for change in reversed(changes):
        if change.touches(location):
            return 0, f"{change.said}: "
    line = line_in(known, location)
    return (line, f"{name}:{line}: ") if name else (0, "")


def _location(problem: dict[str, Any]) -> Location:
    """Return where the problem is; that of an unknown kind is in its `kind`."""
    cause = problem.get("ctx", {}).get("error")
    extra = ("kind",) if isinstance(cause, UnknownKindError) else ()
    return (*problem["loc"], *extra)


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the complete recipe, defaults included."""
    write_text(path, tomlkit.dumps(recipe.to_dict()))
