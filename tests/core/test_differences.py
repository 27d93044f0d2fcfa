from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.differences import differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_differences_name_every_field() -> None:
    old = {"seed": 0, "data": {"kind": "a", "size": 1}, "only": [1]}
    new = {"seed": 0, "data": {"kind": "b", "size": 1}, "more": {"x": 1}}
    assert differences(old, new) == [
        "data.kind: a before, b now",
        "only: [1] before, nothing now",
        "more: nothing before, {'x': 1} now",
    ]


def test_long_values_are_cut_and_kept_on_one_line() -> None:
    (line,) = differences({"a": "x\ny" * 100}, {"a": ["\ud800", {"b": None}]})
    assert len(line) < 200
    assert "\n" not in line
    assert line.encode()


@settings(max_examples=50)
@given(*[st.dictionaries(st.text(max_size=3), JSON, max_size=4)] * 2)
def test_tables_without_differences_are_equal(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert differences(old, old) == []
    assert differences(old, new) or old == new
