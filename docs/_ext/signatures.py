"""Signatures as the source has them, fields of specs, and links to where a name is public."""

import ast
import dataclasses
import inspect
import re
import textwrap
from importlib import import_module
from typing import Any

from api_pages import public_places

from bitproof.cli.describe import toml_text, type_text
from bitproof.core.spec import Spec


def written_signature(
    _app: Any, what: str, _name: str, value: Any, _options: Any, *_evaluated: Any
) -> tuple[str, str | None] | None:
    """Return signature and result as written, so that shapes read as `Float[Tensor, "n c"]`."""
    if inspect.isclass(value):
        return ("" if issubclass(value, Exception) else _class_signature(value)), None
    value = inspect.unwrap(getattr(value, "__func__", value))
    if what not in {"function", "method"} or not inspect.isfunction(value):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    except (OSError, SyntaxError):
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    arguments = tree.args
    if what == "method" and arguments.args and arguments.args[0].arg in {"self", "cls"}:
        del arguments.args[0]
    result = None if tree.returns is None else _plain(tree.returns)
    return f"({ast.unparse(arguments)})".replace("Tensor, ' ", "Tensor, '"), result


def _plain(annotation: ast.expr) -> str:
    """Return an annotation; one in quotes without them."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def _class_signature(value: type) -> str:
    if issubclass(value, Spec):
        parts = ["*"] if value.model_fields else []
        for name, field in value.model_fields.items():
            if name == "kind":
                continue
            default = field.get_default(call_default_factory=True)
            parts.append(name if field.is_required() else f"{name}={_short(default)}")
        return f"({', '.join(parts if len(parts) > 1 else [])})"
    if dataclasses.is_dataclass(value):
        return f"({', '.join(map(_argument, (f for f in dataclasses.fields(value) if f.init)))})"
    if inspect.isabstract(value) or value.__init__ is object.__init__:
        return ""
    try:
        names = [str(one.replace(annotation=one.empty)) for one in _arguments(value)]
    except ValueError:
        return ""
    return f"({', '.join(names)})"


def _arguments(value: type) -> list[inspect.Parameter]:
    return [*inspect.signature(value).parameters.values()]


def _argument(field: "dataclasses.Field[Any]") -> str:
    if field.default is not dataclasses.MISSING:
        return f"{field.name}={_short(field.default)}"
    return field.name if field.default_factory is dataclasses.MISSING else f"{field.name}=..."


def _short(value: object) -> str:
    text = repr(f"{value:.6g}" if isinstance(value, float) else value)
    if isinstance(value, float):
        text = f"{value:.6g}"
    return text if len(text) <= 24 and text.isascii() and "<" not in text else "..."


def escape_marks(
    _app: Any, _what: str, _name: str, _value: Any, _options: Any, lines: list[str]
) -> None:
    """Let bars and trailing underscores of prose be characters, which docutils would interpret."""
    in_example = False
    for number, line in enumerate(lines):
        in_example = line.lstrip().startswith(">>>") or (in_example and bool(line.strip()))
        if in_example:
            continue
        parts = re.split(r"(`[^`]*`)", line)
        lines[number] = "".join(
            part if part.startswith("`") else re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", part)
            for part in parts
        )


def document_fields(
    _app: Any, what: str, _name: str, value: Any, _options: Any, lines: list[str]
) -> None:
    """Add the fields of a spec to its docstring, as parameters."""
    if what != "class" or not (inspect.isclass(value) and issubclass(value, Spec)):
        return
    kind = value.model_fields.get("kind")
    if kind is not None and kind.default:
        lines += ["", f'In recipes: ``kind = "{kind.default}"``.']
    lines.append("")
    for name, field in value.model_fields.items():
        if name == "kind":
            continue
        takes = type_text(field.annotation, field.metadata)
        default = "required"
        if not field.is_required():
            default = f"default {toml_text(field.get_default(call_default_factory=True))}"
        words = " ".join((field.description or "").split())
        takes = takes.replace("*", r"\*").replace("`", "").replace("|", r"\|")
        lines.append(f":param {name}: {takes}; ``{default}``. {words}")
    lines.append("")


def resolve_public_name(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Let a class in a signature lead to where it is public."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target:
        return None
    here = node.get("py:module"), node.get("py:class")
    del here
    candidates = {place.rpartition(".")[2]: place for place in public_places().values()}
    place = _true_place(target) or candidates.get(target)
    if place is None or place == target:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], place, node, contnode
    )


def _true_place(target: str) -> str | None:
    module, _, name = target.rpartition(".")
    if not module.startswith("bitproof"):
        return None
    try:
        value = getattr(import_module(module), name, None)
    except ImportError:
        return None
    try:
        return public_places().get(value)
    except TypeError:
        return None
