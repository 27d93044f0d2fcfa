"""The TOML experiment as one validated object, and its execution."""

from bitproof.recipe.analysis import Analysis, analyze
from bitproof.recipe.directory import RunDirectory
from bitproof.recipe.exploration import ExplorationRecipe, explore_recipe
from bitproof.recipe.injection import InjectionRecipe, inject, inject_recipe
from bitproof.recipe.recipe import Recipe
from bitproof.recipe.runner import run
from bitproof.recipe.toml import read_recipe, read_spec, write_recipe

__all__ = [
    "Analysis",
    "ExplorationRecipe",
    "InjectionRecipe",
    "Recipe",
    "RunDirectory",
    "analyze",
    "explore_recipe",
    "inject",
    "inject_recipe",
    "read_recipe",
    "read_spec",
    "run",
    "write_recipe",
]
