import numpy as np
import pytest

from bitproof.explore.hypervolume import hypervolume

indicators = pytest.importorskip("pymoo.indicators.hv")


@pytest.mark.parametrize("seed", range(5))
def test_area_equals_pymoo(seed: int) -> None:
    points = np.random.default_rng(seed).random((40, 2)) * 1.2
    theirs = indicators.HV(ref_point=[1.0, -0.1])(np.column_stack([points[:, 0], -points[:, 1]]))
    ours = hypervolume([(c, v) for c, v in points.tolist()], worst=(1.0, 0.1))
    assert ours == pytest.approx(float(theirs))


def test_nothing_better_than_the_corner_has_no_area() -> None:
    assert hypervolume([(1.0, 0.9), (0.5, 0.1)], worst=(1.0, 0.1)) == 0.0
