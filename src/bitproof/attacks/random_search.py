"""Random search for misclassified inputs, from logits alone.

Model:  black box with scores; the attacker sees logits, no weights and no gradients, so a model
        that merely hides its gradients gains nothing.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bitproof.attacks.balls import Images, Labels
from bitproof.attacks.base import Classifier

Proposal = Callable[[int, Tensor], Tensor]
"""Maps the number of the query and the best inputs so far to new ones to try, for all images."""


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
