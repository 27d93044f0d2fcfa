"""Recipes as TOML: reading with errors that name the line, and writing back complete."""

import re
import tomllib
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from bitproof.core.errors import BitproofError, RecipeError
from bitproof.core.files import write_text
from bitproof.core.spec import describe_problem
from bitproof.recipe.recipe import Recipe


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a file.

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
    return parse_recipe(text, name=str(path))


def parse_recipe(text: str, *, name: str = "recipe") -> Recipe:
    """Return the recipe that `text` holds; see `read_recipe`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name}: not valid TOML: {error}") from None
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        problems = [
            f"{name}:{find_line(text, problem['loc'])}: {describe_problem(dict(problem), Recipe)}"
            for problem in error.errors()
        ]
        raise RecipeError("\n".join(problems)) from None
    except BitproofError as error:
        raise RecipeError(f"{name}: {error}") from None


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the complete recipe, defaults included.

    Raises:
        StorageError: the place cannot be written.
    """
    write_text(path, tomlkit.dumps(recipe.to_dict()))


def find_line(text: str, location: tuple[str | int, ...]) -> int:
    r"""Return the line of the deepest part of `location` that the text mentions, from 1.

    Example:
        >>> find_line('name = "x"\n[data]\nkind = "digit"\n', ("data", "kind"))
        3
    """
    best, depth, table = 1, 0, ""
    keys = [str(part) for part in location if isinstance(part, str)]
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        entry = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if header:
            table = header[1].replace('"', "").replace("'", "").replace(" ", "")
            path = table
        elif entry:
            path = f"{table}.{entry[1]}" if table else entry[1]
        else:
            continue
        matched = _common(path.split("."), keys)
        if matched == len(path.split(".")) and matched > depth:
            best, depth = number, matched
    return best


def _common(path: list[str], keys: list[str]) -> int:
    count = 0
    for a, b in zip(path, keys, strict=False):
        if a.strip("\"'") != b:
            break
        count += 1
    return count


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Return one line for each field in which two recipes differ.

    Example:
        >>> differences({"seed": 0, "data": {"kind": "a"}}, {"seed": 1, "data": {"kind": "a"}})
        ['seed: 0 before, 1 now']
    """
    lines = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} before, {b} now")
    return lines
