"""Random search for misclassified inputs, from logits alone.

Model:  black box with scores; the attacker sees logits, no weights and no gradients, so a model
        that merely hides its gradients gains nothing.
Source: Carlini et al., On Evaluating Adversarial Robustness, arXiv 1902.06705: random noise as a
        check that gradients are not masked.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.attacks.balls import Images, Labels
from bitproof.attacks.base import ATTACKS, Classifier, InputAttack
from bitproof.core.rng import draw_seed
from bitproof.core.types import Count

Proposal = Callable[[int, Tensor], Tensor]
"""Maps the number of the query and the best inputs so far to new ones to try, for all images."""


@ATTACKS.register
class LinfNoise(InputAttack):
    """Keep the worst of several corners of the L-infinity ball, drawn at random.

    This is what an attacker reaches without looking, the floor under every other attack.

    Example:
        >>> LinfNoise(epsilon=8 / 255).tries
        10
    """

    kind: Literal["linf_noise"] = "linf_noise"
    tries: Count = 10
    """Corners to try per input."""

    def search(
        self, model: Classifier, inputs: Images, labels: Labels, *, generator: torch.Generator
    ) -> Images:
        """Return the corner with the lowest margin; `generator` advances by one draw."""
        own = torch.Generator().manual_seed(draw_seed(generator))

        def propose(query: int, best: Tensor) -> Tensor:  # noqa: ARG001
            signs = draw_signs(*inputs.shape, generator=own)
            return self.project(inputs + self.epsilon * signs.to(inputs), inputs)

        return search_at_random(model, inputs, labels, propose=propose, queries=self.tries)


@torch.no_grad()
def search_at_random(
    model: Classifier, inputs: Images, labels: Labels, *, propose: Proposal, queries: int
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
    lowest = torch.full_like(labels, torch.inf, dtype=inputs.dtype)
    active = (model(inputs).argmax(dim=1) == labels).nonzero().flatten()
    for query in range(queries):
        if not len(active):
            break
        tried = propose(query, best)[active]
        logits = model(tried)
        margins = margin(logits, labels[active]).to(lowest.dtype)
        wrong = logits.argmax(dim=1) != labels[active]
        better = wrong | (margins < lowest[active])
        best[active[better]] = tried[better]
        lowest[active[better]] = margins[better]
        active = active[~wrong]
    return best


def margin(logits: Float[Tensor, "n k"], labels: Labels) -> Float[Tensor, " n"]:
    """Return how far the logit of the true class is above the highest other one.

    Example:
        >>> margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
        tensor([1.])
    """
    true = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return true[:, 0] - others.amax(dim=1)


def draw_signs(*shape: int, generator: torch.Generator) -> Tensor:
    """Draw -1 and 1 with equal probability."""
    return 2 * torch.randint(2, shape, generator=generator) - 1
