"""Words for multipliers, as the command line takes them, results show them, and networks keep them.

Model:  a circuit of EvoApproxLib has its name there, `NAME@RELEASE`; others are `KIND` or
        `KIND:field=value,field=value`, with lists in square brackets, and components as well:
        `circuit:tmr:of=[mitchell:mantissa=5]`. What a word stands for has that word.
"""

import tomllib
from typing import Any

from bitproof.approx.base import MULTIPLIERS, Multiplier
from bitproof.approx.circuit import CircuitMultiplier
from bitproof.approx.evoapprox import EvoApprox
from bitproof.approx.wrapped import Swapped, Wrapped
from bitproof.core.errors import SpecError, shorten
from bitproof.core.spec import Spec


def short_name(multiplier: Multiplier) -> str:
    """Return the word for a multiplier: a circuit's name, or kind and settings.

    Example:
        >>> from bitproof.approx import Drum
        >>> short_name(Drum(width=6)), short_name(EvoApprox(name="mul8s_1KV8", release="v1.1"))
        ('drum:width=6', 'mul8s_1KV8@v1.1')
    """
    if isinstance(multiplier, EvoApprox):
        return "@".join(filter(None, (multiplier.name, multiplier.release)))
    if isinstance(multiplier, Wrapped):
        return f"{multiplier.kind}:{short_name(multiplier.of)}"
    if isinstance(multiplier, CircuitMultiplier):
        return f"{multiplier.kind}:{_word(multiplier.design)}"
    return _word(multiplier)


def is_circuit(name: str) -> bool:
    """Return whether a word stands for a circuit of gates.

    Example:
        >>> is_circuit("circuit:adam:drop=true")
        True
    """
    return name.startswith("circuit:")


def multiplier_of(text: str) -> Multiplier:
    """Return the multiplier that a word stands for.

    Raises:
        SpecError: it stands for none.

    Example:
        >>> multiplier_of("swapped:mul8s_1KV8@v2022").of.release
        'v2022'
        >>> multiplier_of("circuit:tmr:of=[mitchell:mantissa=5]").design.label
        'TMR of Mitchell, t = 5'
    """
    head, _, rest = text.partition(":")
    if head == "swapped" and rest:
        return Swapped(of=multiplier_of(rest))
    if head == "sign_magnitude" and rest:
        of = multiplier_of(rest).model_dump(mode="json")
        return MULTIPLIERS.build({"kind": "sign_magnitude", "of": of})
    if head == "circuit" and rest:
        return MULTIPLIERS.build({"kind": "circuit", "design": component(rest)})
    if head.startswith("mul8"):
        name, _, release = text.partition("@")
        return MULTIPLIERS.build({"kind": "evoapprox", "name": name, "release": release or None})
    return MULTIPLIERS.build(component(text))


def component(text: str) -> dict[str, Any]:
    """Return the table that `KIND` or `KIND:field=value,field=value` stands for.

    Raises:
        SpecError: it is written in another way.

    Example:
        >>> component("stuck_at:value=1")
        {'kind': 'stuck_at', 'value': 1}
        >>> component("adam:checked=[1,2],drop=false")
        {'kind': 'adam', 'checked': [1, 2], 'drop': False}
    """
    kind, _, rest = text.partition(":")
    table: dict[str, Any] = {"kind": kind}
    for part in filter(None, _split(rest)):
        name, _, value = (word.strip() for word in part.partition("="))
        if not value or name == "kind":
            raise SpecError(f"{text}: wanted KIND or KIND:field=value, got {shorten(part)}")
        try:
            table[name] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            inner = value.startswith("[") and value.endswith("]")
            table[name] = component(value[1:-1]) if inner else value
    return table


def _split(text: str) -> list[str]:
    """Return what stands between commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _word(value: object) -> str:
    """Return a component or a setting."""
    if isinstance(value, Spec):
        settings = []
        for name, field in sorted(type(value).model_fields.items()):
            own = getattr(value, name)
            # All numbers belong in a name, unless nothing is left out.
            if name != "kind" and (own != field.default or (isinstance(own, int) and own)):
                inner = _word(own)
                settings.append(f"{name}={f'[{inner}]' if isinstance(own, Spec) else inner}")
        return ":".join(filter(None, (value.kind, ",".join(settings))))  # type: ignore[attr-defined]
    if isinstance(value, tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
