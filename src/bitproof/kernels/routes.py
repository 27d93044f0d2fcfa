"""Which exact way to sum table products is the fastest for one layer: a plan from measured rates.

Model:  a convolution on 8-bit dot products does `DOT` products per second and core, for each of
        its terms; look-ups have a rate of their own for each processor and number of planes.
        Rates are of `benchmarks/approx.py`; only their ratios matter.
"""

from typing import Literal

from bitproof.kernels.forms import Planes, Terms

Route = Literal["terms", "planes", "gather"]

DOT = {True: 350.0, False: 80.0}
"""G products/s of convolutions: with 8-bit dot products, and in float32 without them."""
THIN = 8.0
"""G products/s of convolutions with one input channel to a group."""
PLANES = {"vbmi": (85.0, 52.0), "avx2": (6.3, 4.6), "portable": (4.2, 4.0)}
"""G products/s of look-ups with one plane and with two, by instruction set."""
GATHER = 1.0
"""G products/s of torch's embedding bags."""


def choose_route(
    terms: Terms | None,
    planes: Planes | None,
    *,
    depth: int,
    level: str | None,
    dots: bool,
) -> Route:
    """Return how to sum the products of one table, with these forms, in one layer.

    `depth` is the input channels of each group, `level` the instruction set of the compiled
    look-ups, if there are any; `dots` says whether the CPU has 8-bit dot products.

    Example:
        >>> choose_route(None, None, depth=16, level=None, dots=True)
        'gather'
    """
    dot = DOT[dots] if depth > 1 else THIN
    seconds: dict[Route, float] = {"gather": 1 / GATHER}
    if planes is not None and level is not None:
        rate = PLANES[level][planes.stacked.shape[1] - 1]
        seconds["planes"] = 1 / rate + planes.plus_exact / dot
    if terms is not None:
        seconds["terms"] = max(terms.multiplications, 1) / dot
    return min(seconds, key=lambda route: seconds[route])
