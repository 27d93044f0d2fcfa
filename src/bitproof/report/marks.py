"""What a pointer shows of the marks of a drawing, and which of them belong to one line.

A drawing for a page carries the tooltips of its spec as titles of its marks, which browsers show
without any script, and the number of its line on each mark, so that a script can switch lines off.
Drawings for papers have neither.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHOWN = {"point", "bar", "rect", "circle", "square"}
"""Marks whose values a pointer shows."""
OF_LINES = {"line", "area", "rule", "tick", "point", "circle"}
"""Marks that may belong to one line of several."""
COUNTS = {"trials", "places", "times"}
"""Fields whose names stand behind their numbers."""
MARK = re.compile(
    r'<(\w+) aria-label="§(\d*)§([^"]*)" role="graphics-symbol" aria-roledescription="[^"]*"'
    r"([^>]*?)/>"
)
NOISE = re.compile(r' role="graphics-(?:object|symbol)" aria-roledescription="[^"]*"')
UNSEEN = re.compile(
    r' aria-hidden="true"| pointer-events="none"(?= display="none")'
    r'|(?<=") (?:opacity="1"|font-family="sans-serif")'
)


def series_of(spec: Mapping[str, Any]) -> list[str]:
    """Return the names of the lines of a drawing, in the order of its legend; none without one."""
    marks = {_kind(part) for part in _parts(spec)}
    if "line" not in marks and "point" not in marks and "circle" not in marks:
        return []
    domain = _colour(spec).get("scale", {}).get("domain")
    return [str(name) for name in domain] if isinstance(domain, list) else []


def described(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec whose marks have labels that `unfolded` turns into titles and numbers.

    Drawings of several views, or whose rows do not stand in them, come back as they are.
    """
    whole = dict(spec)
    if not spec.get("data", {}).get("values") or not _parts(spec):
        return whole
    own = _Labels(_tooltip(spec), series_of(spec), str(_colour(spec).get("field")))
    whole["data"] = own.rows(spec["data"])
    if "layer" in spec:
        whole["layer"] = [own.layer(part) for part in spec["layer"]]
        return whole
    return own.layer(whole)


def unfolded(svg: str) -> str:
    """Return a drawing with titles and numbers of lines in the place of labels.

    Example:
        >>> mark = 'role="graphics-symbol" aria-roledescription="symbol mark" d="M0,0"/>'
        >>> unfolded(f'<path aria-label="§2§s1, 93 %" {mark}')
        '<path data-s="2" d="M0,0"><title>s1, 93 %</title></path>'
    """

    def mark(found: re.Match[str]) -> str:
        name, number, words, rest = found.groups()
        own = f' data-s="{number}"' if number else ""
        if not words:
            return f"<{name}{own}{rest}/>"
        return f"<{name}{own}{rest}><title>{words}</title></{name}>"

    return UNSEEN.sub("", NOISE.sub("", MARK.sub(mark, svg)))


@dataclass(frozen=True)
class _Labels:
    """What the marks of one drawing are labelled with."""

    fields: list[str]
    """Of its tooltip."""
    names: list[str]
    """Of its lines."""
    of: str
    """Field of a row that names its line."""

    def rows(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return rows with the number of their line, and what a pointer shows."""
        numbers = {name: str(number) for number, name in enumerate(self.names)}
        labelled = []
        for row in data["values"]:
            line = f"§{numbers.get(str(row.get(self.of)), '')}§"
            labelled.append({**row, "§s": line, "§t": line + _words(row, self.fields)})
        return {"values": labelled}

    def layer(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Return a layer whose marks have labels."""
        kind, mark, found = _kind(part), part.get("mark"), dict(part)
        silent = part.get("encoding", {}).get("tooltip", "") is None
        shown = kind in SHOWN and bool(self.fields) and not silent
        if not (shown or (self.names and kind in OF_LINES)):
            return found
        own = part.get("data", {}).get("values")
        if own and "§s" not in own[0]:
            found["data"] = self.rows(part["data"])
        look = dict(mark) if isinstance(mark, Mapping) else {"type": kind}
        label = {"field": "§t" if shown else "§s", "type": "nominal"}
        found["mark"] = {**look, "aria": True}
        found["encoding"] = {**part.get("encoding", {}), "description": label}
        return found


def _words(row: Mapping[str, Any], fields: list[str]) -> str:
    """Return what a tooltip shows of a row, in a few words."""
    told: list[str] = []
    for name in fields:
        value, low, high = row.get(name), row.get("low"), row.get("high")
        if value is None or value == "" or name in {"low", "high"}:
            continue
        text = _text(value)
        if name == "value" and low is not None and high is not None:
            text += f" ({_text(low)} to {_text(high)})"
        elif name == "sub" and told and text != told[-1]:
            told[-1] += f" % ({text})" if told[-1].isdigit() or "." in told[-1] else f" ({text})"
            continue
        elif name == "bit" and text.isdigit():
            text = f"bit {text}"
        elif name in COUNTS:
            text += f" {name}"
        elif name != "value" and isinstance(value, int | float):
            text = f"{name} {text}"
        told.append(text)
    return ", ".join(told)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _parts(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the layers of a drawing, or itself; nothing of several views."""
    if "layer" in spec:
        return list(spec["layer"])
    return [spec] if "mark" in spec else []


def _kind(part: Mapping[str, Any]) -> str:
    mark = part.get("mark")
    return str(mark.get("type")) if isinstance(mark, Mapping) else str(mark)


def _tooltip(spec: Mapping[str, Any]) -> list[str]:
    for part in (spec, *_parts(spec)):
        if found := part.get("encoding", {}).get("tooltip"):
            return [str(one["field"]) for one in (found if isinstance(found, list) else [found])]
    return []


def _colour(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    for part in (spec, *_parts(spec)):
        found = part.get("encoding", {}).get("color")
        if isinstance(found, Mapping) and "field" in found:
            return found
    return {}
