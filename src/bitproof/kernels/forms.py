"""Forms in which a table of products can be computed exactly, and which is the fastest for a layer.

Model:  rows `a` are the first operand (the activation), columns `w` the second (the weight), both
        counted by their bit patterns 0 to 255. A table is a few products of remapped operands
        (`Terms`), or its columns are runs of bytes beside a start (`Planes`), or neither.
        A convolution on 8-bit dot products does `DOT` products per second and core, for each of
        its terms; look-ups have a rate of their own for each processor and number of planes.
        Rates are of `benchmarks/approx.py`; only their ratios matter.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from bitproof.kernels.factors import Factors, factorise

WORDS = 256
"""Patterns of an operand, and values of a byte."""
REMEMBERED = 64
"""Tables whose forms are kept: layers of a network share few tables, and each layer asks."""

Route = Literal["terms", "planes", "gather"]

DOT = {True: 350.0, False: 80.0}
"""G products/s of convolutions: with 8-bit dot products, and in float32 without them."""
THIN = 8.0
"""G products/s of convolutions with one input channel to a group."""
PLANES = {"vbmi": (85.0, 52.0), "avx2": (6.3, 4.6), "portable": (4.2, 4.0)}
"""G products/s of look-ups with one plane and with two, by instruction set."""
GATHER = 1.0
"""G products/s of torch's embedding bags."""


@dataclass(frozen=True, eq=False)
class Terms(Factors):
    """A table as a sum of products of remapped operands.

    T[a, w] = (a * w if plus_exact) + scale * sum over r of first[r, a] * second[r, w].

    Example:
        >>> even = torch.arange(0, 256, 2, dtype=torch.int32).repeat_interleave(2)
        >>> terms = terms_of(even.outer(even), signed=False)
        >>> terms.scale, terms.multiplications, terms.first[0, :6].tolist()
        (4, 1, [0, 0, 1, 1, 2, 2])
    """

    plus_exact: bool

    @property
    def multiplications(self) -> int:
        """Exact products that one product of the table takes."""
        return len(self.first) + self.plus_exact

    def table(self, *, signed: bool) -> Int32[Tensor, "256 256"]:
        """Return the products of all pairs; `signed`: of two's complement in the exact product."""
        return self.product() + exact_products(signed=signed) if self.plus_exact else self.product()


@dataclass(frozen=True, eq=False)
class Planes:
    """A table as one or two bytes a product, and a start for each weight.

    T[a, w] = (a * w if plus_exact) + start[w] + stacked[w, 0, a] (+ 256 * stacked[w, 1, a]). The
    weight comes first, because a kernel loads the entries of one weight.

    Example:
        >>> operand = torch.arange(256, dtype=torch.int32)
        >>> planes = planes_of(operand.outer(operand) | 1, signed=False)
        >>> planes.plus_exact, planes.stacked.shape[1], planes.stacked[3, 0, :4].tolist()
        (True, 1, [1, 0, 1, 0])
    """

    stacked: UInt8[Tensor, "256 p 256"]
    """The bytes of each weight, low ones first, as the compiled kernel reads them."""
    start: Int32[Tensor, "256"]
    plus_exact: bool

    def table(self, *, signed: bool) -> Int32[Tensor, "256 256"]:
        """Return the products of all pairs; `signed`: of two's complement in the exact product."""
        weights = WORDS ** torch.arange(self.stacked.shape[1])
        words = (self.stacked * weights[:, None]).sum(1).int()
        entries = self.start + words.T
        return entries + exact_products(signed=signed) if self.plus_exact else entries


def terms_of(table: Int32[Tensor, "256 256"], *, signed: bool, most: int = 6) -> Terms | None:
    """Return the form with the fewest multiplications, or None where none is found.

    An exact table has no terms beside the exact product. Of forms with equally many
    multiplications, the one without an exact product is taken.
    `most` is the largest number of multiplications wanted.

    Example:
        >>> operand = torch.arange(256, dtype=torch.int32)
        >>> terms = terms_of(operand.outer(operand), signed=False)
        >>> terms.first.shape, terms.plus_exact
        (torch.Size([0, 256]), True)
    """
    return _terms(_content(table), signed, most)


def planes_of(
    table: Int32[Tensor, "256 256"], *, signed: bool, fewest: Literal[1, 2] = 1
) -> Planes | None:
    """Return the form with the fewest planes, or None if two bytes do not span a column.

    At least two are planes of products, which can be stacked with those of other tables.

    Example:
        >>> table = torch.arange(65536, dtype=torch.int32).view(256, 256)
        >>> planes_of(table, signed=False).stacked[5, 1]
        tensor([  0,   1,   2,  ..., 253, 254, 255], dtype=torch.uint8)
        >>> planes_of(table * 2, signed=False) is None
        True
    """
    return _planes(_content(table), signed, fewest)


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


def operand_values(*, signed: bool) -> Int32[Tensor, "256"]:
    """Return the numbers that the patterns 0 to 255 stand for.

    Example:
        >>> operand_values(signed=True)[[0, 127, 128, 255]].tolist()
        [0, 127, -128, -1]
    """
    patterns = torch.arange(WORDS, dtype=torch.int32)
    return patterns.to(torch.int8).int() if signed else patterns


def exact_products(*, signed: bool) -> Int32[Tensor, "256 256"]:
    """Return the products of an exact multiplier."""
    return operand_values(signed=signed).outer(operand_values(signed=signed))


@lru_cache(maxsize=REMEMBERED)
def _terms(content: bytes, signed: bool, most: int) -> Terms | None:
    table = _table(content)
    errors = table - exact_products(signed=signed)
    with_exact = factorise(errors, most=most - 1) if most else None
    if with_exact is not None and not len(with_exact.first):
        without = None  # Exact: no factors are better than the operands themselves.
    else:
        without = factorise(table, most=1 + len(with_exact.first) if with_exact else most)
    factors = without or with_exact
    if factors is None:
        return None
    terms = Terms(factors.first, factors.second, factors.scale, plus_exact=without is None)
    assert torch.equal(terms.table(signed=signed), table)
    return terms


@lru_cache(maxsize=REMEMBERED)
def _planes(content: bytes, signed: bool, fewest: int) -> Planes | None:
    table = _table(content)
    products, errors = table.long(), table.long() - exact_products(signed=signed)
    for entries, count, plus_exact in (
        (errors, 1, True),
        (products, 1, False),
        (products, 2, False),
    ):
        start = entries.amin(0)
        words = (entries - start).T
        if count >= fewest and int(words.max()) < WORDS**count:
            bytes_ = torch.stack([words // WORDS**place % WORDS for place in range(count)], 1)
            planes = Planes(bytes_.to(torch.uint8), start.int(), plus_exact)
            assert torch.equal(planes.table(signed=signed), table)
            return planes
    return None


def _content(table: Int32[Tensor, "256 256"]) -> bytes:
    """Return the entries as a key of the cache: equal keys are equal tables, not equal hashes."""
    return table.cpu().contiguous().numpy().tobytes()


def _table(content: bytes) -> Int32[Tensor, "256 256"]:
    return torch.frombuffer(bytearray(content), dtype=torch.int32).view(WORDS, WORDS)
