"""Exact integer factors of a matrix of low rank, small enough for 8-bit operands.

Model:  a matrix of rank r is a sum of r products first[i] * second[i]; over the integers, the
        seconds are a basis of a lattice that holds all rows. A short basis has small entries.
        Factors that still do not fit 8 bits are split in two, at the price of a term. That no
        factors are found does not mean that there are none, unless the rank is too high.
Source: the LLL algorithm: Lenstra, Lenstra and Lovasz, "Factoring Polynomials with Rational
        Coefficients", Mathematische Annalen 261, 1982; Cohen, "A Course in Computational Algebraic
        Number Theory", 1993, sections 2.4 and 2.6. Balance: Seysen, "Simultaneous Reduction of a
        Lattice Basis and its Reciprocal Basis", Combinatorica 13, 1993.

All arithmetic is on Python integers (arrays of dtype object): nothing rounds, nothing overflows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, permutations
from math import gcd
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[Any]
"""A matrix, or one row, of Python integers."""
Term = tuple[Rows, Rows]
"""A product of a column and a row."""

SPAN = 255
"""Largest difference within a first factor: a zero point shifts it into uint8."""
LOWEST, HIGHEST = -128, 127
"""Bounds of a second factor: int8."""
FARTHEST = 2**15 - 1
"""Largest magnitude of a first factor; its zero point stays a small number."""
LOVASZ = Fraction(99, 100)


@dataclass(frozen=True, eq=False)
class Factors:
    """A matrix as `scale` times a sum of products: first[r, a] * second[r, w] at row a, column w.

    Example:
        >>> one = torch.ones(1, 3, dtype=torch.int32)
        >>> Factors(one, 2 * one, scale=5).product().tolist()
        [[10, 10, 10], [10, 10, 10], [10, 10, 10]]
    """

    first: Int32[Tensor, "r m"]
    """Each row spans at most 255."""
    second: Int32[Tensor, "r n"]
    """Each entry is from -128 to 127."""
    scale: int

    def product(self) -> Int32[Tensor, "m n"]:
        """Return the matrix."""
        return (self.scale * (self.first.long().T @ self.second.long())).int()


def factorise(matrix: Int32[Tensor, "m n"], *, most: int) -> Factors | None:
    """Return exact factors with few terms, or None where none are found.

    The product is compared on every entry. A matrix of higher rank than `most` is rejected early.

    Example:
        >>> factors = factorise(torch.tensor([[0, 6], [6, 0], [12, 6]], dtype=torch.int32), most=2)
        >>> factors.scale, factors.first.tolist(), factors.second.tolist()
        (6, [[0, 1, 2], [1, 0, 1]], [[1, 0], [0, 1]])
        >>> factorise(torch.eye(3, dtype=torch.int32), most=2) is None
        True
    """
    best: tuple[int, list[Term]] | None = None
    for first, second in _factorisations(matrix.numpy().astype(object), most):
        fit = _fit(first, second, most=most)
        if fit is not None and (best is None or len(fit[1]) < len(best[1])):
            best = fit
            if len(best[1]) == len(first):  # Fewer than the rank there cannot be.
                break
    if best is None:
        return None
    scale, terms = best
    factors = Factors(
        _tensor([first for first, _ in terms], matrix.shape[0]),
        _tensor([second for _, second in terms], matrix.shape[1]),
        scale,
    )
    assert torch.equal(factors.product(), matrix)
    return factors


def _factorisations(matrix: Rows, most: int) -> Iterator[Term]:
    """Yield factors of the matrix, short ones, with as many terms as its rank."""
    for turned in (False, True):
        lattice = _row_lattice(matrix.T if turned else matrix, most)
        if lattice is None:
            return
        first, second = lattice
        # The rows need a lattice between their own, whose basis may have common divisors, and the
        # whole numbers of their space (its saturation), where the divisors go to the other side.
        columns = _row_lattice(second.T, most)
        assert columns is not None  # The rank is that of the rows.
        saturated, divisors = columns
        for pair in ((first, second), (divisors @ first, saturated)):
            reduced = _reduced(*pair)
            balanced = (_balanced(*reduced, relative=relative) for relative in (False, True))
            for left, right in chain([reduced], balanced):
                yield (right, left) if turned else (left, right)


def _row_lattice(matrix: Rows, most: int) -> Term | None:
    """Return coordinates and a basis of the lattice of the rows: coordinates.T @ basis is they.

    The basis is in echelon form. None if it has more than `most` rows.
    """
    basis: dict[int, Rows] = {}
    for distinct in dict.fromkeys(map(tuple, matrix)):
        row = np.array(distinct, dtype=object)
        while row.any():
            pivot = int(np.flatnonzero(row)[0])
            if pivot not in basis:
                basis[pivot] = row
                break
            row = row - row[pivot] // basis[pivot][pivot] * basis[pivot]
            if row[pivot]:  # One step of Euclid's algorithm; the next divides the other way.
                basis[pivot], row = row, basis[pivot]
        if len(basis) > most:
            return None
    pivots = sorted(basis)
    echelon = np.zeros((len(pivots), matrix.shape[1]), dtype=object)
    coordinates = np.zeros((len(pivots), len(matrix)), dtype=object)
    for index, pivot in enumerate(pivots):
        echelon[index] = basis[pivot]
        rest = matrix[:, pivot] - coordinates[:index].T @ echelon[:index, pivot]
        coordinates[index] = rest // echelon[index, pivot]
    return coordinates, echelon


def _reduced(first: Rows, second: Rows) -> Term:
    """Return factors of the same product, the second being short: an LLL-reduced basis."""
    first, second = first.copy(), second.copy()
    place = 1
    slopes, lengths = _orthogonalise(second)
    while place < len(second):
        for before in range(place - 1, -1, -1):
            times = round(slopes[place][before])
            second[place] -= times * second[before]
            first[before] += times * first[place]  # So the product stays.
            for other in range(before):
                slopes[place][other] -= times * slopes[before][other]
            slopes[place][before] -= times
        if lengths[place] >= (LOVASZ - slopes[place][place - 1] ** 2) * lengths[place - 1]:
            place += 1
            continue
        for factor in (first, second):
            factor[[place - 1, place]] = factor[[place, place - 1]]
        slopes, lengths = _orthogonalise(second)
        place = max(place - 1, 1)
    return first, second


def _orthogonalise(basis: Rows) -> tuple[list[list[Fraction]], list[Fraction]]:
    """Return what Gram and Schmidt subtract of earlier vectors, and the squared lengths left."""
    products = basis @ basis.T
    slopes: list[list[Fraction]] = []
    lengths: list[Fraction] = []
    for row in products:
        left: list[Fraction] = []
        for index, earlier in enumerate(slopes):
            known = sum((earlier[k] * left[k] for k in range(index)), Fraction(0))
            left.append(row[index] - known)
        slope = [value / length for value, length in zip(left, lengths, strict=True)]
        own = int(row[len(slopes)])
        lengths.append(own - sum((a * b for a, b in zip(slope, left, strict=True)), Fraction(0)))
        slopes.append(slope)
    return slopes, lengths


def _balanced(first: Rows, second: Rows, *, relative: bool) -> Term:
    """Return factors of the same product, neither being long at the cost of the other.

    Every step lessens the sum of squares of all factors, or (`relative`) Seysen's sum: the squares
    of each pair, multiplied. Neither is always better.
    """
    scale = gcd(*second.flat) or 1
    first, second = first.copy(), second // scale
    changed = True
    while changed:
        changed = False
        for one, other in permutations(range(len(first)), 2):
            left, right = first[one] @ first[one], second[other] @ second[other]
            weights = (right, left) if relative else (1, 1)
            gain = weights[0] * (first[one] @ first[other])
            loss = weights[1] * (second[one] @ second[other])
            times = round(Fraction(gain - loss, weights[0] * left + weights[1] * right))
            if times:
                second[one] += times * second[other]
                first[other] -= times * first[one]
                changed = True
    return first, scale * second


def _fit(first: Rows, second: Rows, *, most: int) -> tuple[int, list[Term]] | None:
    """Return a scale and terms of the product that fit 8 bits, or None beyond `most` terms."""
    contents = [gcd(*left) * gcd(*right) for left, right in zip(first, second, strict=True)]
    scale = gcd(*contents) or 1
    terms: list[Term] = []
    for left, right, content in zip(first, second, contents, strict=True):
        primitive = left // gcd(*left), right // gcd(*right)
        narrow = _narrow(*primitive, content // scale, most - len(terms))
        if narrow is None:
            return None
        terms += narrow
    return scale, terms


def _narrow(left: Rows, right: Rows, content: int, most: int) -> list[Term] | None:
    """Return the fewest terms that fit 8 bits and give content * left * right."""
    divisors = [each for each in range(1, SPAN + 1) if content % each == 0]
    for sign in (1, -1):
        for each in divisors:
            term = sign * each * left, sign * (content // each) * right
            if _fits_first(term[0]) and _fits_second(term[1]):
                return [term] if most else None
    ways = [
        way(sign * left, sign * right, content, most)
        for way in (_split_second, _split_first)
        for sign in (1, -1)
    ]
    return min((way for way in ways if way is not None), key=len, default=None)


def _split_second(left: Rows, right: Rows, content: int, most: int) -> list[Term] | None:
    """Return terms, the seconds being digits of a wide second factor."""
    if not _fits_first(left):
        return None
    base = SPAN // max(_span(left), 1)
    digits = _digits(content * right, base, most, fits=_fits_second, low=lambda _: LOWEST)
    return None if digits is None else [(weight * left, digit) for weight, digit in digits]


def _split_first(left: Rows, right: Rows, content: int, most: int) -> list[Term] | None:
    """Return terms, the firsts being digits of a wide first factor."""
    if not _fits_second(right):
        return None
    base = HIGHEST // max(map(abs, right)) or 1
    digits = _digits(content * left, base, most, fits=_fits_first, low=min)
    return None if digits is None else [(digit, weight * right) for weight, digit in digits]


def _digits(
    rest: Rows, base: int, most: int, *, fits: Callable[[Rows], bool], low: Callable[[Rows], int]
) -> list[tuple[int, Rows]] | None:
    """Return up to `most` rows of 8 bits, with their weights, that give a row; None if more."""
    digits: list[tuple[int, Rows]] = []
    while len(digits) < most:
        if fits(rest):
            return [*digits, (1, rest)]
        digit = (rest + base // 2) // base
        digit = np.clip(digit, low(digit), low(digit) + SPAN)
        digits.append((base, digit))
        rest = rest - base * digit
    return None


def _span(values: Rows) -> int:
    return int(max(values) - min(values))


def _fits_first(values: Rows) -> bool:
    return _span(values) <= SPAN and max(map(abs, values)) <= FARTHEST


def _fits_second(values: Rows) -> bool:
    return bool(min(values) >= LOWEST and max(values) <= HIGHEST)


def _tensor(rows: list[Rows], length: int) -> Int32[Tensor, "r n"]:
    return torch.from_numpy(np.array(rows, dtype=np.int32).reshape(-1, length))
