"""What every quantizer promises, however it places its grid."""

import pytest
import torch

from bitproof.core.rng import make_generator
from bitproof.quant import LADDER, QUANTIZERS, AffineQuantizer, Quantizer, Scheme

SAMPLES: dict[str, list[Quantizer]] = {
    "affine": [
        *LADDER.values(),
        AffineQuantizer(bits=2, symmetric=True, signed=True),
        AffineQuantizer(bits=3, per_channel=True, w_max=0.5),
        AffineQuantizer(bits=5, narrow=False, margin=0.0, rounding="truncate"),
        AffineQuantizer(bits=4, fixed_range=0.25, signed=True),
    ]
}
"""Some quantizers of each kind."""

every_sample = pytest.mark.parametrize(
    "quantizer",
    [sample for kind in sorted(SAMPLES) for sample in SAMPLES[kind]],
    ids=lambda quantizer: f"{quantizer.kind}-{quantizer.digest()[:6]}",
)
every_shape = pytest.mark.parametrize("shape", [(), (7,), (4, 3), (4, 3, 2, 2)])


def values_of(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=make_generator(0, shape))


def test_every_kind_has_samples() -> None:
    assert sorted(SAMPLES) == QUANTIZERS.kinds()


@every_sample
def test_quantizer_survives_a_json_round_trip(quantizer: Quantizer) -> None:
    assert type(quantizer).model_validate_json(quantizer.model_dump_json()) == quantizer
    assert QUANTIZERS.build(quantizer.model_dump(mode="json")).digest() == quantizer.digest()


@every_sample
def test_scheme_with_it_survives_a_json_round_trip(quantizer: Quantizer) -> None:
    scheme = Scheme(weight=quantizer, bias=quantizer)
    assert Scheme.model_validate_json(scheme.model_dump_json()) == scheme
    assert Scheme.from_table(scheme.model_dump(mode="json")).digest() == scheme.digest()


@every_sample
@every_shape
def test_argument_is_untouched(quantizer: Quantizer, shape: tuple[int, ...]) -> None:
    values = values_of(shape).requires_grad_()
    coded = quantizer.encode(values)
    assert not coded.values().requires_grad
    coded.codes.zero_()
    quantizer.fit(values).scale.zero_()
    assert torch.equal(values, values_of(shape))
    assert values.grad is None


@every_sample
@every_shape
def test_shape_is_kept(quantizer: Quantizer, shape: tuple[int, ...]) -> None:
    coded = quantizer.encode(values_of(shape))
    assert coded.codes.shape == coded.values().shape == coded.centered().shape == shape
    assert coded.values().dtype == torch.float32
    assert torch.equal(quantizer.decode(coded), coded.values())


@every_sample
@every_shape
def test_codes_lie_inside_the_word(quantizer: Quantizer, shape: tuple[int, ...]) -> None:
    for factor in (1.0, 100.0, 1e-3):
        coded = quantizer.encode(factor * values_of(shape))
        assert coded.grid.bits == quantizer.bits
        assert coded.codes.dtype == coded.grid.dtype
        assert coded.grid.low <= int(coded.codes.min())
        assert int(coded.codes.max()) <= coded.grid.high
        assert coded.grid.high - coded.grid.low == 2**quantizer.bits - 1


@every_sample
@every_shape
def test_fitted_grid_is_the_one_that_encoding_takes(
    quantizer: Quantizer, shape: tuple[int, ...]
) -> None:
    values = values_of(shape)
    grid = quantizer.fit(values)
    assert bool((grid.scale > 0).all())
    assert torch.equal(quantizer.encode(values).codes, quantizer.encode(values, grid).codes)
    assert torch.equal(quantizer.encode(values).values(), quantizer.encode(values, grid).values())


@every_sample
def test_grids_fitted_together_are_those_fitted_alone(quantizer: Quantizer) -> None:
    tensors = [values_of(shape) for shape in [(), (7,), (4, 3), (5, 3, 2, 2)]]
    shrinks = [1.0, 0.5, 0.9, 1.0]
    for values, shrink, grid in zip(
        tensors, shrinks, quantizer.fit_all(tensors, shrinks=shrinks), strict=True
    ):
        alone = quantizer.fit(values, shrink=shrink)
        assert (grid.bits, grid.signed, grid.axis) == (alone.bits, alone.signed, alone.axis)
        assert torch.equal(grid.scale, alone.scale)
        assert torch.equal(grid.zero_point, alone.zero_point)
    assert quantizer.fit_all([], shrinks=[]) == []


@every_sample
def test_codes_do_not_depend_on_the_memory_layout(quantizer: Quantizer) -> None:
    values = values_of((4, 3, 2, 2))
    turned = values.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
    assert not turned.is_contiguous()
    assert torch.equal(quantizer.encode(values).codes, quantizer.encode(turned).codes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every_sample
def test_device_is_kept_and_does_not_matter(quantizer: Quantizer) -> None:
    values = values_of((4, 3, 2, 2))
    there = quantizer.encode(values.cuda())
    assert there.codes.is_cuda
    assert torch.equal(there.codes.cpu(), quantizer.encode(values).codes)
