"""Which modules a piece of code rests on, and a digest of what they do.

Model:  a module rests on what it imports, at its top or inside a function. A name that is
        imported from a room is followed to the module that defines it, so that a new
        component in that room changes nothing for the others. Comments, docstrings and layout do
        not count: the digest is taken of the syntax tree without them, written out here, because
        `ast.dump` and `ast.unparse` differ between versions of Python.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import bitproof

PACKAGE = "bitproof"
SILENT = {"kind", "type_comment", "type_ignores", "ctx"}
"""Fields of syntax trees that say nothing about what the code does."""


@dataclass(frozen=True)
class Sources:
    """The modules of a copy of the package, read when they are first asked for."""

    root: Path
    """The folder `bitproof`."""
    _trees: dict[str, ast.Module] = field(default_factory=dict, compare=False, repr=False)
    _reach: dict[str, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)
    _texts: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    _digests: dict[tuple[frozenset[str], frozenset[str]], str] = field(
        default_factory=dict, compare=False, repr=False
    )

    def closure(self, starts: Iterable[str], *, without: Iterable[str] = ()) -> list[str]:
        """Return the modules that `starts` rest on, themselves included, sorted.

        Args:
            starts: names of modules.
            without: modules that are left out, with what only they import; a room's name stands
                for all its modules.
        """
        left_out = tuple(without)
        found: set[str] = set()
        todo = list(starts)
        while todo:
            module = todo.pop()
            if module in found or _inside(module, left_out):
                continue
            found.add(module)
            todo += self.imports(module)
        return sorted(found)

    def imports(self, module: str) -> frozenset[str]:
        """Return the modules of the package that a module imports."""
        if module not in self._reach:
            self._reach[module] = frozenset(self._imports(module))
        return self._reach[module]

    def digest(self, starts: Iterable[str], *, without: Iterable[str] = ()) -> str:
        """Return the SHA-256 of what the modules of a closure do, with their names; see there."""
        wanted = (frozenset(starts), frozenset(without))
        if wanted not in self._digests:
            whole = hashlib.sha256()
            for module in self.closure(wanted[0], without=wanted[1]):
                whole.update(f"{module}\n{self._text(module)}\n".encode())
            self._digests[wanted] = whole.hexdigest()
        return self._digests[wanted]

    def _text(self, module: str) -> str:
        if module not in self._texts:
            self._texts[module] = syntax_text(self._tree(module))
        return self._texts[module]

    def _path(self, module: str) -> Path | None:
        """Return the file of a module, None where there is no such module in the package."""
        at = self.root.joinpath(*module.split(".")[1:])
        tried = (at / "__init__.py", at.with_suffix(".py"))
        return next((path for path in tried if path.is_file()), None)

    def _tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            path = self._path(module)
            assert path is not None, f"no module {module}"
            self._trees[module] = ast.parse(path.read_text(encoding="utf-8"))
        return self._trees[module]

    def _imports(self, module: str) -> Iterator[str]:
        for node in ast.walk(self._tree(module)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if self._known(alias.name))
            elif isinstance(node, ast.ImportFrom) and node.module and self._known(node.module):
                for alias in node.names:
                    yield self._defining(node.module, alias.name)

    def _known(self, module: str) -> bool:
        return module.split(".", maxsplit=1)[0] == PACKAGE and self._path(module) is not None

    def _defining(self, module: str, name: str) -> str:
        """Return the module that `from module import name` takes the name from."""
        if self._path(f"{module}.{name}"):
            return f"{module}.{name}"
        path = self._path(module)
        if path and path.name == "__init__.py":
            for node in self._tree(module).body:
                if isinstance(node, ast.ImportFrom) and node.module and self._known(node.module):
                    for alias in node.names:
                        if name == (alias.asname or alias.name):
                            return self._defining(node.module, alias.name)
        return module


def syntax_text(tree: ast.AST) -> str:
    r"""Return a syntax tree as text, without docstrings, comments and layout.

    Example:
        >>> same = ["x = 1  # one", '"Tell."\nx=(1)']
        >>> len({syntax_text(ast.parse(text)) for text in same})
        1
    """
    parts: list[str] = []
    todo: list[tuple[str, object]] = [("", tree)]  # what to write, then what to take apart
    while todo:
        mark, item = todo.pop()
        parts.append(mark)
        if isinstance(item, ast.AST):
            parts.append(f"{type(item).__name__}(")
            todo.append((")", None))
            for name, value in reversed(list(ast.iter_fields(item))):
                if value is None:
                    continue
                items = value if isinstance(value, list) else [value]
                if isinstance(item, ast.JoinedStr):  # Python 3.12 leaves empty texts in some
                    items = [one for one in items if getattr(one, "value", None) != ""]
                elif name == "body":
                    items = [one for one in items if not _is_remark(one)]
                written = [(",", one) for one in items]
                if written and name not in SILENT:
                    todo += [("]", None), *reversed(written), (f"{name}=[", None)]
        elif item is not None:
            parts.append(repr(item))
    return "".join(parts)


def _is_remark(item: object) -> bool:
    """Return whether it is text that stands alone: a docstring."""
    return (
        isinstance(item, ast.Expr)
        and isinstance(item.value, ast.Constant)
        and isinstance(item.value.value, str)
    )


def _inside(module: str, folders: tuple[str, ...]) -> bool:
    return any(module == folder or module.startswith(f"{folder}.") for folder in folders)


@cache
def installed_sources() -> Sources:
    """Return the package that runs, as it was when this was first called."""
    return Sources(Path(bitproof.__file__).parent)
