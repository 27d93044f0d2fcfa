"""Exact rank of a table: how many int8 matrix products emulate it.

Model:  Gaussian elimination modulo the prime 2**31 - 1. The rank modulo a prime is never more than
        the rank over the rationals, and less only if the prime divides every minor of that size.
        A table of rank r is a sum of r products f(first) * g(second); so is an exact product plus
        a table of errors of rank r - 1.
"""

import numpy as np
from jaxtyping import Integer
from torch import Tensor

PRIME = 2**31 - 1
"""Products of two residues fit int64."""


def exact_rank(entries: Integer[Tensor, "m n"]) -> int:
    """Return the rank of a matrix of integers.

    Example:
        >>> import torch
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
