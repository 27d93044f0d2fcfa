"""On which line of a TOML text each key and each array element stands, which tomllib does not tell.

Works on text that tomllib has accepted, so it needs to know where values end, not what they mean.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping

Location = tuple[str | int, ...]
"""Keys, and positions in arrays, from the root of the document."""

TOKEN = re.compile(
    r'(?P<text>"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
    r"|(?P<comment>\#[^\n]*)|(?P<space>[ \t\r]+)|(?P<line>\n)|(?P<mark>[\[\]{},=])"
    r"|(?P<word>[^\s\[\]{},=\"'\#]+)",
    re.DOTALL,
)


PLAIN_KEY = re.compile(r'[A-Za-z0-9_-]+|"[A-Za-z0-9_ -]*"')
"""A key of one part, written as it is; most are, and tomllib takes its time for the others."""


def find_line(text: str, location: Location) -> int:
    r"""Return the line of the deepest part of `location` that the text mentions, from 1.

    Example:
        >>> find_line('name = "x"\n[data]\nkind = "digit"\n', ("data", "kind"))
        3
        >>> find_line("a = [\n  { b = 1 },\n  { b = 2 },\n]\n", ("a", 1, "b"))
        3
    """
    return line_in(lines_of(text), location)


def line_in(known: Mapping[Location, int], location: Location) -> int:
    """Return the same, of a text of which the lines are known."""
    shorter = (location[:end] for end in range(len(location), 0, -1))
    return next((known[part] for part in shorter if part in known), 1)


def lines_of(text: str) -> dict[Location, int]:
    """Return the line of every key and array element, where it is first mentioned."""
    return _Scanner(text).lines


class _Scanner:
    """Walks over the tokens of a document once."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Location, int] = {}
        self.sizes: dict[Location, int] = {}
        self.tokens = list(_tokens(text))
        self.at = 0
        table: Location = ()
        while self.at < len(self.tokens):
            if self._skip("\n"):
                continue
            if self._skip("["):
                table = self._header()
            else:
                self._entry(table)

    def _header(self) -> Location:
        """Read `key]` or `[key]]` and return the table that the lines below belong to."""
        several = self._skip("[")
        line, keys = self._key("]")
        if several:
            self._skip("]")
        path: Location = ()
        for number, key in enumerate(keys):
            path = (*path, key)
            self.lines.setdefault(path, line)
            if several and number == len(keys) - 1:
                self.sizes[path] = self.sizes.get(path, 0) + 1
            if path in self.sizes:
                path = (*path, self.sizes[path] - 1)
                self.lines.setdefault(path, line)
        return path

    def _entry(self, table: Location) -> None:
        """Read `key = value`."""
        line, keys = self._key("=")
        for key in keys:
            table = (*table, key)
            self.lines.setdefault(table, line)
        self._value(table)

    def _value(self, path: Location) -> None:
        if self._skip("["):
            number = 0
            while not self._skip("]"):
                if self._skip("\n"):
                    continue
                if self._skip(","):
                    number += 1
                    continue
                self.lines.setdefault((*path, number), self.tokens[self.at][1])
                self._value((*path, number))
        elif self._skip("{"):
            while not self._skip("}"):
                if not self._skip("\n") and not self._skip(","):
                    self._entry(path)
        else:  # a plain value; a date may be two words
            while self.at < len(self.tokens) and self.tokens[self.at][0] not in {*"\n,]}"}:
                self.at += 1

    def _key(self, end: str) -> tuple[int, list[str]]:
        """Read a dotted key up to `end`; return its line and its parts."""
        line, text = self.tokens[self.at][1], ""
        while not self._skip(end):
            text += self.tokens[self.at][0]
            self.at += 1
        if PLAIN_KEY.fullmatch(text):
            return line, [text.strip('"')]
        keys, nested = [], tomllib.loads(f"{text} = 0")
        while isinstance(nested, dict):
            ((key, nested),) = nested.items()
            keys.append(key)
        return line, keys

    def _skip(self, token: str) -> bool:
        """Step over `token` if it comes next."""
        found = self.at < len(self.tokens) and self.tokens[self.at][0] == token
        self.at += found
        return found


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    """Yield the tokens that matter, with their lines."""
    line = 1
    for match in TOKEN.finditer(text):
        if match.lastgroup not in {"comment", "space"}:
            yield match[0], line
        line += match[0].count("\n")
