"""What a cell computes: Boolean expressions, as Liberty libraries write them.

Model:  `!A` and `A'` negate; `A&B`, `A*B` and `A B` are and; `A|B` and `A+B` are or; `A^B` is
        exclusive or; `0` and `1` are constants. Negation binds closest, then exclusive or, then
        and, then or, as in the Liberty format. An expression is parsed, never handed to Python.
Source: Liberty User Guide, "function" attribute of pins.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from bitproof.core.errors import CircuitError, shorten

Operation = Literal["and", "or", "xor", "not"]
TOKEN = re.compile(r"\s*([A-Za-z_][\w\[\].]*|[01]|[!'&*|+^()])")
MOST_PINS = 16
"""Inputs of a cell; its truth table has two to that power entries."""


@dataclass(frozen=True)
class Step:
    """One operation on two signals, or one for `not`.

    Signals are numbered: first the inputs of the function, then 0 and 1, then the result of each
    step.
    """

    operation: Operation
    first: int
    second: int


@dataclass(frozen=True)
class Function:
    """A Boolean function of named pins, as a list of steps.

    Example:
        >>> function = parse("!(A1 & A2 | B)", ("A1", "A2", "B"))
        >>> [step.operation for step in function.steps], bin(function.truth_table)
        (['and', 'or', 'not'], '0b111')
    """

    pins: tuple[str, ...]
    steps: tuple[Step, ...]
    result: int
    """Number of the signal that is the value."""

    @cached_property
    def truth_table(self) -> int:
        """The values as bits: bit i for the inputs whose pin j is bit j of i."""
        size = 1 << len(self.pins)
        ones = (1 << size) - 1
        values = [
            # Pin j as a function: 2**j zeros, then 2**j ones, again and again.
            ones // ((1 << (1 << j)) + 1) << (1 << j)
            for j in range(len(self.pins))
        ]
        values += [0, ones]
        for step in self.steps:
            one, other = values[step.first], values[step.second]
            match step.operation:
                case "and":
                    values.append(one & other)
                case "or":
                    values.append(one | other)
                case "xor":
                    values.append(one ^ other)
                case "not":
                    values.append(one ^ ones)
        return values[self.result]

    def with_pin(self, pin: int, value: int) -> int:
        """Return the truth table over the other pins, with one pin fixed to 0 or 1.

        Example:
            >>> parse("A&B", ("A", "B")).with_pin(0, 0), parse("A&B", ("A", "B")).with_pin(0, 1)
            (0, 2)
        """
        table, found = self.truth_table, 0
        for i in range(1 << (len(self.pins) - 1)):
            low = i & ((1 << pin) - 1)
            place = ((i >> pin) << (pin + 1)) | (value << pin) | low
            found |= (table >> place & 1) << i
        return found


@lru_cache(maxsize=4096)
def parse(text: str, pins: tuple[str, ...]) -> Function:
    """Return the function that an expression over `pins` stands for.

    Raises:
        CircuitError: it is malformed, or names a pin that is not there.

    Example:
        >>> parse("(A&!S) | (B&S)", ("A", "B", "S")).truth_table == 0b11001010
        True
    """
    if len(pins) > MOST_PINS:
        raise CircuitError(f"{text}: wanted at most {MOST_PINS} inputs of a cell, got {len(pins)}")
    reader = _Reader(text, pins)
    result = reader.alternatives()
    if reader.token is not None:
        raise reader.wrong("the end")
    return Function(pins, tuple(reader.steps), result)


class _Reader:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, pins: Sequence[str]) -> None:
        self.text, self.pins = text, list(pins)
        self.steps: list[Step] = []
        self.tokens = _tokens(text)
        self.at = 0

    @property
    def token(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def wrong(self, wanted: str) -> CircuitError:
        return CircuitError(
            f"function {shorten(self.text)}: wanted {wanted}, "
            f"got {shorten(self.token or 'its end')}"
        )

    def alternatives(self) -> int:
        found = self.conjunction()
        while self.token in ("|", "+"):
            self.at += 1
            found = self.add("or", found, self.conjunction())
        return found

    def conjunction(self) -> int:
        found = self.difference()
        while self.token is not None and self.token not in ("|", "+", ")"):
            if self.token in ("&", "*"):
                self.at += 1
            found = self.add("and", found, self.difference())
        return found

    def difference(self) -> int:
        found = self.factor()
        while self.token == "^":
            self.at += 1
            found = self.add("xor", found, self.factor())
        return found

    def factor(self) -> int:
        token = self.token
        if token == "!":
            self.at += 1
            operand = self.factor()
            return self.add("not", operand, operand)
        if token == "(":
            self.at += 1
            found = self.alternatives()
            if self.token != ")":
                raise self.wrong("a closing bracket")
        elif token in ("0", "1"):
            found = len(self.pins) + int(token)
        elif token in self.pins:
            found = self.pins.index(token)
        else:
            raise self.wrong(f"one of the pins {', '.join(self.pins) or '(none)'}")
        self.at += 1
        while self.token == "'":
            self.at += 1
            found = self.add("not", found, found)
        return found

    def add(self, operation: Operation, first: int, second: int) -> int:
        self.steps.append(Step(operation, first, second))
        return len(self.pins) + 1 + len(self.steps)


def _tokens(text: str) -> list[str]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = TOKEN.match(text, at)
        if match is None:
            raise CircuitError(
                f"function {shorten(text)}: wanted pins and !&|^, got {shorten(text[at:].strip())}"
            )
        found.append(match[1])
        at = match.end()
    return found
