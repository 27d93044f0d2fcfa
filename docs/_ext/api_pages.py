"""A page for each subpackage with its public names, and one for the names of `bp`."""

import ast
import inspect
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import bitproof
from bitproof.cli.describe import REGISTRIES
from bitproof.core.registry import Registry
from bitproof.core.spec import Spec

SUBPACKAGES = (
    "recipe",
    "report",
    "injection",
    "explore",
    "harden",
    "evaluation",
    "faults",
    "attacks",
    "approx",
    "exchange",
    "quant",
    "train",
    "circuits",
    "models",
    "data",
    "stats",
    "metrics",
)
"""Subpackages that have a page, from top to bottom; those that are not there yet are left out."""


def api_pages() -> dict[str, str]:
    """Return the pages, by name, in reStructuredText."""
    pages = {f"{name}.rst": _page(name) for name in present()}
    names = "\n".join(f"   {name}" for name in present())
    pages["python.rst"] = (
        "Python\n======\n\n``import bitproof as bp``: the main verbs and values, loaded when they "
        "are first used. Each is described in the page of its subpackage.\n\n"
        f"{_names_of_root()}\n\n.. toctree::\n   :caption: Subpackages\n\n{names}\n"
    )
    return pages


@cache
def present() -> list[str]:
    """Return the subpackages that are there."""
    source = Path(bitproof.__file__).parent
    return [name for name in SUBPACKAGES if (source / name / "__init__.py").is_file()]


@cache
def public_places() -> dict[Any, str]:
    """Return where the site describes each class and function."""
    places: dict[Any, str] = {}
    for subpackage in present():
        for name, value in _members(subpackage).items():
            if inspect.isclass(value) or inspect.isfunction(value):
                places.setdefault(value, f"bitproof.{subpackage}.{name}")
    places[bitproof.show_progress] = "bitproof.cli.console.show_progress"
    return places


def _members(subpackage: str) -> dict[str, Any]:
    """Return what a subpackage makes public, and what `bp` takes from modules of it."""
    home = f"bitproof.{subpackage}"
    module = import_module(home)
    members = {name: getattr(module, name) for name in getattr(module, "__all__", ())}
    for name in bitproof.__all__:
        place = homes().get(name, "")
        if place.startswith(f"{home}."):
            members[f"{place.removeprefix(home)[1:]}.{name}"] = getattr(bitproof, name)
    return members


@cache
def homes() -> dict[str, str]:
    """Return the module that each name of `bp` is taken from."""
    tree = ast.parse(inspect.getsource(bitproof))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.name: f"{node.module}" for node in imports for name in node.names if name.asname}


def _names_of_root() -> str:
    """Return the table of the names of `bp`."""
    rows = []
    for name in sorted(bitproof.__all__, key=str.lower):
        value = getattr(bitproof, name)
        if inspect.ismodule(value) or isinstance(value, str):
            continue
        role, place = "func" if inspect.isfunction(value) else "class", public_places().get(value)
        home = f":py:{role}:`bp.{name} <{place}>`" if place else f"``bp.{name}``"
        words = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
        rows.append(f"   * - {home}\n     - {words}")
    listed = ".. list-table::\n   :widths: 30 70\n\n" + "\n".join(rows)
    return f"{listed}\n\n.. autofunction:: bitproof.cli.console.show_progress\n"


def _page(subpackage: str) -> str:
    module = import_module(f"bitproof.{subpackage}")
    title = f"bitproof.{subpackage}"
    lines = [title, "=" * len(title), "", inspect.cleandoc(module.__doc__ or ""), ""]
    docs = _constants(module)
    for name, value in sorted(_members(subpackage).items(), key=_order):
        place = f"bitproof.{subpackage}.{name}"
        if public_places().get(value if callable(value) else None, place) != place:
            continue
        if inspect.isclass(value) and issubclass(value, Exception):
            lines += [f".. py:exception:: {place}", "", f"   {value.__doc__}"]
        elif inspect.isclass(value):
            lines += [f".. autoclass:: {place}", "   :members:", "   :show-inheritance:"]
            if issubclass(value, Spec):
                lines.append(
                    f"   :exclude-members: {', '.join([*value.model_fields, 'model_config'])}"
                )
            elif issubclass(value, tuple):
                lines.append("   :exclude-members: count, index")
        elif inspect.isfunction(value):
            lines.append(f".. autofunction:: {place}")
        elif isinstance(value, Registry):
            told = f"The registry of {value.subpackage}: {_page_of(value)}."
            lines += [f".. py:data:: {place}", "", f"   {told}"]
        elif not isinstance(value, ModuleType):
            lines += [f".. py:data:: {place}", "", f"   {docs.get(name, '')}"]
        else:
            continue
        lines.append("")
    return "\n".join(lines)


def _page_of(registry: Registry[Any]) -> str:
    found = [name for name, known in REGISTRIES.items() if known is registry]
    return f":doc:`components/{found[0]}`" if found else "not in recipes"


def _order(member: tuple[str, Any]) -> tuple[int, str]:
    name, value = member
    sort = 0 if inspect.isfunction(value) else 1 if inspect.isclass(value) else 2
    return sort, name.lower()


def _constants(module: ModuleType) -> dict[str, str]:
    """Return what is written below the constants that a subpackage imports from its modules."""
    docs: dict[str, str] = {}
    tree = ast.parse(inspect.getsource(module))
    for imported in tree.body:
        if isinstance(imported, ast.ImportFrom) and f"{imported.module}".startswith("bitproof."):
            home = import_module(f"{imported.module}")
            docs |= _constants_in(ast.parse(inspect.getsource(home)))
    return docs


def _constants_in(tree: ast.Module) -> dict[str, str]:
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        target = before.targets[0] if isinstance(before, ast.Assign) else None
        target = before.target if isinstance(before, ast.AnnAssign) else target
        if isinstance(target, ast.Name) and isinstance(after, ast.Expr):
            words = getattr(after.value, "value", "")
            found[target.id] = " ".join(words.split()) if isinstance(words, str) else ""
    return found
