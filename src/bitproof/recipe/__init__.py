"""The TOML experiment as one validated object, and its execution."""

from bitproof.recipe.directory import RunDirectory
from bitproof.recipe.recipe import Recipe
from bitproof.recipe.runner import run
from bitproof.recipe.toml import parse_recipe, read_recipe, write_recipe

__all__ = ["Recipe", "RunDirectory", "parse_recipe", "read_recipe", "run", "write_recipe"]
