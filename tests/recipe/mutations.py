"""Typed mutations of the table of a recipe: one value, one name or one entry is not what it was."""

import datetime
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Place = tuple[str | int, ...]
"""Keys, and positions in lists."""

HUGE = (2**31, 2**63 - 1, 2**63, 2**64, 4611686018427387904, 10**12, 10**30, 10**400, 10**4000)
SMALL = (-1, 0, -(2**63), -(2**70), -0.0, 5e-324, 1e-300, -1e-300)
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e16, 1e39, 1e59, 1e308)
TEXTS = (
    *("", "none", "x" * 100_000, "\x1b[2J\x07", "a\nb\r\n", "\u202e\u0000evil", "'\"\\", "é\u2028"),
    *("../../etc/passwd", "/dev/zero", "/proc/self/mem", "~", "*", "a+" * 300 + "b", "%s{0}", ":"),
    *("os:system", "timm:resnet18", "timm:" + "y" * 5000, "nan", "1e59", "+", "-" * 300),
)


class Raw(str):
    """Text that stands in a TOML file as it is."""

    __slots__ = ()


RAW = tuple(
    Raw(text)
    for text in (
        *("[" * depth + "]" * depth for depth in (1, 50, 300, 480, 1000, 10_000)),
        *("{a = " * depth + "1" + "}" * depth for depth in (50, 1000)),
        *("9" * 5000, "0x" + "f" * 5000, "0b" + "1" * 20_000, "1e999999", "-" * 10, "[,]", "{", ""),
        *(".".join("a" * 50) + " = 1", "2020-13-45", '"' + "z" * 50_000, "\x00", "+inf", "-nan"),
    )
)
"""Values that only text can hold: too deep, too long, or no TOML."""


VALUES: dict[str, Callable[[random.Random, Any], Any]] = {
    "huge": lambda draw, _: draw.choice(HUGE),
    "small": lambda draw, _: draw.choice(SMALL),
    "float": lambda draw, _: draw.choice(FLOATS),
    "text": lambda draw, _: draw.choice(TEXTS),
    "bool": lambda draw, _: draw.random() < 0.5,
    "raw": lambda draw, _: draw.choice(RAW),
    "long": lambda draw, old: [old] * draw.choice((1001, 100_000)),
    "long of others": lambda draw, _: [draw.choice((0, "x", 1e59, {}))] * 100_000,
    "empty": lambda draw, _: draw.choice(([], {})),
    "table": lambda draw, old: {draw.choice(("kind", "x" * 300, "\x1b")): old},
    "list": lambda _, old: [old],
    "date": lambda *_: datetime.date(2020, 2, 2),
}
"""What takes the place of a value, from the old one."""
KINDS = (*VALUES, "rename", "remove", "add")


def places(table: Any, place: Place = ()) -> Iterator[Place]:
    """Yield every place of nested tables and lists."""
    parts = enumerate(table) if isinstance(table, list) else table.items()
    for key, value in parts:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def toml(table: dict[str, Any]) -> str:
    """Return a table as TOML, one line for each of its keys; tomlkit takes minutes for a list."""
    return "".join(f"{json.dumps(name)} = {_value(value)}\n" for name, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(k)} = {_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value) if isinstance(value, bool | str) else str(value)


def mutate_(table: dict[str, Any], draw: random.Random) -> str:
    """Change one place of a table, and return what was done."""
    place, kind = draw.choice(list(places(table))), draw.choice(KINDS)
    *way, last = place
    holder: Any = table
    for key in way:
        holder = holder[key]
    if kind in VALUES:
        holder[last] = VALUES[kind](draw, holder[last])
    elif isinstance(holder, list) and isinstance(last, int):
        holder.insert(last, holder[last] if kind == "add" else [[[]]])
    else:
        value = holder[last] if kind == "add" else holder.pop(last)
        if kind != "remove":
            holder[draw.choice((f"{last}s", "y" * 100_000, "\x1b[2J\n", "", "é", "a.b"))] = value
    return f"{kind} at {'.'.join(map(str, place))}"
