"""Whether the numbers of a table look as if they followed another convention than its user says.

Model:  no multiplier is off by more than its product on average (mred above 1), and none comes
        three times closer to exact products in another convention than in its own. Conventions:
        operands signed or not; rows and columns by bit pattern or by value; products as they are,
        with 32,768 added, or as 16-bit words read with the wrong sign.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, Integer

from bitproof.approx.figures import figures_of
from bitproof.kernels.forms import WORDS, exact_products

Order = Literal["codes", "values"]
SUSPECT = 0.1
"""Mean relative error distance from which other conventions are tried."""
FAR = 1.0
"""That from which a table is suspect even if no convention fits."""
CLOSER = 3.0
"""How many times closer another convention has to be."""
OFFSET = 1 << 15
RANGE = 1 << 16


@dataclass(frozen=True)
class Convention:
    """How the numbers in a file are read."""

    signed: bool
    order: Order = "codes"
    change: str = ""
    """What has to be done to each number; empty: nothing."""

    def __str__(self) -> str:
        text = f"signed = {str(self.signed).lower()}"
        text += f', order = "{self.order}"' if self.signed else ""
        return f"{text} and {self.change}" if self.change else text


def suspicion(
    numbers: Integer[np.ndarray, "256 256"], *, signed: bool, order: Order = "codes"
) -> str:
    """Return in one sentence what looks wrong about products as read; empty: nothing.

    Example:
        >>> signed = exact_products(signed=True).numpy()
        >>> suspicion(signed, signed=True)
        ''
        >>> suspicion(signed, signed=False).partition("; ")[0]
        'mean relative error is 90.9 % with signed = false'
    """
    numbers = numbers.astype(np.int64)
    said = Convention(signed, order if signed else "codes")
    own = _mred(numbers, said)
    if own <= SUSPECT:
        return ""
    tried = [(_mred(changed, one), one) for one, changed in _conventions(numbers) if one != said]
    best, other = min(tried, key=lambda pair: pair[0])
    text = f"mean relative error is {100 * own:.3g} % with {said}"
    if best < min(own / CLOSER, FAR):
        return f"{text}; it is {100 * best:.3g} % with {other}"
    return f"{text}, and no other convention fits" if own > FAR else ""


def _conventions(
    numbers: Int64[np.ndarray, "256 256"],
) -> Iterator[tuple[Convention, Int64[np.ndarray, "256 256"]]]:
    changes = [("", numbers), ("32768 taken off each number", numbers - OFFSET)]
    if numbers.min() >= 0:
        wrapped = np.where(numbers >= OFFSET, numbers - RANGE, numbers)
        changes.append(("65536 taken off numbers from 32768 up", wrapped))
    else:
        wrapped = np.where(numbers < 0, numbers + RANGE, numbers)
        changes.append(("65536 added to numbers below 0", wrapped))
    orders: tuple[tuple[bool, Order], ...] = ((False, "codes"), (True, "codes"), (True, "values"))
    for change, changed in changes:
        for signed, order in orders:
            yield Convention(signed, order, change), changed


def _mred(numbers: Int64[np.ndarray, "256 256"], convention: Convention) -> float:
    products = torch.from_numpy(numbers)
    if convention.order == "values":
        products = products.roll((WORDS // 2, WORDS // 2), (0, 1))
    return figures_of(products, exact_products(signed=convention.signed)).mred
