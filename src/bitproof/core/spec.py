"""Frozen, validated parameter sets: the base of every component and of the recipe."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from bitproof.core.errors import SpecError, near, one_line, shorten

UNKNOWN_FIELD = "unknown_field"
"""Type of the problem that pydantic calls `extra_forbidden`, once it names the nearest field."""
TOO_LARGE = "too_large"
"""Type of the problem that a text, a list or a table is longer than any is."""
NONE = "none"
"""What a table says for None, which TOML has no word for."""
MOST_CHARACTERS, MOST_ENTRIES = 10_000, 2**16
"""Longest text, and longest list or table, of a field that does not set its own limit."""
MOST_PROBLEMS = 10
"""Problems of one table that are told; those of a long list are mostly the same."""
MORE_PROBLEMS = "and more problems"
"""What is said of the others."""
LONGEST = 400
"""Characters of the sentence about one problem, without the value."""
BOUNDS = {
    "greater_than": "gt",
    "greater_than_equal": "ge",
    "less_than": "lt",
    "less_than_equal": "le",
}
"""Problems whose message ends with a bound, and what their context calls it."""


class Spec(BaseModel):
    """A value: frozen, compared and hashed by content, with one public verb in its subclass.

    A field that takes None also takes the word "none", because TOML has no null.

    Example:
        >>> class Flip(Spec):
        ...     ber: float = 0.0
        >>> Flip(ber=0.5) == Flip(ber=0.5)
        True
        >>> Flip(ber=0.5).digest()[:8]
        '13f0ce14'
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    packages: ClassVar[tuple[Any, ...]] = ()
    """Optional packages that it needs, of `core.packages`."""

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON (sorted keys): equal digest, equal meaning."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()

    @model_validator(mode="wrap")
    @classmethod
    def _read_table(cls, table: Any, build: Callable[[Any], Any]) -> Any:
        """Read "none" as None where None will do, and tell what is near an unknown field."""
        if isinstance(table, dict):
            table = {
                name: None if _takes_none(cls, name) and value == NONE else value
                for name, value in table.items()
            }
            if wrong := [found for each in table.items() if (found := _check_size(*each))]:
                raise ValidationError.from_exception_data(cls.__name__, wrong)
        try:
            return build(table)
        except ValidationError as error:
            problems = error.errors(include_url=False)[: MOST_PROBLEMS + 1]
            details = [_with_nearest(dict(problem), cls) for problem in problems]
            raise ValidationError.from_exception_data(cls.__name__, details) from None

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> "Spec":
        """Build from a plain table, with errors that name the field.

        Raises:
            SpecError: a field is unknown, missing, of the wrong type or out of range.
        """
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            raise SpecError("; ".join(describe_problems(error, cls))) from None


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces, the form that digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def describe_problems(error: ValidationError, spec: type[BaseModel]) -> list[str]:
    """Return one sentence for each problem: where, what was wanted, what came, what is near."""
    problems = problems_of(error)
    told = [describe_problem(problem, spec) for problem in problems[:MOST_PROBLEMS]]
    return [*told, MORE_PROBLEMS] if len(problems) > MOST_PROBLEMS else told


def problems_of(error: ValidationError) -> list[dict[str, Any]]:
    """Return the problems, without lists that are called too short for their faulty elements."""
    return [
        dict(problem)
        for problem in error.errors(include_url=False)
        if problem["type"] != "too_short" or len(problem["input"]) < problem["ctx"]["min_length"]
    ]


def describe_problem(problem: dict[str, Any], spec: type[BaseModel]) -> str:
    """Return the sentence for one entry of `ValidationError.errors()`."""
    parts = [one_line(str(part)) for part in problem["loc"] if part != "[key]"]
    where = one_line(".".join(parts), LONGEST // 2) or spec.__name__
    if problem["type"] == "missing":
        return f"{where}: wanted a value, none came"
    wanted = _wanted(problem)
    wanted = one_line(wanted[0].lower() + wanted[1:], LONGEST)
    if problem["type"] in {"value_error", UNKNOWN_FIELD, TOO_LARGE}:
        # An unknown kind says of itself what it is no kind of, which often is the field's name.
        return wanted if wanted.startswith(f"{where}: ") else f"{where}: {wanted}"
    return f"{where}: {wanted.replace('input should', 'should')}, got {shorten(problem['input'])}"


def _wanted(problem: dict[str, Any]) -> str:
    """Return what pydantic says was wanted, with the bound as short and exact as it can be."""
    wanted = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] not in BOUNDS:
        return wanted
    bound = problem["ctx"][BOUNDS[problem["type"]]]
    short = f"{bound:g}" if isinstance(bound, float) else str(bound)
    return f"{wanted.rpartition(' ')[0]} {short}"


def _check_size(name: object, value: object) -> InitErrorDetails | None:
    """Return what is wrong with a text, list or table that no field is meant for."""
    wanted = ""
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        wanted = f"wanted at most {MOST_CHARACTERS} characters, got {len(value)}: {shorten(value)}"
    elif isinstance(value, str) and "\0" in value:
        wanted = f"wanted text without characters of code 0, got {shorten(value)}"
    elif isinstance(value, dict | list | tuple) and len(value) > MOST_ENTRIES:
        wanted = f"wanted at most {MOST_ENTRIES} entries, got {len(value)}"
    if not wanted:
        return None
    problem = PydanticCustomError(TOO_LARGE, "{wanted}", {"wanted": wanted})
    return InitErrorDetails(type=problem, loc=(str(name),), input=value)


def _takes_none(spec: type[BaseModel], name: object) -> bool:
    field = spec.model_fields.get(str(name))
    return field is not None and type(None) in get_args(field.annotation)


def _with_nearest(problem: dict[str, Any], spec: type[BaseModel]) -> InitErrorDetails:
    """Return a problem as it was; one of an unknown field of `spec` names the nearest field."""
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden" and len(problem["loc"]) == 1:
        kind = UNKNOWN_FIELD
        message = f"no such field. {near(str(problem['loc'][0]), spec.model_fields)}"
    if kind not in get_args(ErrorType):
        kind = PydanticCustomError(kind, message)
    return InitErrorDetails(
        type=kind, loc=problem["loc"], input=problem["input"], ctx=problem.get("ctx", {})
    )
