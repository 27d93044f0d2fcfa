import tomllib
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.recipe.lines import Location, find_line, lines_of

TEXT = '''\
# a comment with [brackets] and x = 1
name = "a # b = [c]"   # another
text = """
looks = "like a key"
[looks.like.a.header]
"""
raw = \'\'\'
x = 1\'\'\'
when = 1979-05-27 07:32:00
array = [
  1,
  [2, 3],  # comment, with commas
  { a = 4, b = "}" },

]
inline = { "quoted.key" = 1, deep.er = { x = 2 } }
dotted.key = 1
"quoted.key".'single' = 2

[stages.s1]
kind = "a"
[ stages . "s2" ]
kind = "b"
[[many]]
x = 1
[[many]]
x = 2
[many.sub]
y = 3
[[many.inner]]
z = 4
[[many.inner]]
z = 5
'''


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("name",), 2),
        (("text",), 3),
        (("raw",), 7),
        (("when",), 9),
        (("array",), 10),
        (("array", 0), 11),
        (("array", 1, 1), 12),
        (("array", 2), 13),
        (("array", 2, "a"), 13),
        (("array", 2, "b"), 13),
        (("inline", "quoted.key"), 16),
        (("inline", "deep", "er", "x"), 16),
        (("dotted", "key"), 17),
        (("quoted.key", "single"), 18),
        (("stages",), 20),
        (("stages", "s1", "kind"), 21),
        (("stages", "s2"), 22),
        (("stages", "s2", "kind"), 23),
        (("stages", "s2", "absent"), 22),
        (("many", 0, "x"), 25),
        (("many", 1, "x"), 27),
        (("many", 1, "sub", "y"), 29),
        (("many", 1, "inner", 0, "z"), 31),
        (("many", 1, "inner", 1, "z"), 33),
        (("absent",), 1),
        ((), 1),
    ],
)
def test_each_part_is_found_on_its_line(location: Location, line: int) -> None:
    assert find_line(TEXT, location) == line


@pytest.mark.parametrize("text", ["", "\n", "# only words", "a = 1", "a = []\r\nb = {}\r\n"])
def test_short_texts_are_no_trouble(text: str) -> None:
    assert len(lines_of(text)) == len(tomllib.loads(text))


def places(value: Any, at: Location = ()) -> list[Location]:
    """Return every key and element of a parsed document."""
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    if isinstance(value, list):
        pairs = list(enumerate(value))
    return [
        *((*at, key) for key, _ in pairs),
        *(place for key, part in pairs for place in places(part, (*at, key))),
    ]


KEYS = st.text("ab.\"'# =[]{}é", min_size=1, max_size=4)
SCALARS = st.one_of(
    st.integers(-9, 9), st.booleans(), st.text("a\"'\\\n[]{}=#,", max_size=6), st.floats(-1, 1)
)
TABLES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def test_the_example_mentions_everything() -> None:
    assert set(lines_of(TEXT)) == set(places(tomllib.loads(TEXT)))


@settings(max_examples=60, deadline=None)
@given(table=TABLES)
def test_every_part_of_every_document_is_found(table: dict[str, Any]) -> None:
    text = tomlkit.dumps(table)
    assert set(lines_of(text)) == set(places(tomllib.loads(text)))
