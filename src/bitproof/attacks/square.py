"""Square attack: random search over squares of flipped sign, in the L-infinity ball.

Model:  black box with scores; the attacker sees logits only, so the attack
        does not notice whether a model hides its gradients.
Source: Andriushchenko et al., "Square Attack: a query-efficient black-box
        adversarial attack via random search", ECCV 2020 (algorithms 1 and 2,
        margin loss). Unlike there, each image of a batch has its own squares.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from bitproof.attacks.balls import Images, Labels
from bitproof.attacks.base import ATTACKS, Classifier, InputAttack, check_images
from bitproof.attacks.random_search import draw_signs, search_at_random
from bitproof.core.rng import draw_seed
from bitproof.core.types import Count, Fraction

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, out of 10 000, after which the area of the squares halves."""


@ATTACKS.register
class LinfSquare(InputAttack):
    """Start from vertical stripes; keep each random square that lowers the margin.

    Used beside `linf_pgd`: where it finds more than the gradients do, they are masked.

    Example:
        >>> LinfSquare(epsilon=8 / 255).area(0), LinfSquare(epsilon=8 / 255).area(199)
        (0.8, 0.0015625)
    """

    kind: Literal["linf_square"] = "linf_square"
    queries: Count = 200
    """Perturbed inputs to try per image; the first is the one with stripes."""
    initial_area: Fraction = 0.8
    """Share of the image that the first squares cover (0.8 is the choice of AutoAttack)."""

    def area(self, query: int) -> float:
        """Return the share of the image that the square of this query covers."""
        done = query * 10_000 // self.queries
        return self.initial_area * 0.5 ** sum(done > halving for halving in HALVINGS)

    def search(
        self, model: Classifier, inputs: Images, labels: Labels, *, generator: torch.Generator
    ) -> Images:
        """Return the inputs with the lowest margin; `generator` advances by one draw."""
        check_images(inputs)
        own = torch.Generator().manual_seed(draw_seed(generator))
        n, c, h, w = inputs.shape

        def propose(query: int, best: Tensor) -> Tensor:
            if query == 0:
                stripes = draw_signs(n, c, 1, w, generator=own).to(inputs)
                return self.project(inputs + self.epsilon * stripes, inputs)
            side = min(max(1, round(math.sqrt(self.area(query) * h * w))), h, w)
            square = _draw_squares(n, h, w, side=side, generator=own).to(inputs.device)
            signs = draw_signs(n, c, 1, 1, generator=own).to(inputs)
            # A step of twice epsilon, cut off at the ball, ends at epsilon wherever it began.
            return torch.where(square, self.project(inputs + self.epsilon * signs, inputs), best)

        return search_at_random(model, inputs, labels, propose=propose, queries=self.queries)


def _draw_squares(n: int, h: int, w: int, *, side: int, generator: torch.Generator) -> Tensor:
    """Draw one square window per image, as a mask of shape `n 1 h w`."""
    top = torch.randint(h - side + 1, (n, 1, 1, 1), generator=generator)
    left = torch.randint(w - side + 1, (n, 1, 1, 1), generator=generator)
    rows, columns = torch.arange(h)[:, None], torch.arange(w)
    return (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
