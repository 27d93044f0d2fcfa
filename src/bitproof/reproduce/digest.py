"""What a cell's number came from, in two short digests: its recipe, and how the code behaves.

Model:  the recipe's digest is taken of what decides the number of one variant: without names and
        remarks, without the stages and variants that it does not use, with the seeds. That of the
        behaviour is the digest of the whole job at toy size; see `behaviour`.
"""

import hashlib
from collections.abc import Sequence

from bitproof.core.spec import canonical_json
from bitproof.recipe.recipe import Recipe, stages_of
from bitproof.reproduce.jobs import Job


def whole_digest(job: Job, variant: str, seeds: Sequence[int], behaviour: str) -> str:
    """Return the digest of one variant: of its cells with all seeds, of a run with its own."""
    return f"recipe:{recipe_digest(job, variant, seeds)} behaviour:{behaviour}"


def recipe_digest(job: Job, variant: str, seeds: Sequence[int]) -> str:
    """Return 16 hex digits of whatever in a recipe decides the numbers of one variant."""
    table = _part(job.recipe, variant).model_dump(mode="json")
    for field in ("name", "title", "source", "seed", "variants"):
        del table[field]
    text = canonical_json({**table, "variant": variant, "seeds": list(seeds)})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parts_of(digest: str) -> dict[str, str]:
    """Return the halves of a digest by name.

    Example:
        >>> parts_of("recipe:1 behaviour:2")
        {'recipe': '1', 'behaviour': '2'}
    """
    return dict(part.split(":") for part in digest.split())


def _part(recipe: Recipe, variant: str) -> Recipe:
    """Return the recipe with the stages of one variant only."""
    names = stages_of(variant)
    stages, multipliers = (
        {name: known[name] for name in names if name in known}
        for known in (recipe.stages, recipe.multipliers)
    )
    update = {"stages": stages, "multipliers": multipliers, "variants": (variant,)}
    return recipe.model_copy(update=update)
