"""What differs between two nested tables, in words."""

from typing import Any


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Return one line for each place in which two nested tables differ.

    Example:
        >>> differences({"seed": 0, "data": {"n": 9}}, {"seed": 1, "data": {}})
        ['seed: 0 before, 1 now', 'data.n: 9 before, nothing now']
    """
    lines = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key, "nothing"), new.get(key, "nothing")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {_show(a)} before, {_show(b)} now")
    return lines


def _show(value: Any) -> str:
    """Return a value in one short line that any terminal can print."""
    line = " ".join(str(value).encode(errors="backslashreplace").decode().split())
    return line if len(line) <= 80 else line[:77] + "..."
