"""Every number of every component has two ends, so that none asks for work without end."""

from collections.abc import Iterator
from typing import Any

import pytest

import bitproof.reproduce  # noqa: F401 - the highest subpackage: all components are there
from bitproof.core.spec import Spec

ENDS = ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"})


def components(base: type[Spec] = Spec) -> Iterator[type[Spec]]:
    for spec in base.__subclasses__():
        if spec.__module__.startswith("bitproof."):
            yield spec
            yield from components(spec)


def numbers(schema: Any, place: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield where a schema holds a number, and what is said of it."""
    if isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from numbers(part, f"{place}.{number}")
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number") and not {"enum", "const"} & schema.keys():
            yield place, set(schema)
        for name, part in schema.items():
            if name != "default":
                yield from numbers(part, f"{place}.{name}")


@pytest.mark.parametrize("spec", sorted(set(components()), key=str), ids=lambda spec: spec.__name__)
def test_every_number_has_two_ends(spec: type[Spec]) -> None:
    schema = spec.model_json_schema()
    endless = [place for place, said in numbers(schema) if not all(end & said for end in ENDS)]
    assert not endless
