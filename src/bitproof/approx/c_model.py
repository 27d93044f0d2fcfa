"""The C models of EvoApproxLib, worked out over all operands; nothing is compiled or run.

Model:  such a file is one function of two 8-bit operands: declarations, assignments of sums and
        bitwise operations, a `return`. Only these are read, with whole numbers as wide as the file
        declares; anything else is refused. Precedences of these operators are the same in C and in
        Python, whose parser reads the expressions.
"""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitproof.core.errors import DataError, shorten
from bitproof.kernels.forms import WORDS

HEAD = re.compile(
    r"(u?int(?:8|16|32|64)_t)\s+(\w+)\s*\(\s*(?:const\s+)?(u?int(?:8|16|32|64)_t)\s+(\w+)\s*,"
    r"\s*(?:const\s+)?u?int(?:8|16|32|64)_t\s+(\w+)\s*\)\s*\{(.*)\}",
    re.DOTALL,
)
DECLARED = re.compile(r"(?:(u?int(?:8|16|32|64))_t|(int))\s+(.*)", re.DOTALL)
ASSIGNED = re.compile(r"(\w+)\s*(\|?=)\s*(.*)", re.DOTALL)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
LONGEST = 1_000_000
"""Characters of a file; the longest has some 20,000."""
OPERATORS: dict[type[ast.operator], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ast.BitAnd: np.bitwise_and,
    ast.BitOr: np.bitwise_or,
    ast.BitXor: np.bitwise_xor,
    ast.LShift: np.left_shift,
    ast.RShift: np.right_shift,
    ast.Add: np.add,
}


def products_of_c(text: str, path: Path | str, *, signed: bool) -> np.ndarray:
    """Return what a C model gives for all bit patterns: int16 or uint16, 256 x 256.

    Rows are the patterns of its first argument, columns those of its second.

    Raises:
        DataError: the file holds anything but such a function.

    Example:
        >>> code = "uint16_t f(uint8_t A, uint8_t B) { uint16_t O; O = (A & 3) + B; return O; }"
        >>> products_of_c(code, "f.c", signed=False)[255, 4]
        np.uint16(7)
    """
    found = HEAD.search(COMMENT.sub(" ", text)) if len(text) <= LONGEST else None
    if found is None:
        raise DataError(f"{path}: wanted a C function of two operands")
    _, _, _, first, second, body = found.groups()
    codes = np.arange(WORDS, dtype=np.int64)
    if signed:
        codes = codes.astype(np.int8).astype(np.int64)
    values = {first: codes[:, None], second: codes[None, :]}
    kinds: dict[str, str] = {}
    for statement in filter(None, (part.strip() for part in body.split(";"))):
        if statement.startswith("return"):
            result = _value(statement.removeprefix("return"), values, path)
            kind = np.int16 if signed else np.uint16
            return np.ascontiguousarray(np.broadcast_to(result, (WORDS, WORDS)).astype(kind))
        if declared := DECLARED.fullmatch(statement):
            kind_name = declared[1] or "int32"
            for each in declared[3].split(","):
                name, equals, value = each.partition("=")
                kinds[name.strip()] = kind_name
                if equals:
                    values[name.strip()] = _as_wide(_value(value, values, path), kind_name)
        elif assigned := ASSIGNED.fullmatch(statement):
            name, sign, expression = assigned.groups()
            value = _value(expression, values, path)
            if sign == "|=":
                value = _look_up(name, values, path) | value
            values[name] = _as_wide(value, kinds.get(name, "int64"))
        else:
            raise DataError(f"{path}: wanted an assignment, got {shorten(statement)}")
    raise DataError(f"{path}: wanted a 'return', there is none")


def _as_wide(value: np.ndarray, kind: str) -> np.ndarray:
    """Return what a variable keeps of a value."""
    return value.astype(kind).astype(np.int64)


def _value(text: str, values: dict[str, np.ndarray], path: Path | str) -> np.ndarray:
    try:
        return _evaluate(ast.parse(text.strip(), mode="eval").body, values, path)
    except (SyntaxError, RecursionError, ValueError):
        raise DataError(
            f"{path}: wanted sums and bitwise operations, got {shorten(text)}"
        ) from None


def _evaluate(node: ast.expr, values: dict[str, np.ndarray], path: Path | str) -> np.ndarray:
    if isinstance(node, ast.Constant) and type(node.value) is int and 0 <= node.value < 2**16:
        return np.full((1, 1), node.value, np.int64)
    if isinstance(node, ast.Name):
        return _look_up(node.id, values, path)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        return ~_evaluate(node.operand, values, path)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _evaluate(node.left, values, path), _evaluate(node.right, values, path)
        if isinstance(node.op, ast.LShift | ast.RShift) and not np.all((right >= 0) & (right < 64)):
            raise DataError(f"{path}: wanted shifts by 0 to 63")
        return OPERATORS[type(node.op)](left, right)
    raise DataError(f"{path}: wanted sums and bitwise operations, got {shorten(ast.unparse(node))}")


def _look_up(name: str, values: dict[str, np.ndarray], path: Path | str) -> np.ndarray:
    if name not in values:
        raise DataError(f"{path}: {shorten(name)} is read before it is written")
    return values[name]
