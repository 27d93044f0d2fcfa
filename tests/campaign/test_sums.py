from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.campaign.sums import sums_by
from bitproof.core.errors import DataError

DTYPES = ["i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"]
Columns = dict[str, np.ndarray]


def slow_sums(columns: Columns, keys: list[str], values: list[str]) -> dict[str, list[Any]]:
    groups: dict[tuple[int, ...], list[Any]] = defaultdict(lambda: [0] * (len(values) + 1))
    for row in range(len(columns[keys[0]])):
        group = groups[tuple(int(columns[key][row]) for key in keys)]
        for place, value in enumerate(values):
            group[place] += columns[value][row].item()
        group[-1] += 1
    ordered = sorted(groups)
    named: dict[str, list[Any]] = {key: [k[i] for k in ordered] for i, key in enumerate(keys)}
    for place, name in enumerate([*values, "rows"]):
        named[name] = [groups[k][place] for k in ordered]
    return named


@st.composite
def grouped(draw: st.DrawFn) -> Columns:
    n = draw(st.integers(0, 30))
    columns: Columns = {}
    for name in ("a", "b"):
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        limits = np.iinfo(dtype.name)
        start = draw(st.sampled_from([int(limits.min), 0, int(limits.max) - 3]))
        cells = st.integers(start, start + 3)
        if draw(st.booleans()):
            cells = st.integers(int(limits.min), int(limits.max))
        columns[name] = np.array(draw(st.lists(cells, min_size=n, max_size=n)), dtype)
    columns["x"] = columns["b"].astype(np.int8)
    columns["y"] = draw(st.sampled_from([1, 2**50])) * columns["x"].astype(np.int64)
    columns["z"] = columns["x"] / 7
    columns["hit"] = columns["x"] > 0
    return columns


@settings(max_examples=150, deadline=None)
@given(grouped())
def test_sums_equal_those_of_a_loop(columns: Columns) -> None:
    values = ["x", "y", "z", "hit"]
    for keys in (["a"], ["a", "b"], ["b", "hit", "a"]):
        found = sums_by(columns, keys, values)
        assert {name: sums.tolist() for name, sums in found.items()} == slow_sums(
            columns, keys, values
        )
        assert found["rows"].dtype == np.int64
        assert found["x"].dtype == found["hit"].dtype == np.int64 or not len(columns["a"])


def test_sums_that_may_leave_64_bits_are_refused() -> None:
    columns = {"key": np.zeros(3, np.int8), "value": np.full(3, 2**62)}
    with pytest.raises(DataError, match="column 'value': its sums may not fit 64 bits"):
        sums_by(columns, ["key"], ["value"])
