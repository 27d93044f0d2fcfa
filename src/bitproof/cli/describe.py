"""What there is: every component with its parameters, as the specs themselves say."""

import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from bitproof.approx import MULTIPLIERS
from bitproof.attacks import ATTACKS
from bitproof.circuits import DESIGNS
from bitproof.core.errors import UnknownKindError, near, shorten
from bitproof.core.registry import Registry
from bitproof.core.spec import NONE, Spec
from bitproof.data import AUGMENT, DATA
from bitproof.evaluation import EXECUTORS, THREATS, Evaluation
from bitproof.explore import ACCELERATORS, SCORES, SEARCHES, Exploration, Folding, Goal
from bitproof.faults import FAULTS, KINDS, PROTECTIONS, WEIGHT_ATTACKS, SystolicArray
from bitproof.harden import HARDEN
from bitproof.injection import FaultGroup, Injection
from bitproof.metrics import TASKS
from bitproof.models import MODELS
from bitproof.quant import QUANTIZERS, Scheme
from bitproof.recipe import ExplorationRecipe, InjectionRecipe, Recipe
from bitproof.stats import STOP_RULES
from bitproof.train import Optimization

REGISTRIES: dict[str, Registry[Any]] = {
    "data": DATA,
    "augmentation": AUGMENT,
    "models": MODELS,
    "quantizers": QUANTIZERS,
    "faults": FAULTS,
    "fault_kinds": KINDS,
    "protections": PROTECTIONS,
    "weight_attacks": WEIGHT_ATTACKS,
    "stop_rules": STOP_RULES,
    "executors": EXECUTORS,
    "threats": THREATS,
    "attacks": ATTACKS,
    "tasks": TASKS,
    "hardening": HARDEN,
    "multipliers": MULTIPLIERS,
    "circuits": DESIGNS,
    "scores": SCORES,
    "accelerators": ACCELERATORS,
    "searches": SEARCHES,
}
"""Registries, by the word that `describe` takes for all of their kinds."""
TABLES: dict[str, type[Spec]] = {
    "recipe": Recipe,
    "train": Optimization,
    "quantization": Scheme,
    "evaluation": Evaluation,
    "injection_recipe": InjectionRecipe,
    "injection": Injection,
    "injection.faults": FaultGroup,
    "injection.array": SystolicArray,
    "exploration_recipe": ExplorationRecipe,
    "exploration": Exploration,
    "exploration.goal": Goal,
    "exploration.accelerator.folding": Folding,
}
"""Tables of a recipe that have no kind, by name."""
PLAIN: dict[object, str] = {int: "integer", float: "number", bool: "true or false", str: "text"}
BOUNDS = {
    annotated_types.Gt: ("gt", "> {}"),
    annotated_types.Ge: ("ge", ">= {}"),
    annotated_types.Lt: ("lt", "< {}"),
    annotated_types.Le: ("le", "<= {}"),
    annotated_types.MinLen: ("min_length", "at least {} long"),
    annotated_types.MaxLen: ("max_length", "at most {} long"),
}
LARGEST = 2**63
"""A bound that only says that a number fits a machine word."""
COLUMNS = 100


def describe_all() -> str:
    """Return the description of everything, subpackage by subpackage."""
    return "\n".join(_describe(group, kind, spec) for group, kind, spec in _components())


def describe_kind(kind: str) -> str:
    """Return the description of a kind, a class, a table of a recipe, or a whole registry."""
    every = list(_components())
    found = [each for each in every if kind in {*each[:2], each[2].__name__}]
    if not found:
        known = {*REGISTRIES, *(name for _, name, _ in every)}
        raise UnknownKindError(f"describe: no kind {shorten(kind)}. {near(kind, known)}")
    return "\n".join(_describe(*each) for each in found)


def _components() -> Iterator[tuple[str, str, type[Spec]]]:
    """Yield the registry, the kind and the class of everything that can be described."""
    for name, spec in TABLES.items():
        yield "recipe tables", name, spec
    for group, registry in REGISTRIES.items():
        for kind in registry.kinds():
            yield group, kind, registry.find(kind)


def _describe(group: str, kind: str, spec: type[Spec]) -> str:
    text = [f"{group}: {kind} ({spec.__name__})", textwrap.indent(words_of(spec), "  ")]
    module = inspect.cleandoc(sys.modules[spec.__module__].__doc__ or "")
    place = module.find("Model:") if "Model:" in module else module.find("Source:")
    if place >= 0:
        text.append(textwrap.indent(module[place:], "  "))
    fields = [name for name in spec.model_fields if name != "kind" or kind in TABLES]
    text += [_parameter(spec, name) for name in fields]
    return "\n".join(text) + "\n"


def words_of(spec: type[Spec]) -> str:
    """Return the docstring of a class without its sections."""
    words = inspect.cleandoc(spec.__doc__ or "")
    for section in ("Example:", "Raises:"):
        words = words.partition(section)[0]
    return words.strip()


def _parameter(spec: type[Spec], name: str) -> str:
    field = spec.model_fields[name]
    default = "required"
    if not field.is_required():
        default = f"default {toml_text(field.get_default(call_default_factory=True))}"
    head = f"  {name}: {type_text(field.annotation, field.metadata)}; {default}"
    lines = textwrap.wrap(head, COLUMNS, subsequent_indent=" " * 6)
    words = " ".join((field.description or "").split())
    pad = " " * 6
    lines += textwrap.wrap(words, COLUMNS, initial_indent=pad, subsequent_indent=pad)
    return "\n".join(lines)


def type_text(annotation: object, metadata: list[Any]) -> str:
    """Return what a field takes, with its limits.

    Example:
        >>> type_text(Annotated[int, annotated_types.Ge(1)] | None, [])
        'integer, >= 1, or "none"'
    """
    limits = [limit for part in metadata for limit in _limits(part)]
    return ", ".join([_bare(annotation), *limits])


def _bare(annotation: Any) -> str:  # noqa: PLR0911
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(parts[0], list(parts[1:]))
    if origin is Literal:
        return " | ".join(f'"{part}"' if isinstance(part, str) else str(part) for part in parts)
    inside = [type_text(part, []) for part in parts if part not in {NoneType, Ellipsis}]
    if origin in {Union, UnionType}:
        return ", or ".join([*inside, '"none"'] if NoneType in parts else inside)
    if origin is tuple:
        return f"list of ({'; '.join(inside)})"
    if origin is dict:
        return f"tables by name, each {inside[1]}"
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return _component(annotation)
    return PLAIN.get(annotation, str(annotation))


def _component(spec: type[Spec]) -> str:
    """Return where the fields of a spec are found: in a registry, or in a table of its own."""
    for name, registry in REGISTRIES.items():
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


def toml_text(value: object) -> str:
    """Return a default as a recipe would say it, numbers to six digits.

    Example:
        >>> toml_text((8 / 255, None, True, "a"))
        '[0.0313725, "none", true, "a"]'
    """
    if isinstance(value, Spec):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        return toml_text(kind | value.model_dump(exclude_defaults=True))
    if isinstance(value, dict):
        pairs = ", ".join(f"{key} = {toml_text(part)}" for key, part in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(NONE if value is None else value)
