"""What differs between two nested tables, in words."""

from typing import Any


def differences(old: dict[Any, Any], new: dict[Any, Any], prefix: str = "") -> list[str]:
    """Return one line for each place in which two nested tables differ.

    Example:
        >>> differences({"seed": 0, "data": {"n": 9}}, {"seed": 1, "data": {}})
        ['seed: 0 before, 1 now', 'data.n: 9 before, nothing now']
        >>> differences({"a": [{"n": 1}, {"n": 2}]}, {"a": [{"n": 1}, {"n": 3}]})
        ['a.1.n: 2 before, 3 now']
    """
    lines = []
    for key in dict.fromkeys([*old, *new]):
        a, b = (_by_number(table.get(key, "nothing")) for table in (old, new))
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {_show(a)} before, {_show(b)} now")
    return lines


def _by_number(value: Any) -> Any:
    """Return a list of tables as a table of its numbers; anything else as it is."""
    tables = isinstance(value, list) and any(isinstance(one, dict) for one in value)
    return dict(enumerate(value)) if tables else value


def _show(value: Any) -> str:
    """Return a value in one short line that any terminal can print."""
    line = " ".join(str(value).encode(errors="backslashreplace").decode().split())
    return line if len(line) <= 80 else line[:77] + "..."
