"""How far features move when the input is perturbed.

Source: METHODS A.3 (2).
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

FeatureDistance = Literal["relative", "cosine"]


def feature_distance(
    clean: Float[Tensor, "n f"], moved: Float[Tensor, "n f"], kind: FeatureDistance
) -> Float[Tensor, ""]:
    """Return the mean over images of `|a - b|^2 / (|a|^2 + 1e-8)`, or of `1 - cos(a, b)`.

    Example:
        >>> import torch
        >>> float(feature_distance(torch.ones(1, 4), torch.zeros(1, 4), "relative"))
        1.0
    """
    clean, moved = clean.float(), moved.float()
    if kind == "cosine":
        return (1 - cosine_similarity(clean, moved, dim=1)).mean()
    squared = (clean - moved).square().sum(1)
    return (squared / (clean.square().sum(1) + 1e-8)).mean()
