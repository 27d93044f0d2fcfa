"""Hold images out for validation: by class, and never part of a group."""

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


def hold_out(
    labels: Int64[Tensor, " n"],
    fraction: float,
    *,
    generator: torch.Generator,
    groups: Int64[Tensor, " n"] | None = None,
) -> Bool[Tensor, " n"]:
    """Mark about `fraction` of the images, spread evenly over the classes.

    Each class gives its share of units (groups, or single images) to within one, and at least
    one where its share rounds to one; it always keeps a unit. A group is held out whole.

    Args:
        labels: class of each image.
        fraction: share of the units, in [0, 1).
        generator: CPU generator that chooses the units, advanced once per class.
        groups: images with equal numbers belong together; if None, each stands alone.

    Example:
        >>> from bitproof.core.rng import make_generator
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
        >>> chosen = hold_out(labels, 0.5, generator=make_generator(0))
        >>> labels[chosen].tolist()
        [0, 0, 1, 1]
    """
    labels = labels.cpu()
    groups = torch.arange(len(labels)) if groups is None else groups.cpu()
    chosen = []
    due, given = 0.0, 0  # units that the classes so far should give, and gave: the rest is carried
    for label in labels.unique():  # type: ignore[no-untyped-call]
        units = groups[labels == label].unique()  # type: ignore[no-untyped-call]
        share = fraction * len(units)
        due += share
        count = min(max(round(due - given), int(share)), int(share) + 1)
        if share >= 0.5:
            count = max(count, 1)
        count = min(count, len(units) - 1)
        given += count
        chosen.append(units[torch.randperm(len(units), generator=generator)[:count]])
    return torch.isin(groups, torch.cat(chosen)) if chosen else torch.zeros(0, dtype=torch.bool)
