import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.metrics import area_over_decades

CURVES = st.lists(
    st.tuples(st.integers(1, 10**6), st.floats(0, 1)),
    min_size=2,
    max_size=8,
    unique_by=lambda p: p[0],
).map(sorted)


@settings(max_examples=60, deadline=None)
@given(curve=CURVES)
def test_area_is_numpy_s_trapezoid(curve: list[tuple[int, float]]) -> None:
    levels, heights = [count * 1e-7 for count, _ in curve], [height for _, height in curve]
    logs = np.log10(levels)
    wanted = np.trapezoid(heights, logs) / (logs[-1] - logs[0])
    assert area_over_decades(levels, heights) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("levels", [[1e-3], [1e-5, 1e-2], [1e-5, 1e-4, 1e-3, 0.5]])
def test_area_of_a_flat_curve_is_its_height(levels: list[float]) -> None:
    assert area_over_decades(levels, [0.7] * len(levels)) == pytest.approx(0.7)
