"""Error figures of a multiplier over all 65,536 pairs, each as likely as another; exact rank.

Model:  with p the exact product of a pair, q what the circuit says and e = q - p:

        med     mean error distance, mean of |e| ("MAE" in EvoApproxLib)
        nmed    med over the largest exact |p|: 255 * 255, or 128 * 128 if signed
        mred    mean of |e| / |p| over the pairs with p != 0 ("MRE"; both the sum and the count
                leave out the 511 pairs with p = 0)
        wce     worst-case error, largest |e|
        wcre    largest |e| / |p| over the pairs with p != 0
        ep      error probability, share of pairs with e != 0
        mse     mean of e * e
        bias    mean of e

        EvoApproxLib's "MAE %" and "WCE %" are med and wce over 2**16, the number of values of the
        16-bit product: `med_of_range`, `wce_of_range`. Its other percentages are 100 times the
        figures above.
Source: Liang, Han, Lombardi, "New Metrics for the Reliability of Approximate and Probabilistic
        Adders", IEEE TC 2013 (med, nmed, mred); Mrazek et al., "EvoApprox8b", DATE 2017 (the
        others). The conventions are those that reproduce the published figures: `published`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Integer
from torch import Tensor

from bitproof.approx.base import ProductTable

RANGE = 1 << 16
"""Values of a 16-bit product."""
PRIME = 2**31 - 1
"""Products of two residues fit int64."""


@dataclass(frozen=True)
class ErrorFigures:
    """How far a multiplier is off; rates are fractions, distances are in units of the product.

    Example:
        >>> from bitproof.approx import Truncated
        >>> figures = error_figures(Truncated(columns=2).table())
        >>> figures.med, figures.wce, figures.bias
        (1.25, 5, -1.25)
    """

    med: float
    nmed: float
    mred: float
    wce: int
    wcre: float
    ep: float
    mse: float
    bias: float

    @property
    def med_of_range(self) -> float:
        """Mean error distance as a fraction of 2**16."""
        return self.med / RANGE

    @property
    def wce_of_range(self) -> float:
        """Worst-case error as a fraction of 2**16."""
        return self.wce / RANGE


def error_figures(table: ProductTable) -> ErrorFigures:
    """Return the figures of a table.

    Sums are exact integers, so that figures are right to the last digit; only mred is a sum of
    rounded quotients.

    Example:
        >>> from bitproof.approx import Exact
        >>> error_figures(Exact().table()).ep
        0.0
    """
    return figures_of(table.products, table.exact)


def figures_of(
    products: Integer[Tensor, "*pairs"], exact: Integer[Tensor, "*pairs"]
) -> ErrorFigures:
    """Return the figures of products of any width, beside exact ones.

    Example:
        >>> figures_of(torch.tensor([4, 6]), torch.tensor([4, 8])).mred
        0.125
    """
    errors = products.long() - exact.long()
    distances = errors.abs()
    relative = _relative(errors, exact)
    n = errors.numel()
    return ErrorFigures(
        med=int(distances.sum()) / n,
        nmed=int(distances.sum()) / n / int(exact.abs().max()),
        mred=float(relative.mean()),
        wce=int(distances.max()),
        wcre=float(relative.max()),
        ep=int(errors.count_nonzero()) / n,
        mse=_mean_square(distances),
        bias=int(errors.sum()) / n,
    )


def _mean_square(distances: Integer[Tensor, "*pairs"]) -> float:
    """Return the mean square: exact where int64 holds the sum, else summed in float64."""
    n, largest = distances.numel(), int(distances.max())
    if n * largest * largest < 2**63:
        return int(distances.square().sum()) / n
    return float(distances.double().square().mean())


def relative_errors(table: ProductTable) -> Float64[Tensor, " n"]:
    """Return |e| / |p| of the pairs whose exact product is not 0.

    Example:
        >>> from bitproof.approx import Exact
        >>> len(relative_errors(Exact().table()))
        65025
    """
    return _relative(table.errors, table.exact)


def _relative(
    errors: Integer[Tensor, "*pairs"], exact: Integer[Tensor, "*pairs"]
) -> Float64[Tensor, " n"]:
    products = exact != 0
    return errors[products].abs().double() / exact[products].abs().double()


def zero_operand_errors(table: ProductTable) -> int:
    """Return how many pairs with a 0 in them have a product that is not 0.

    Where there are some, the zeros that pad an image add to a convolution.

    Example:
        >>> from bitproof.approx import Exact
        >>> zero_operand_errors(Exact().table())
        0
    """
    return int(torch.count_nonzero(table.products[table.exact == 0]))


def exact_rank(entries: Integer[Tensor, "m n"]) -> int:
    """Return the rank of a matrix of integers: how many int8 matrix products emulate a table.

    Gaussian elimination modulo a prime: never more than the rank over the rationals, and less only
    if the prime divides every minor of that size. A table of rank r is a sum of r products
    f(first) * g(second); so is an exact product plus a table of errors of rank r - 1.

    Example:
        >>> operand = torch.arange(256)
        >>> exact_rank(operand.outer(operand)), exact_rank(operand.outer(operand) + 1)
        (1, 2)
    """
    matrix = entries.numpy().astype(np.int64) % PRIME
    rank = 0
    for column in range(matrix.shape[1]):
        rows = np.flatnonzero(matrix[rank:, column])
        if not len(rows):
            continue
        pivot = rank + rows[0]
        matrix[[rank, pivot]] = matrix[[pivot, rank]]
        matrix[rank] = matrix[rank] * pow(int(matrix[rank, column]), -1, PRIME) % PRIME
        below = rank + 1 + np.flatnonzero(matrix[rank + 1 :, column])
        factors = matrix[below, column, None]
        matrix[below] = (matrix[below] - factors * matrix[rank] % PRIME) % PRIME
        rank += 1
        if rank == len(matrix):
            break
    return rank
