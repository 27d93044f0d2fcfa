"""The tables that benchmarks multiply with: one for each form in which products can be computed.

They are EvoApproxLib's where the data folder has it, else multipliers of the catalogue that take
the same form. Unsigned circuits multiply magnitudes, and the sign is put before the product.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int32
from torch import Tensor

from bitproof.approx import (
    EvoApprox,
    LowerOr,
    Mitchell,
    Multiplier,
    ProductTable,
    Truncated,
    TruncatedMitchell,
    TruncatedOperands,
)
from bitproof.approx.base import sign_magnitude
from bitproof.approx.catalogue import short_name
from bitproof.core.errors import DataError
from bitproof.kernels.forms import operand_values, planes_of, terms_of


@dataclass(frozen=True)
class Wanted:
    """A form, the circuit of EvoApproxLib that has it, and one of the catalogue that does, too."""

    circuit: str
    instead: Multiplier
    multiplications: int | None = None
    """Exact products for one of the table; None: more than 6."""
    bytes: int | None = None
    """Of an entry of the table, or of its errors; None where that does not matter."""


FORMS = {
    "any": Wanted("mul8u_12N4", Mitchell(signed=True), bytes=2),
    "byte": Wanted("mul8u_2HH", LowerOr(signed=True, columns=6), bytes=1),
    "rank 1": Wanted("mul8s_1L2H", TruncatedOperands(signed=True, bits=1), 1),
    "rank 3": Wanted("mul8s_1KR6", Truncated(signed=True, columns=2), 3),
    "rank 4": Wanted("mul8s_1KVL", Truncated(signed=True, columns=3), 4),
    "rank 5": Wanted("mul8s_1KX2", Truncated(signed=True, columns=4), 5),
    "second": Wanted("mul8u_L40", TruncatedMitchell(signed=True, mantissa=5), bytes=2),
    "third": Wanted("mul8u_XFM", TruncatedMitchell(signed=True, mantissa=4), bytes=2),
    "fourth": Wanted("mul8u_185Q", TruncatedMitchell(signed=True, mantissa=3), bytes=2),
}


@dataclass(frozen=True)
class Tables:
    """Signed tables by what `FORMS` calls them, and what each is."""

    entries: dict[str, Int32[Tensor, "256 256"]]
    names: dict[str, str]


def read_tables() -> Tables:
    """Return the tables; every one is checked to have the form that it stands for."""
    entries, names = {}, {}
    for form, wanted in FORMS.items():
        try:
            table, name = EvoApprox(name=wanted.circuit).table(), wanted.circuit
        except DataError:
            table, name = wanted.instead.table(), short_name(wanted.instead)
        entries[form], names[form] = with_signs(table).products, name
        terms = terms_of(entries[form], signed=True)
        planes = planes_of(entries[form], signed=True)
        assert planes is not None, form
        assert (terms and terms.multiplications) == wanted.multiplications, form
        assert wanted.bytes in {None, planes.stacked.shape[1]}, form
    return Tables(entries, names)


def with_signs(table: ProductTable) -> ProductTable:
    """Return a table of signed operands, by magnitudes if `table` is unsigned."""
    if table.signed:
        return table
    words = operand_values(signed=True).long()
    first, second = torch.meshgrid(words, words, indexing="ij")
    return ProductTable(
        sign_magnitude(lambda a, b: table.products[a, b], first, second).int(), signed=True
    )
