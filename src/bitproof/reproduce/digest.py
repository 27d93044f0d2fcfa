"""What a cell's number came from, in two short digests: its recipe and the code behind it.

Model:  the recipe's digest is taken of what decides the number of one variant: without names and
        remarks, without the stages and variants that it does not use, with the seeds. That of the
        code is taken of every module that the classes of the recipe, the runner and the
        evaluation rest on; see `sources`. C sources do not count: tests compare their sums with
        those of torch, bit for bit.
"""

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from bitproof.approx import Multiplier
from bitproof.core.spec import canonical_json
from bitproof.harden import ApproximationAware
from bitproof.recipe.recipe import Recipe, stages_of
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.sources import PACKAGE, Sources, installed_sources

STARTS = (
    "bitproof.recipe.runner",
    "bitproof.campaign.evaluation",
    "bitproof.campaign.summary",
    "bitproof.campaign.store",
    "bitproof.reproduce.estimates",
)
"""Modules that every number goes through."""
LEFT_OUT = {
    "bitproof.cli": "only prints",
    "bitproof.report": "only tells",
    "bitproof.recipe.directory": "where files lie",
    "bitproof.recipe.toml": "reads text; what was read is in the recipe's digest",
    "bitproof.recipe.lines": "finds lines for errors",
    "bitproof.core.differences": "words for errors",
    "bitproof.core.errors": "words for errors",
    "bitproof.core.files": "how files are written",
    "bitproof.core.halt": "when to stop; work goes on exactly",
    "bitproof.core.processes": "who runs",
    "bitproof.core.progress": "who watches",
    "bitproof.core.version": "recorded beside the number",
    "bitproof.data.archives": "gets files, which are checked against published sums",
    "bitproof.data.download": "likewise",
    "bitproof.data.fetch": "likewise",
    "bitproof.data.unpack": "likewise",
}
"""Modules that cannot change a number, with the reason."""
TABLES_ONLY = (
    "bitproof.approx",
    "bitproof.harden.approximate",
    "bitproof.kernels.forms",
    "bitproof.kernels.library",
    "bitproof.kernels.look_up",
    "bitproof.kernels.routes",
    "bitproof.quant.exact_convolution",
    "bitproof.quant.exact_gradient",
    "bitproof.quant.product_layer",
    "bitproof.quant.product_matmul",
    "bitproof.quant.product_parts",
)
"""Modules that only networks on approximate multipliers use, with what only they import. To others
they do one thing: `Arithmetic.apply` hands the network back."""


def cell_digest(job: Job, variant: str, *, sources: Sources | None = None) -> str:
    """Return the digest that the cells of one variant carry today."""
    return _digest(job, variant, job.plan.seeds, sources)


def run_digest(job: Job, variant: str, seed: int, *, sources: Sources | None = None) -> str:
    """Return the digest of what one run does for a variant; other seeds do not matter to it."""
    return _digest(job, variant, [seed], sources)


def _digest(job: Job, variant: str, seeds: Sequence[int], sources: Sources | None) -> str:
    code = code_digest(job, variant, sources=sources)
    return f"recipe:{recipe_digest(job, variant, seeds)[:16]} code:{code[:16]}"


def recipe_digest(job: Job, variant: str, seeds: Sequence[int]) -> str:
    """Return the SHA-256 of whatever in a recipe decides the numbers of one variant."""
    table = _part(job.recipe, variant).model_dump(mode="json")
    for field in ("name", "title", "source", "seed", "variants"):
        del table[field]
    text = canonical_json({**table, "variant": variant, "seeds": list(seeds)})
    return hashlib.sha256(text.encode()).hexdigest()


def code_digest(job: Job, variant: str, *, sources: Sources | None = None) -> str:
    """Return the SHA-256 of the code that the numbers of one variant rest on."""
    part = _part(job.recipe, variant)
    without = [*LEFT_OUT, *([] if _multiplies_by_tables(part) else TABLES_ONLY)]
    return (sources or installed_sources()).digest(starts_of(part), without=without)


def starts_of(recipe: Recipe) -> set[str]:
    """Return the modules that the runner and the classes in a recipe are defined in."""
    return {*STARTS, *(part for spec in _specs(recipe) for part in _ancestors(type(spec)))}


def what_changed(stored: str, today: str) -> str:
    """Return which half of two digests differs, in words; nothing if they are equal.

    Example:
        >>> what_changed("recipe:1 code:2", "recipe:1 code:3")
        'code'
    """
    pairs = zip(stored.split(), today.split(), strict=True)
    return " and ".join(new.split(":")[0] for old, new in pairs if old != new)


def _part(recipe: Recipe, variant: str) -> Recipe:
    """Return the recipe with the stages of one variant only."""
    names = stages_of(variant)
    stages, multipliers = (
        {name: known[name] for name in names if name in known}
        for known in (recipe.stages, recipe.multipliers)
    )
    update = {"stages": stages, "multipliers": multipliers, "variants": (variant,)}
    return recipe.model_copy(update=update)


def _multiplies_by_tables(recipe: Recipe) -> bool:
    return any(isinstance(spec, Multiplier | ApproximationAware) for spec in _specs(recipe))


def _specs(value: Any) -> Iterator[BaseModel]:
    """Yield all specs inside a value."""
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _specs(getattr(value, name))
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _specs(part)


def _ancestors(spec: type[BaseModel]) -> Iterator[str]:
    """Yield the modules of the package that define a class and its bases."""
    for parent in inspect.getmro(spec):
        if parent.__module__.split(".")[0] == PACKAGE:
            yield parent.__module__
