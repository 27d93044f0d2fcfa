"""Balls around clean inputs, cut off at the range [0, 1]: projecting into them, drawing from them.

Every function works per image (the first dimension), and takes centres that lie in [0, 1].
"""

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Images = Float[Tensor, "n *features"]
"""Inputs, one a row: values in [0, 1], unless said otherwise."""
Labels = Shaped[Tensor, "n *label"]
"""What the task of the attack takes: true classes, for a classification."""
Ball = Literal["Linf", "L2"]
"""Norm that measures a perturbation."""


def project_linf(points: Images, centres: Images, epsilon: float) -> Images:
    """Return the nearest points that are in [0, 1] and within `epsilon` of `centres`, per pixel.

    The bounds are rounded towards the centre, so that not even rounding leaves the ball.

    Example:
        >>> project_linf(torch.tensor([[0.9, 0.05]]), torch.tensor([[0.5, 0.0]]), 0.25)
        tensor([[0.7500, 0.0500]])
    """
    exact = centres.double()
    lower = _round((exact - epsilon).clamp(min=0), like=centres, towards=torch.inf)
    upper = _round((exact + epsilon).clamp(max=1), like=centres, towards=-torch.inf)
    return points.clamp(lower, upper)


def project_l2(points: Images, centres: Images, epsilon: float) -> Images:
    """Return points in [0, 1] at Euclidean distance up to `epsilon` from `centres`, per image.

    Points outside are pulled straight towards their centre, then cut off at [0, 1], which
    brings them nearer still. Rounding may leave a relative excess of about 1e-6.

    Example:
        >>> project_l2(torch.tensor([[0.8, 0.9]]), torch.tensor([[0.5, 0.5]]), 0.25)
        tensor([[0.6500, 0.7000]])
    """
    shift = points - centres
    shrink = (epsilon / norms(shift).clamp(min=torch.finfo(shift.dtype).tiny)).clamp(max=1)
    return (centres + shrink * shift).clamp(0, 1)


def draw_linf(centres: Images, epsilon: float, *, generator: torch.Generator) -> Images:
    """Draw points uniformly from the L-infinity balls, then cut them off at [0, 1].

    Example:
        >>> points = draw_linf(torch.zeros(2, 3), 0.1, generator=torch.Generator())
        >>> bool((points >= 0).all() and (points <= 0.1).all())
        True
    """
    noise = torch.rand(centres.shape, generator=generator).to(centres)
    return project_linf(centres + epsilon * (2 * noise - 1), centres, epsilon)


def draw_l2(centres: Images, epsilon: float, *, generator: torch.Generator) -> Images:
    """Draw points uniformly from the Euclidean balls, then cut them off at [0, 1]."""
    direction = torch.randn(centres.shape, generator=generator).to(centres)
    share = torch.rand(len(centres), generator=generator).to(centres)
    # The volume within radius r grows as r to the power of the dimension.
    radius = epsilon * share ** (1 / max(1, centres[:1].numel()))
    step = per_image(radius, direction) * direction / norms(direction)
    return project_l2(centres + step, centres, epsilon)


def norms(shift: Images) -> Float[Tensor, "n *ones"]:
    """Return the Euclidean norm of each image, shaped to be multiplied with images."""
    return per_image(shift.flatten(1).norm(dim=1), shift)


def per_image(numbers: Shaped[Tensor, " n"], images: Tensor) -> Shaped[Tensor, "n *ones"]:
    """Return one number per image, shaped to be multiplied with `images`."""
    return numbers.view(-1, *[1] * (images.ndim - 1))


def _round(exact: Tensor, *, like: Tensor, towards: float) -> Tensor:
    """Round float64 numbers to the dtype of `like`, only ever in one direction."""
    rounded = exact.to(like.dtype)
    beyond = rounded.double() < exact if towards > 0 else rounded.double() > exact
    return torch.where(beyond, torch.nextafter(rounded, torch.full_like(rounded, towards)), rounded)
