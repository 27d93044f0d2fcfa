"""Frozen, validated parameter sets: the base of every component and of the recipe."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from bitproof.core.errors import SpecError, near

UNKNOWN_FIELD = "unknown_field"
"""Type of the problem that pydantic calls `extra_forbidden`, once it names the nearest field."""
NONE = "none"
"""What a table says for None, which TOML has no word for."""


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
        try:
            return build(table)
        except ValidationError as error:
            details = [_with_nearest(dict(problem), cls) for problem in error.errors()]
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
    return [describe_problem(problem, spec) for problem in problems_of(error)]


def problems_of(error: ValidationError) -> list[dict[str, Any]]:
    """Return the problems, without lists that are called too short for their faulty elements."""
    return [
        dict(problem)
        for problem in error.errors()
        if problem["type"] != "too_short" or len(problem["input"]) < problem["ctx"]["min_length"]
    ]


def describe_problem(problem: dict[str, Any], spec: type[BaseModel]) -> str:
    """Return the sentence for one entry of `ValidationError.errors()`."""
    parts = [str(part) for part in problem["loc"] if part != "[key]"]
    where = ".".join(parts) or spec.__name__
    if problem["type"] == "missing":
        return f"{where}: wanted a value, none came"
    wanted = str(problem["msg"]).removeprefix("Value error, ")
    wanted = wanted[0].lower() + wanted[1:]
    if problem["type"] in {"value_error", UNKNOWN_FIELD}:
        return f"{where}: {wanted}"
    return f"{where}: {wanted.replace('input should', 'should')}, got {problem['input']!r}"


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
