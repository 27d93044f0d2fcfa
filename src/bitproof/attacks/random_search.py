"""Random search for misclassified inputs, from logits alone: random signs, and the Square attack.

Model:  black box with scores; the attacker sees logits, no weights and no gradients, so a model
        that merely hides its gradients gains nothing.
Source: `linf_square`: Andriushchenko et al., "Square Attack: a query-efficient black-box
        adversarial attack via random search", ECCV 2020 (algorithms 1 and 2, margin loss); unlike
        there, each image of a batch has its own squares. Ours: of signals they are stretches of
        time, of volumes cubes, of feature tables runs of neighbouring features. `linf_noise`:
        Carlini et al., "On Evaluating Adversarial Robustness", arXiv 1902.06705 (to see whether
        gradients are masked).
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bitproof.attacks.balls import Images, Labels
from bitproof.attacks.base import ATTACKS, CLASSES, Classifier, InputAttack
from bitproof.core.passes import Passes
from bitproof.core.rng import draw_seed
from bitproof.core.types import Fraction, Rounds
from bitproof.metrics import Task

Proposal = Callable[[int, Tensor], Tensor]
"""Maps the number of the query and the best inputs so far to new ones to try, for all images."""
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, out of 10 000, after which the area of the squares of `linf_square` halves."""


@ATTACKS.register
class LinfNoise(InputAttack):
    """Keep the worst of several corners of the L-infinity ball, drawn at random.

    Every pixel moves up or down by `epsilon`, independently, with equal probability: what an
    attacker reaches without looking, the floor under every other attack.

    Example:
        >>> LinfNoise(epsilon=8 / 255).tries
        10
    """

    any_task: ClassVar[bool] = True

    kind: Literal["linf_noise"] = "linf_noise"
    tries: Rounds = 10
    """Corners to try per input."""

    @property
    def passes(self) -> Passes:
        """Return a look, and all tries."""
        return Passes(1 + self.tries)

    def search(
        self,
        model: Classifier,
        inputs: Images,
        labels: Labels,
        *,
        generator: torch.Generator,
        task: Task = CLASSES,
    ) -> Images:
        """Return the corner with the lowest margin; `generator` advances by one draw."""
        own = torch.Generator().manual_seed(draw_seed(generator))

        def propose(query: int, best: Tensor) -> Tensor:  # noqa: ARG001
            signs = _draw_signs(*inputs.shape, generator=own)
            return self.project(inputs + self.epsilon * signs.to(inputs), inputs)

        return search_at_random(
            model, inputs, labels, propose=propose, queries=self.tries, task=task
        )


@ATTACKS.register
class LinfSquare(InputAttack):
    """Start from vertical stripes; keep each random square that lowers the margin.

    Used beside `linf_pgd`: where it finds more than the gradients do, they are masked.

    Example:
        >>> LinfSquare(epsilon=8 / 255).area(0), LinfSquare(epsilon=8 / 255).area(199)
        (0.8, 0.0015625)
    """

    any_task: ClassVar[bool] = True

    kind: Literal["linf_square"] = "linf_square"
    queries: Rounds = 200
    """Perturbed inputs to try per image; the first is the one with stripes."""
    initial_area: Fraction = 0.8
    """Share of the image that the first squares cover (0.8 is the choice of AutoAttack)."""

    @property
    def passes(self) -> Passes:
        """Return a look, and all queries."""
        return Passes(1 + self.queries)

    def area(self, query: int) -> float:
        """Return the share of the image that the square of this query covers."""
        done = query * 10_000 // self.queries
        return self.initial_area * 0.5 ** sum(done > halving for halving in HALVINGS)

    def search(
        self,
        model: Classifier,
        inputs: Images,
        labels: Labels,
        *,
        generator: torch.Generator,
        task: Task = CLASSES,
    ) -> Images:
        """Return the inputs with the lowest margin; `generator` advances by one draw."""
        own = torch.Generator().manual_seed(draw_seed(generator))
        shape = inputs.shape if inputs.ndim > 2 else (len(inputs), 1, *inputs.shape[1:])
        n, c, *sides = shape
        ones = [1] * (len(sides) - 1)

        def moved(signs: Tensor) -> Tensor:
            shift = (self.epsilon * signs.to(inputs)).expand(shape).reshape(inputs.shape)
            return self.project(inputs + shift, inputs)

        def propose(query: int, best: Tensor) -> Tensor:
            if query == 0:
                return moved(_draw_signs(n, c, *ones, sides[-1], generator=own))
            wanted = (self.area(query) * math.prod(sides)) ** (1 / len(sides))
            side = min(max(1, round(wanted)), *sides)
            square = _draw_squares(n, sides, side=side, generator=own).to(inputs.device)
            signs = _draw_signs(n, c, 1, *ones, generator=own)
            # A step of twice epsilon, cut off at the ball, ends at epsilon wherever it began.
            return torch.where(square.expand(shape).reshape(inputs.shape), moved(signs), best)

        return search_at_random(
            model, inputs, labels, propose=propose, queries=self.queries, task=task
        )


@torch.no_grad()
def search_at_random(
    model: Classifier,
    inputs: Images,
    labels: Labels,
    *,
    propose: Proposal,
    queries: int,
    task: Task = CLASSES,
) -> Images:
    """Return the proposal with the lowest margin for each image, the first that is misclassified.

    Images whose clean input is wrong stay clean and cost one evaluation; only images that are
    still right are evaluated further.

    Example:
        >>> x, y = torch.tensor([[0.5, 0.25]]), torch.tensor([0])
        >>> def brighten_the_second(query, best):
        ...     return x + torch.tensor([0.0, 0.2 * query])
        >>> search_at_random(torch.nn.Identity(), x, y, propose=brighten_the_second, queries=9)
        tensor([[0.5000, 0.6500]])
    """
    best = inputs.clone()
    lowest = inputs.new_full((len(inputs),), torch.inf)
    active = task.unfinished(model(inputs), labels).nonzero().flatten()
    for query in range(queries):
        if not len(active):
            break
        tried = propose(query, best)[active]
        logits = model(tried)
        margins = task.margin(logits, labels[active]).to(lowest.dtype)
        wrong = ~task.unfinished(logits, labels[active])
        better = wrong | (margins < lowest[active])
        best[active[better]] = tried[better]
        lowest[active[better]] = margins[better]
        active = active[~wrong]
    return best


def _draw_signs(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw -1 and 1 with equal probability."""
    return 2 * torch.randint(2, shape, generator=generator) - 1


def _draw_squares(n: int, sides: Sequence[int], *, side: int, generator: torch.Generator) -> Tensor:
    """Draw one square window per image, as a mask of shape `n 1 *sides`."""
    inside = torch.ones(n, 1, *sides, dtype=torch.bool)
    for axis, length in enumerate(sides):
        first = torch.randint(length - side + 1, (n, 1, *[1] * len(sides)), generator=generator)
        places = torch.arange(length).reshape(-1, *[1] * (len(sides) - axis - 1))
        inside &= (places >= first) & (places < first + side)
    return inside
