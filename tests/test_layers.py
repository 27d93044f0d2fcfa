"""No module of the package imports itself by way of others, not even inside functions."""

import ast
from pathlib import Path

import bitproof

ROOT = Path(bitproof.__file__).parent


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(source: str) -> set[str]:
    """Return the modules of the package that a module imports; those for type checkers are none."""
    tree = ast.parse(source)
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner_module = f"{node.module}.{alias.name}"
                found.add(inner_module if inner_module in MODULES else node.module)
    return found & MODULES.keys()


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the sets of nodes that reach one another."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        rest = [start]
        while rest:
            new = graph[rest.pop()] - seen
            seen |= new
            rest += new
        reached[start] = seen
    groups = {
        tuple(sorted(b for b in reached[a] if a in reached[b])) for a in graph if a in reached[a]
    }
    return [list(group) for group in sorted(groups)]


def test_modules_do_not_import_one_another_in_a_circle() -> None:
    graph = {name: imports_of(path.read_text("utf-8")) for name, path in MODULES.items()}
    assert len(graph) > 100
    assert circles(graph) == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert circles(graph) == [["b", "c"], ["d"]]


def test_imports_inside_functions_count() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bitproof.cli\n"
    source += (
        "def f():\n    from bitproof.quant import grid\n    from bitproof.core.spec import Spec\n"
    )
    assert imports_of(source) == {"bitproof.quant.grid", "bitproof.core.spec"}
