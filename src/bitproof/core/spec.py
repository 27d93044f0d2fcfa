"""Frozen, validated parameter sets: the base of every component and of the recipe."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bitproof.core.errors import SpecError, near


class Spec(BaseModel):
    """A value: frozen, compared and hashed by content, with one public verb in its subclass.

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
    return [describe_problem(dict(problem), spec) for problem in error.errors()]


def describe_problem(problem: dict[str, Any], spec: type[BaseModel]) -> str:
    """Return the sentence for one entry of `ValidationError.errors()`."""
    where = ".".join(str(part) for part in problem["loc"]) or spec.__name__
    if problem["type"] == "extra_forbidden":
        owner = _owner(spec, problem["loc"][:-1])
        known = near(str(problem["loc"][-1]), owner.model_fields) if owner else ""
        return f"{where}: no such field. {known}".strip()
    if problem["type"] == "missing":
        return f"{where}: wanted a value, none came"
    wanted = str(problem["msg"]).removeprefix("Value error, ")
    wanted = wanted[0].lower() + wanted[1:]
    if problem["type"] == "value_error":
        return f"{where}: {wanted}"
    return f"{where}: {wanted.replace('input should', 'should')}, got {problem['input']!r}"


def _owner(spec: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Follow field names from `spec` to the model that owns the last one, where it is plain."""
    for part in path:
        if not isinstance(part, str) or part not in spec.model_fields:
            return None
        kind = spec.model_fields[part].annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return None
        spec = kind
    return spec
