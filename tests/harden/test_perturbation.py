import math

import pytest
import torch

from bitproof.harden.perturbation import FeatureDistance, feature_distance

CLEAN = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
MOVED = torch.tensor([[0.0, 0.0], [1.0, 2.0]])


def test_relative_distance_is_the_one_computed_by_hand() -> None:
    # |a - b|^2 / |a|^2: (9 + 16) / 25 and (0 + 4) / 1.
    assert float(feature_distance(CLEAN, MOVED, "relative")) == pytest.approx((1 + 4) / 2, rel=1e-6)


def test_relative_distance_takes_its_scale_from_the_clean_features() -> None:
    # (0 + 4) / (1 + 4), and 25 / 1e-8 where the clean features vanish.
    swapped = feature_distance(MOVED, CLEAN, "relative")
    assert float(swapped) == pytest.approx((25 / 1e-8 + 4 / 5) / 2, rel=1e-6)


def test_cosine_distance_is_the_one_computed_by_hand() -> None:
    moved = torch.tensor([[4.0, 3.0], [1.0, 2.0]])
    expected = (1 - 24 / 25 + 1 - 1 / math.sqrt(5)) / 2
    assert float(feature_distance(CLEAN, moved, "cosine")) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["relative", "cosine"])
def test_equal_features_have_distance_zero(kind: FeatureDistance) -> None:
    assert float(feature_distance(CLEAN, CLEAN, kind)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["relative", "cosine"])
def test_the_size_of_all_features_does_not_matter(kind: FeatureDistance) -> None:
    moved = torch.tensor([[4.0, 3.0], [1.0, 2.0]])
    plain, large = (feature_distance(k * CLEAN, k * moved, kind) for k in (1.0, 1000.0))
    assert float(large) == pytest.approx(float(plain), rel=1e-5)
