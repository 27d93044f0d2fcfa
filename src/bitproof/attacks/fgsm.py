"""One signed step up the cross-entropy, as far as the L-infinity ball reaches.

Model:  white box; gradients pass rounding as if it were the identity.
Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial
        Examples", ICLR 2015.
"""

from typing import Literal

import torch
from torch import Tensor

from bitproof.attacks.ascent import ascend
from bitproof.attacks.balls import Images, Labels
from bitproof.attacks.base import ATTACKS, Classifier, InputAttack


@ATTACKS.register
class FGSM(InputAttack):
    """Take one step of size `epsilon` in the direction of the gradient's sign, from the input.

    Images that are misclassified anyway stay clean. Nothing is random.

    Example:
        >>> x, y = torch.tensor([[0.75, 0.5]]), torch.tensor([0])
        >>> FGSM(epsilon=0.25).run(torch.nn.Identity(), x, y, generator=torch.Generator())
        tensor([[0.5000, 0.7500]])
    """

    kind: Literal["fgsm"] = "fgsm"

    def search(
        self,
        model: Classifier,
        inputs: Images,
        labels: Labels,
        *,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Images:
        """Return the inputs after their step."""
        return ascend(model, inputs, labels, starts=[inputs], steps=1, move=self._move)

    def _move(self, points: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
        return self.project(points + self.epsilon * gradient.sign(), inputs)
