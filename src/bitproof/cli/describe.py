"""What there is: every component with its parameters, as the specs themselves say."""

import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from bitproof.approx import MULTIPLIERS
from bitproof.attacks import ATTACKS
from bitproof.cli.types import type_text
from bitproof.core.errors import UnknownKindError, near
from bitproof.core.registry import Registry
from bitproof.core.spec import NONE, Spec
from bitproof.data import AUGMENT, DATA
from bitproof.evaluation import EXECUTORS, THREATS, Evaluation
from bitproof.faults import FAULTS, KINDS, PROTECTIONS
from bitproof.harden import HARDEN
from bitproof.injection import FaultGroup, Injection
from bitproof.models import MODELS
from bitproof.quant import QUANTIZERS, Scheme
from bitproof.recipe import InjectionRecipe, Recipe
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
    "stop_rules": STOP_RULES,
    "executors": EXECUTORS,
    "threats": THREATS,
    "attacks": ATTACKS,
    "hardening": HARDEN,
    "multipliers": MULTIPLIERS,
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
}
"""Tables of a recipe that have no kind, by name."""
COLUMNS = 100


def describe_all() -> str:
    """Return the description of everything, subpackage by subpackage."""
    return "\n".join(_describe(group, kind, spec) for group, kind, spec in _components())


def describe_kind(kind: str) -> str:
    """Return the description of a component, of a table of a recipe, or of a whole registry.

    Args:
        kind: its kind, the name of its class, or the name of the registry.

    Raises:
        UnknownKindError: there is none of that name; the message tells the nearest.
    """
    every = list(_components())
    found = [each for each in every if kind in {*each[:2], each[2].__name__}]
    if not found:
        known = {*REGISTRIES, *(name for _, name, _ in every)}
        raise UnknownKindError(f"describe: no kind '{kind}'. {near(kind, known)}")
    return "\n".join(_describe(*each) for each in found)


def _components() -> Iterator[tuple[str, str, type[Spec]]]:
    """Yield the registry, the kind and the class of everything that can be described."""
    for name, spec in TABLES.items():
        yield "recipe tables", name, spec
    for group, registry in REGISTRIES.items():
        for kind in registry.kinds():
            yield group, kind, registry.find(kind)


def _describe(group: str, kind: str, spec: type[Spec]) -> str:
    text = [f"{group}: {kind} ({spec.__name__})", textwrap.indent(_words(spec), "  ")]
    module = inspect.cleandoc(sys.modules[spec.__module__].__doc__ or "")
    place = module.find("Model:") if "Model:" in module else module.find("Source:")
    if place >= 0:
        text.append(textwrap.indent(module[place:], "  "))
    fields = [name for name in spec.model_fields if name != "kind" or kind in TABLES]
    text += [_parameter(spec, name) for name in fields]
    return "\n".join(text) + "\n"


def _words(spec: type[Spec]) -> str:
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
    head = f"  {name}: {type_text(field.annotation, field.metadata, REGISTRIES)}; {default}"
    lines = textwrap.wrap(head, COLUMNS, subsequent_indent=" " * 6)
    words = " ".join((field.description or "").split())
    pad = " " * 6
    lines += textwrap.wrap(words, COLUMNS, initial_indent=pad, subsequent_indent=pad)
    return "\n".join(lines)


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
