"""Presets of whole schemes."""

import pytest
from pydantic import ValidationError

from bitproof.quant import RQUANT, AffineQuantizer, Scheme


def test_accurate_has_one_symmetric_grid_per_channel_int32_biases_and_measured_ranges() -> None:
    scheme = Scheme("accurate")
    wanted = AffineQuantizer(symmetric=True, signed=True, per_channel=True, margin=0.0)
    assert scheme.weight == wanted
    assert scheme.bias is None
    assert (scheme.calibration, scheme.vector_bits) == ("relative_mse", 16)
    assert scheme == Scheme(preset="accurate") == Scheme.from_table({"preset": "accurate"})


def test_fields_lie_on_top_of_a_preset() -> None:
    scheme = Scheme("accurate", bits=5, activation_bits=6, calibration="min_max")
    assert isinstance(scheme.weight, AffineQuantizer)
    assert (scheme.weight.bits, scheme.weight.per_channel) == (5, True)
    assert (scheme.activation_bits, scheme.calibration) == (6, "min_max")


def test_robust_quantization_stays_the_default() -> None:
    assert Scheme() == Scheme("rquant")
    assert Scheme().weight == Scheme().bias == RQUANT


def test_digest_of_the_default_scheme_is_that_of_earlier_versions() -> None:
    assert Scheme().digest().startswith("24b6636182ec")


def test_unknown_presets_and_doubled_quantizers_are_refused_in_a_line() -> None:
    with pytest.raises(ValidationError, match=r"no preset 'acurate'\. Did you mean 'accurate'"):
        Scheme("acurate")
    with pytest.raises(ValidationError, match="preset: wanted it, or 'bias', got both"):
        Scheme("accurate", bias=None)
