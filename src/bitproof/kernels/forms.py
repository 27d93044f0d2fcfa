"""Forms in which a table of products can be computed exactly, faster than by looking each up.

Model:  rows `a` are the first operand (the activation), columns `w` the second (the weight), both
        counted by their bit patterns 0 to 255. A table is a few products of remapped operands
        (`Terms`), or its columns are runs of bytes beside a start (`Planes`), or neither.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from bitproof.kernels.factors import Factors, factorise

WORDS = 256
"""Patterns of an operand, and values of a byte."""
REMEMBERED = 64
"""Tables whose forms are kept: layers of a network share few tables, and each layer asks."""


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
        """Return the products of all pairs of patterns.

        Args:
            signed: patterns are two's complement in the exact product.
        """
        return self.product() + _exact(signed=signed) if self.plus_exact else self.product()


@dataclass(frozen=True, eq=False)
class Planes:
    """A table as one or two bytes a product, and a start for each weight.

    T[a, w] = (a * w if plus_exact) + start[w] + low[w, a] (+ 256 * high[w, a]). The weight comes
    first, because a kernel loads the 256 entries of one weight.

    Example:
        >>> operand = torch.arange(256, dtype=torch.int32)
        >>> planes = planes_of(operand.outer(operand) | 1, signed=False)
        >>> planes.plus_exact, planes.high is None, planes.low[3, :4].tolist()
        (True, True, [1, 0, 1, 0])
    """

    low: UInt8[Tensor, "256 256"]
    high: UInt8[Tensor, "256 256"] | None
    start: Int32[Tensor, "256"]
    plus_exact: bool

    @cached_property
    def stacked(self) -> UInt8[Tensor, "256 p 256"]:
        """The bytes of each weight side by side, as the compiled kernel reads them."""
        both = [self.low] if self.high is None else [self.low, self.high]
        return torch.stack(both, 1)

    def table(self, *, signed: bool) -> Int32[Tensor, "256 256"]:
        """Return the products of all pairs of patterns.

        Args:
            signed: patterns are two's complement in the exact product.
        """
        words = self.low.int() if self.high is None else self.low.int() + WORDS * self.high.int()
        entries = self.start + words.T
        return entries + _exact(signed=signed) if self.plus_exact else entries


def terms_of(table: Int32[Tensor, "256 256"], *, signed: bool, most: int = 6) -> Terms | None:
    """Return the form with the fewest multiplications, or None where none is found.

    An exact table has no terms beside the exact product. Of forms with equally many
    multiplications, the one without an exact product is taken.

    Args:
        table: products; rows are the activation, columns the weight.
        signed: patterns are two's complement.
        most: largest number of multiplications wanted.

    Example:
        >>> operand = torch.arange(256, dtype=torch.int32)
        >>> terms = terms_of(operand.outer(operand), signed=False)
        >>> terms.first.shape, terms.plus_exact
        (torch.Size([0, 256]), True)
    """
    return _terms(_content(table), signed, most)


def planes_of(table: Int32[Tensor, "256 256"], *, signed: bool) -> Planes | None:
    """Return the form with the fewest planes, or None if two bytes do not span a column.

    Args:
        table: products; rows are the activation, columns the weight.
        signed: patterns are two's complement.

    Example:
        >>> planes_of(torch.arange(65536, dtype=torch.int32).view(256, 256), signed=False).high[5]
        tensor([  0,   1,   2,  ..., 253, 254, 255], dtype=torch.uint8)
        >>> planes_of(torch.arange(65536).view(256, 256).int() * 2, signed=False) is None
        True
    """
    return _planes(_content(table), signed)


def two_planes(table: Int32[Tensor, "256 256"]) -> Planes | None:
    """Return products as two bytes and a start for each weight, or None if they span more.

    Example:
        >>> planes = two_planes(torch.arange(256).outer(torch.arange(256)).int())
        >>> int(planes.high[200, 100]), int(planes.low[200, 100])
        (78, 32)
    """
    return _two_planes(_content(table))


@lru_cache(maxsize=REMEMBERED)
def _terms(content: bytes, signed: bool, most: int) -> Terms | None:
    table = _table(content)
    errors = table - _exact(signed=signed)
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
def _planes(content: bytes, signed: bool) -> Planes | None:
    table = _table(content)
    errors = table.long() - _exact(signed=signed)
    for entries, plus_exact in ((errors, True), (table.long(), False)):
        start = entries.amin(0)
        words = (entries - start).T.contiguous()
        if int(words.max()) < WORDS:
            planes = Planes(words.to(torch.uint8), None, start.int(), plus_exact)
            break
    else:
        return _two_planes(content)
    assert torch.equal(planes.table(signed=signed), table)
    return planes


@lru_cache(maxsize=REMEMBERED)
def _two_planes(content: bytes) -> Planes | None:
    table = _table(content).long()
    start = table.amin(0)
    words = (table - start).T.contiguous()
    if int(words.max()) >= WORDS**2:
        return None
    low, high = words % WORDS, words // WORDS
    planes = Planes(low.to(torch.uint8), high.to(torch.uint8), start.int(), plus_exact=False)
    assert torch.equal(planes.table(signed=False), table.int())
    return planes


def _exact(*, signed: bool) -> Int32[Tensor, "256 256"]:
    """Return the products of an exact multiplier."""
    patterns = torch.arange(WORDS, dtype=torch.int32)
    operands = patterns.to(torch.int8).int() if signed else patterns
    return operands.outer(operands)


def _content(table: Int32[Tensor, "256 256"]) -> bytes:
    """Return the entries as a key of the cache: equal keys are equal tables, not equal hashes."""
    return table.cpu().contiguous().numpy().tobytes()


def _table(content: bytes) -> Int32[Tensor, "256 256"]:
    return torch.frombuffer(bytearray(content), dtype=torch.int32).view(WORDS, WORDS)
