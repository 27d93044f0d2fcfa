"""Data in one word, for the command line: `folder:DIR`, `npz:FILE,layout=channels_last`.

Model:  `KIND:PATH`, then any fields as `,NAME=VALUE`; `package.module:function` is a factory.
        A path may hold commas and colons: only what follows the last ones and looks like a field
        is taken for one.
"""

import re
import tomllib
from typing import Any

PATHS = ("folder", "npz", "parquet")
"""Kinds that are followed by where the files lie."""
FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""What `package.module:function` looks like."""
FIELD = re.compile(r"(?P<before>.*),(?P<name>[a-z_]+)=(?P<value>\[[^\]=]*\]|[^,=]*)", re.DOTALL)


def expanded(table: object) -> object:
    """Return the table that a word stands for; anything else as it is.

    Example:
        >>> expanded("folder:pets,size=32")
        {'kind': 'folder', 'path': 'pets', 'size': 32}
        >>> expanded({"kind": "mine.data:make", "train_size": 5})
        {'kind': 'factory', 'factory': 'mine.data:make', 'train_size': 5}
        >>> expanded("digits")
        'digits'
    """
    if isinstance(table, str):
        return _fields(table) or table
    if isinstance(table, dict) and isinstance(word := table.get("kind"), str):
        return {**(_fields(word) or {"kind": word}), **_without_kind(table)}
    return table


def _fields(word: str) -> dict[str, Any] | None:
    """Return kind and fields of a word that is more than a kind."""
    said: dict[str, Any] = {}
    while ":" in word and (found := FIELD.fullmatch(word)):
        said = {found["name"]: _value(found["value"]), **said}
        word = found["before"]
    kind, colon, path = word.partition(":")
    if colon and kind in PATHS:
        return {"kind": kind, "path": path, **said}
    if FACTORY.fullmatch(word):
        return {"kind": "factory", "factory": word, **said}
    return None


def _without_kind(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != "kind"}


def _value(text: str) -> Any:
    """Return a TOML value; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text
