"""A page for each registry: every component with its fields, defaults, units and source."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator

from api_pages import public_places
from text import cell, table

from bitproof.cli.describe import REGISTRIES, TABLES, toml_text, type_text, words_of
from bitproof.core.spec import Spec

INDEX = """# Components

Every component that a recipe or a program can name, with its fields, defaults, units and source,
made from the specs themselves, as `bitproof describe` prints them. Other packages add kinds through
entry points of the groups `bitproof.NAME`: [architecture](../../architecture.md).
"""
RECIPE = """# Tables of a recipe

What a recipe may hold beside components, by the name of the table.
"""
REGISTRY = """What `bitproof describe {name}` prints. Recipes name a component by its kind:
`{{ kind = "..." }}`.
"""
TITLES = {
    "data": "Data sets",
    "augmentation": "Augmentation",
    "models": "Models",
    "quantizers": "Quantizers",
    "faults": "Faults in memories",
    "fault_kinds": "Kinds of faults in campaigns",
    "protections": "Protections",
    "weight_attacks": "Attacks on weights",
    "stop_rules": "Stop rules",
    "executors": "Executors",
    "threats": "Threats",
    "attacks": "Attacks on inputs",
    "tasks": "Tasks",
    "hardening": "Hardening stages",
    "multipliers": "Multipliers",
    "circuits": "Circuits",
    "scores": "Scores of harm",
    "accelerators": "Accelerators",
    "searches": "Searches",
}
"""Registries, by the name that `describe` has for them; others are titled by that name."""


def component_pages() -> dict[str, str]:
    """Return the pages, by name."""
    pages = {"components/recipe.md": _page(RECIPE, TABLES.items())}
    for name, registry in REGISTRIES.items():
        title = TITLES.get(name, name.replace("_", " ").capitalize())
        head = f"# {title}\n\n{REGISTRY.format(name=name)}"
        pages[f"components/{name}.md"] = _page(
            head, ((kind, registry.find(kind)) for kind in registry.kinds())
        )
    names = "\n".join(["recipe", *sorted(REGISTRIES)])
    pages["components/index.md"] = f"{INDEX}\n```{{toctree}}\n{names}\n```\n"
    return pages


def _page(head: str, specs: Iterable[tuple[str, type[Spec]]]) -> str:
    return "\n".join([head, *(part for name, spec in specs for part in _section(name, spec))])


def _section(kind: str, spec: type[Spec]) -> Iterator[str]:
    yield f"## {kind}\n"
    yield f"{_link(spec)}\n"
    yield _as_markdown(words_of(spec)) + "\n"
    module = inspect.cleandoc(sys.modules[spec.__module__].__doc__ or "")
    for word in ("Model", "Source"):
        if found := re.search(rf"^{word}:\s+(.+?)(?=^\w+:|^\S|\Z)", module, re.M | re.S):
            yield f"**{word}.** {' '.join(found[1].split())}\n"
    fields = [name for name in spec.model_fields if name != "kind" or kind in TABLES]
    if fields:
        yield table(("Field", "Takes", "Default", "Meaning"), [field_row(spec, n) for n in fields])


def field_row(spec: type[Spec], name: str) -> tuple[str, str, str, str]:
    """Return name, type with limits, default and meaning of a field, as Markdown."""
    field = spec.model_fields[name]
    default = "required"
    if not field.is_required():
        default = f"`{toml_text(field.get_default(call_default_factory=True))}`"
    takes = type_text(field.annotation, field.metadata)
    words = (field.description or "").replace("\n", " ")
    return f"`{name}`", cell(takes), default.replace("|", "\\|"), cell(words)


def _link(spec: type[Spec]) -> str:
    place = public_places().get(spec)
    if place is None:
        return f"Class `{spec.__module__}.{spec.__name__}`."
    return f"Class {{py:class}}`{place}`."


def _as_markdown(words: str) -> str:
    """Return a docstring as Markdown: blocks after `::` are fenced by their indent already."""
    return re.sub(r"::$", ":", words, flags=re.M)
