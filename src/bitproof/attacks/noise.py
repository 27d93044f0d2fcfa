"""Random signs: what an attacker reaches without looking, the floor under every other attack.

Model:  every pixel moves up or down by `epsilon`, independently, with equal probability.
Source: Carlini et al., On Evaluating Adversarial Robustness, arXiv 1902.06705: random noise as a
        check that gradients are not masked.
"""

from typing import Literal

import torch
from torch import Tensor

from bitproof.attacks.balls import Images, Labels
from bitproof.attacks.base import ATTACKS, Classifier, InputAttack
from bitproof.attacks.random_search import search_at_random
from bitproof.core.rng import draw_seed
from bitproof.core.types import Count


@ATTACKS.register
class LinfNoise(InputAttack):
    """Keep the worst of several corners of the L-infinity ball, drawn at random.

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
            signs = 2 * torch.randint(2, inputs.shape, generator=own) - 1
            return self.project(inputs + self.epsilon * signs.to(inputs), inputs)

        return search_at_random(model, inputs, labels, propose=propose, queries=self.tries)
