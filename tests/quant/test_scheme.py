"""Presets of whole schemes."""

import pytest
import torch
from pydantic import ValidationError

from bitproof.core.rng import make_generator
from bitproof.quant import RQUANT, AffineQuantizer, Scheme, quantize


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


def test_bits_alone_are_the_width_of_every_stored_word() -> None:
    scheme = Scheme(bits=4)
    assert scheme == Scheme("rquant", bits=4, activation_bits=4) == Scheme.from_table({"bits": 4})
    assert Scheme(bits=8) == Scheme()
    assert Scheme(bits=4, bias=None).bias is None
    assert Scheme(bits=4, activation_bits=6).activation_bits == 6
    inputs = torch.rand(16, 1, 4, 4, generator=make_generator(0))
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 2)
    )
    network = quantize(model, inputs, scheme)
    assert {coded.grid.bits for coded in network.tensors.values()} == {4}
    assert {grid.bits for grid in network.grids.values()} == {4}
    for coded in network.tensors.values():
        assert len(torch.unique(coded.codes)) <= 16


@pytest.mark.parametrize("bits", [1, 9, 4.0, True, "4"])
def test_a_width_that_no_word_has_is_refused(bits: object) -> None:
    with pytest.raises(ValidationError, match="bits: wanted a width from 2 to 8, got"):
        Scheme(bits=bits)
    with pytest.raises(ValidationError, match="bits: wanted it, or 'weight', got both"):
        Scheme(bits=4, weight=RQUANT)
