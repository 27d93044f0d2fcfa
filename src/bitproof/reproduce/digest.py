"""What a cell's number came from, in two short digests: its recipe, and how the code behaves.

Model:  the recipe's digest is taken of what decides the number of one variant: without names and
        remarks, without the stages and variants that it does not use, with the seeds. A field that
        has its default counts only where toy size would hide it: a new field with a default that
        changes nothing leaves cells alone, and a default that changes something changes the
        behaviour. That is the digest of the whole job at toy size; see `behaviour`.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from bitproof.core.spec import canonical_json
from bitproof.recipe.recipe import Recipe, stages_of
from bitproof.reproduce.jobs import Job
from bitproof.reproduce.toy import TOY_LIMITS

LIMITED = {name.rpartition(".")[2] for name in TOY_LIMITS}
"""Fields that count even where they have their defaults."""


def whole_digest(job: Job, variant: str, seeds: Sequence[int], behaviour: str) -> str:
    """Return the digest of one variant: of its cells with all seeds, of a run with its own."""
    return f"recipe:{recipe_digest(job, variant, seeds)} behaviour:{behaviour}"


def recipe_digest(job: Job, variant: str, seeds: Sequence[int]) -> str:
    """Return 16 hex digits of whatever in a recipe decides the numbers of one variant."""
    part = _part(job.recipe, variant)
    table = _decisive(
        part.model_dump(mode="json"), part.model_dump(mode="json", exclude_defaults=True)
    )
    for field in ("name", "title", "source", "seed", "variants"):
        table.pop(field, None)
    text = canonical_json({**table, "variant": variant, "seeds": list(seeds)})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parts_of(digest: str) -> dict[str, str]:
    """Return the halves of a digest by name.

    Example:
        >>> parts_of("recipe:1 behaviour:2")
        {'recipe': '1', 'behaviour': '2'}
    """
    return dict(part.split(":") for part in digest.split())


def _decisive(full: Any, given: Any) -> Any:
    """Return what was given of a dump, and whatever toy size limits.

    Args:
        full: plain values, with defaults.
        given: the same without defaults; None: all of it is a default.
    """
    if isinstance(full, list):
        parts = given if isinstance(given, list) and len(given) == len(full) else [None] * len(full)
        return [_decisive(one, own) for one, own in zip(full, parts, strict=True)]
    if not isinstance(full, dict):
        return full
    own = {} if given is None else {"kind": "", **given}
    found = {}
    for name, value in full.items():
        if name in own or name in LIMITED:
            found[name] = _decisive(value, own.get(name))
        elif isinstance(value, dict) and (inner := _decisive(value, None)):
            found[name] = inner
    return found


def _part(recipe: Recipe, variant: str) -> Recipe:
    """Return the recipe with the stages of one variant only."""
    names = stages_of(variant)
    stages, multipliers = (
        {name: known[name] for name in names if name in known}
        for known in (recipe.stages, recipe.multipliers)
    )
    update = {"stages": stages, "multipliers": multipliers, "variants": (variant,)}
    return recipe.model_copy(update=update)
