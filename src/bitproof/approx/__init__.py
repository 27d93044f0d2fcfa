"""Multiply approximately: tables of products, how far they are off, and what they cost."""

from bitproof.approx.adam import Adam
from bitproof.approx.ariths_gen import ArithsGen
from bitproof.approx.base import MULTIPLIERS, AnyMultiplier, Formula, Multiplier, ProductTable
from bitproof.approx.catalogue import catalogue, describe, same_products
from bitproof.approx.circuit import CircuitMultiplier
from bitproof.approx.control_variate import correct_means
from bitproof.approx.deploy import Arithmetic, with_multipliers
from bitproof.approx.error_map import character_map, picture, png
from bitproof.approx.evoapprox import EvoApprox, library_path, read_circuits, read_tables
from bitproof.approx.figures import error_figures, exact_rank, zero_operand_errors
from bitproof.approx.leading_one import Drum, Loba, Mitchell, Roba, TruncatedMitchell
from bitproof.approx.naming import component, multiplier_of, short_name
from bitproof.approx.partial_products import (
    BrokenArray,
    Exact,
    Kulkarni,
    LowerOr,
    Perforated,
    Truncated,
    TruncatedOperands,
)
from bitproof.approx.published import check_library
from bitproof.approx.stored import Stored
from bitproof.approx.wrapped import SignMagnitude, Swapped
from bitproof.stats import Cost

__all__ = [
    "MULTIPLIERS",
    "Adam",
    "AnyMultiplier",
    "Arithmetic",
    "ArithsGen",
    "BrokenArray",
    "CircuitMultiplier",
    "Cost",
    "Drum",
    "EvoApprox",
    "Exact",
    "Formula",
    "Kulkarni",
    "Loba",
    "LowerOr",
    "Mitchell",
    "Multiplier",
    "Perforated",
    "ProductTable",
    "Roba",
    "SignMagnitude",
    "Stored",
    "Swapped",
    "Truncated",
    "TruncatedMitchell",
    "TruncatedOperands",
    "catalogue",
    "character_map",
    "check_library",
    "component",
    "correct_means",
    "describe",
    "error_figures",
    "exact_rank",
    "library_path",
    "multiplier_of",
    "picture",
    "png",
    "read_circuits",
    "read_tables",
    "same_products",
    "short_name",
    "with_multipliers",
    "zero_operand_errors",
]
