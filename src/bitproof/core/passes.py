"""Work before it is done, as images through a network: what estimates of time are added up from.

Model:  a forward pass of an image counts once, a backward pass as two more. Whatever does work says
        how many passes it takes at most; somebody's own component that says nothing counts as
        little as it can, and the sum is then a lower bound.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Passes:
    """Passes of images through a network.

    Example:
        >>> work = 3 * STEP + Passes(2)
        >>> work, work.images
        (Passes(forward=5, backward=3, at_least=False), 11)
    """

    forward: int = 0
    backward: int = 0
    at_least: bool = False
    """Whether some of the work is not known."""

    @property
    def images(self) -> int:
        """Images through forward passes, a backward pass counted as two of them."""
        return self.forward + 2 * self.backward

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.forward + other.forward,
            self.backward + other.backward,
            self.at_least or other.at_least,
        )

    def __rmul__(self, times: int) -> "Passes":
        return Passes(times * self.forward, times * self.backward, self.at_least)


STEP = Passes(1, 1)
"""A forward pass with gradients, and the backward pass."""
UNKNOWN = Passes(1, at_least=True)
"""Work on an image that nobody has told of: a look at it, at least."""
