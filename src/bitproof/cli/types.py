"""The type of a field in words: what a recipe may say there."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from bitproof.core.registry import Registry
from bitproof.core.spec import Spec

PLAIN: dict[object, str] = {int: "integer", float: "number", bool: "true or false", str: "text"}
BOUNDS = {
    annotated_types.Gt: ("gt", "> {}"),
    annotated_types.Ge: ("ge", ">= {}"),
    annotated_types.Lt: ("lt", "< {}"),
    annotated_types.Le: ("le", "<= {}"),
    annotated_types.MinLen: ("min_length", "at least {} long"),
    annotated_types.MaxLen: ("max_length", "at most {} long"),
}
Registries = Mapping[str, Registry[Any]]
LARGEST = 2**63
"""A bound that only says that a number fits a machine word."""


def type_text(annotation: object, metadata: list[Any], registries: Registries) -> str:
    """Return what a field takes, with its limits.

    Example:
        >>> type_text(Annotated[int, annotated_types.Ge(1)] | None, [], {})
        'integer, >= 1, or "none"'
    """
    limits = [limit for part in metadata for limit in _limits(part)]
    return ", ".join([_bare(annotation, registries), *limits])


def _bare(annotation: Any, registries: Registries) -> str:  # noqa: PLR0911
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(parts[0], list(parts[1:]), registries)
    if origin is Literal:
        return " | ".join(f'"{part}"' if isinstance(part, str) else str(part) for part in parts)
    inside = [type_text(part, [], registries) for part in parts if part not in {NoneType, Ellipsis}]
    if origin in {Union, UnionType}:
        return ", or ".join([*inside, '"none"'] if NoneType in parts else inside)
    if origin is tuple:
        return f"list of ({'; '.join(inside)})"
    if origin is dict:
        return f"tables by name, each {inside[1]}"
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return _component(annotation, registries)
    return PLAIN.get(annotation, str(annotation))


def _component(spec: type[Spec], registries: Registries) -> str:
    """Return where the fields of a spec are found: in a registry, or in a table of its own."""
    for name, registry in registries.items():
        if any(issubclass(registry.find(kind), spec) for kind in registry.kinds()):
            return f"one of {name}"
    return f"table ({spec.__name__})"


def _limits(part: object) -> list[str]:
    if isinstance(part, FieldInfo):
        return [limit for inner in part.metadata for limit in _limits(inner)]
    if isinstance(part, str):
        return [part]
    if pattern := getattr(part, "pattern", None):
        return [f"matching {pattern}"]
    name, words = BOUNDS.get(type(part), ("", ""))
    bound = getattr(part, name, LARGEST) if name else LARGEST
    return [words.format(f"{bound:g}")] if bound < LARGEST else []
