"""Data in one word, for the command line: `folder:DIR`, `npz:FILE,layout=channels_last`.

Model:  `KIND:PATH`, then any fields as `,NAME=VALUE`; `package.module:function` is a factory; kinds
        that need no path take fields as well: `digits,test_size=50`.
        A path may hold commas and colons: only what follows the last ones and looks like a field
        is taken for one.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from bitproof.core.errors import UnknownKindError, shorten

PATHS = ("folder", "npz", "parquet")
"""Kinds that are followed by where the files lie."""
KIND_OF = {".npz": "npz", ".npy": "npz", ".parquet": "parquet"}
"""What a file of that suffix is."""
FACTORY = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""What `package.module:function` looks like."""
KIND = re.compile(r"[a-zA-Z]\w*")
FIELD = re.compile(r"(?P<before>.*),(?P<name>[a-z_]+)=(?P<value>\[[^\]=]*\]|[^,=]*)", re.DOTALL)


def expanded(table: object) -> object:
    """Return the table that a word stands for; anything else as it is.

    Example:
        >>> expanded("folder:pets,size=32")
        {'kind': 'folder', 'path': 'pets', 'size': 32}
        >>> expanded({"kind": "mine.data:make", "train_size": 5})
        {'kind': 'factory', 'factory': 'mine.data:make', 'train_size': 5}
        >>> expanded("digits"), expanded("digits,test_size=50")
        ('digits', {'kind': 'digits', 'test_size': 50})

    Raises:
        UnknownKindError: it is a path without its kind.
    """
    if isinstance(table, str):
        found = _fields(table)
        if found is None and _is_place(table):
            kind = KIND_OF.get(Path(table).suffix.lower(), "folder")
            raise UnknownKindError(
                f"data: no kind {shorten(table)}. For what lies there, say {kind}:{table}"
            )
        return found or table
    if isinstance(table, dict) and isinstance(word := table.get("kind"), str):
        return {**(_fields(word) or {"kind": word}), **_without_kind(table)}
    return table


def _fields(word: str) -> dict[str, Any] | None:
    """Return kind and fields of a word that is more than a kind."""
    said: dict[str, Any] = {}
    while found := FIELD.fullmatch(word):
        said = {found["name"]: _value(found["value"]), **said}
        word = found["before"]
    kind, colon, path = word.partition(":")
    if colon and kind in PATHS:
        return {"kind": kind, "path": path, **said}
    if FACTORY.fullmatch(word):
        return {"kind": "factory", "factory": word, **said}
    if said and KIND.fullmatch(word):
        return {"kind": word, **said}
    return None


def _is_place(word: str) -> bool:
    """Tell whether a word is a path of something that is there, and no kind."""
    if re.fullmatch(r"\w+", word):
        return False
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError):
        return False


def _without_kind(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != "kind"}


def _value(text: str) -> Any:
    """Return a TOML value; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text
