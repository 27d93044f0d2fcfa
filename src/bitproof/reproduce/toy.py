"""A recipe at toy size: the same work on next to nothing."""

from typing import Any

from bitproof.recipe import Recipe

TOY_LIMITS: dict[str, int] = {
    **{"train_size": 64, "test_size": 48, "calibration_images": 32, "attack_images": 16},
    **{"epochs": 2, "batch_size": 32, "images_per_epoch": 64, "warmup_steps": 2},
    **{"steps": 2, "grid_points": 4, "chips": 2, "queries": 3},
    **{"batches": 2, "iterations": 2, "adversarial_bit_errors.images": 16},
    **{"memory_faults.images": 16, "adversarial_examples.images": 16},
    **{"multiplier_faults.images": 16, "multiplier_faults.trials": 4},
    **{"register_faults.images": 16, "register_faults.trials": 4},
    **{"attack_on_faulty_chip.images": 16, "targets": 2},
    **{"exploration.images": 32, "exploration.profile_images": 32},
}
"""The most that a field may be at toy size, by its name, or that of its kind or table and its
own."""


def toy(recipe: Recipe) -> Recipe:
    """Return a recipe that does the same on next to nothing.

    Example:
        >>> from bitproof.recipe import Recipe
        >>> recipe = Recipe(name="x", data="digits", model="digits_cnn", train={"epochs": 20})
        >>> toy(recipe).train.epochs, toy(recipe).data.train_size
        (2, 64)
    """
    return Recipe.model_validate(_shrunk(recipe.model_dump(mode="json")))


def _shrunk(value: Any, name: str = "", kind: str = "") -> Any:
    if isinstance(value, dict):
        own = str(value.get("kind", name))
        return {key: _shrunk(part, key, own) for key, part in value.items()}
    if isinstance(value, list):
        return [_shrunk(part) for part in value]
    limit = TOY_LIMITS.get(f"{kind}.{name}", TOY_LIMITS.get(name))
    if limit is None or isinstance(value, str):
        return value
    return limit if value is None and name != "images_per_epoch" else value and min(value, limit)
