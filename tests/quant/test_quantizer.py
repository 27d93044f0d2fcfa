"""The ladder of quantizers against the formulas of METHODS E.1, written down again."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitproof.core.errors import QuantizationError, SpecError
from bitproof.core.rng import make_generator
from bitproof.faults import RandomFlips
from bitproof.quant import LADDER, QUANTIZERS, RQUANT, AffineQuantizer

few = settings(max_examples=60, deadline=None)
numbers = st.floats(-1e4, 1e4, width=32)
tensors = st.lists(numbers, min_size=1, max_size=30).map(torch.tensor)
quantizers = st.builds(
    AffineQuantizer,
    bits=st.integers(2, 8),
    rounding=st.sampled_from(["nearest", "truncate"]),
    symmetric=st.booleans(),
    signed=st.booleans(),
    per_channel=st.booleans(),
    narrow=st.booleans(),
    margin=st.sampled_from([0.0, 1e-3, 0.1]),
)


def e1(w: Any, quantizer: AffineQuantizer) -> tuple[Any, Any]:
    """Return codes and values by METHODS E.1 (2), (4), (5) and (6), for one tensor."""
    m, eps0 = quantizer.bits, 1e-3
    w = w.astype(np.float64)
    if quantizer.symmetric:
        n, qmax = w, np.abs(w).max() + eps0
    else:
        qmin, qmax_ = w.min(), w.max()
        n, qmax = 2 * (w - qmin) / (qmax_ - qmin) - 1, 1 + eps0
    step = np.float64(np.float32(qmax / (2 ** (m - 1) - 1)))
    v = n / step
    if not quantizer.signed:
        v = np.minimum(v + 2 ** (m - 1), 2**m - 1)
    v = np.trunc(np.rint(v) if quantizer.rounding == "nearest" else v)
    back = step * (v - (0 if quantizer.signed else 2 ** (m - 1)))
    if not quantizer.symmetric:
        back = (back + 1) / 2 * (qmax_ - qmin) + qmin
    return v, back


def weights_like(seed: int, skew: float = 0.0) -> Tensor:
    generator = make_generator(seed)
    return torch.randn(16, 8, 3, 3, generator=generator) * 0.1 + skew


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_symmetric_codes_are_those_of_the_source(bits: int, signed: bool, rounding: Any) -> None:
    quantizer = AffineQuantizer(bits=bits, symmetric=True, signed=signed, rounding=rounding)
    for seed in range(5):
        weights = weights_like(seed, skew=0.02 * seed)
        codes, values = e1(weights.numpy(), quantizer)
        coded = quantizer.encode(weights)
        np.testing.assert_array_equal(coded.codes.numpy(), codes)
        np.testing.assert_allclose(coded.values().numpy(), values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
def test_asymmetric_codes_are_within_one_of_the_source(
    bits: int, signed: bool, rounding: Any
) -> None:
    quantizer = AffineQuantizer(bits=bits, signed=signed, rounding=rounding)
    for seed in range(5):
        weights = weights_like(seed, skew=0.02 * seed)
        codes, values = e1(weights.numpy(), quantizer)
        coded = quantizer.encode(weights)
        step = float(coded.grid.scale)
        off = coded.codes.numpy() - codes
        assert np.abs(off).max() <= 1
        # The same code lies within half a step of where the source puts it.
        same = coded.values().numpy() - values - off * step
        assert np.abs(same).max() <= step * 0.5001


def test_first_rung_is_the_normal_quantizer_of_the_source() -> None:
    weights = weights_like(7)
    largest = float(weights.abs().max()) + 0.001
    step = largest / 127
    coded = LADDER["normal"].encode(weights)
    assert float(coded.grid.scale) == pytest.approx(step, rel=1e-6)
    assert int(coded.grid.zero_point) == 0
    wanted = torch.trunc(weights.double() / coded.grid.scale.double()).to(torch.int8)
    assert torch.equal(coded.codes, wanted)


@few
@given(values=tensors, quantizer=quantizers)
def test_values_inside_the_range_come_back_within_a_step(
    values: Tensor, quantizer: AffineQuantizer
) -> None:
    coded = quantizer.encode(values)
    share = 0.5 if quantizer.rounding == "nearest" else 1.0
    bound = share * coded.grid.scale.double() + 1e-6 * values.abs().max().double()
    assert bool(((coded.values() - values).abs() <= bound).all())


@few
@given(values=tensors, quantizer=quantizers)
def test_codes_rise_with_values(values: Tensor, quantizer: AffineQuantizer) -> None:
    ordered = quantizer.encode(values.sort().values).codes.long()
    assert bool((ordered.diff() >= 0).all())


@few
@given(values=tensors, quantizer=quantizers)
def test_codes_of_decoded_values_stay(values: Tensor, quantizer: AffineQuantizer) -> None:
    nearest = quantizer.model_copy(update={"rounding": "nearest"})
    coded = nearest.encode(values)
    assert torch.equal(nearest.encode(coded.values(), coded.grid).codes, coded.codes)


@few
@given(values=tensors, quantizer=quantizers)
def test_codes_stay_inside_the_word(values: Tensor, quantizer: AffineQuantizer) -> None:
    coded = quantizer.encode(values)
    low = -(1 << (quantizer.bits - 1)) if quantizer.signed else 0
    spare = int(quantizer.narrow and quantizer.margin > 0)
    assert low + spare <= int(coded.codes.min())
    assert int(coded.codes.max()) <= low + (1 << quantizer.bits) - 1
    assert coded.codes.dtype == (torch.int8 if quantizer.signed else torch.uint8)


@pytest.mark.parametrize("quantizer", LADDER.values(), ids=LADDER)
def test_ends_of_the_range_come_back(quantizer: AffineQuantizer) -> None:
    for ends in ((-1.0, 1.0), (-0.3, 1.0), (0.2, 0.9), (-3.0, -0.1)):
        coded = quantizer.encode(torch.tensor(ends))
        step = float(coded.grid.scale) * (0.5 if quantizer.rounding == "nearest" else 1.0)
        assert coded.values().tolist() == pytest.approx(ends, abs=step * 1.001)


def test_unsigned_asymmetric_words_leave_code_zero_to_faults() -> None:
    for seed in range(40):
        generator = make_generator(seed, "codes")
        weights = torch.rand(4000, generator=generator) * (seed + 1) - seed / 3
        for quantizer in (RQUANT, LADDER["unsigned"]):
            codes = quantizer.encode(weights).codes
            assert int(codes.min()) in {1, 2}
            assert int(codes.max()) in {253, 254, 255}
    even = RQUANT.encode(torch.linspace(-1, 1, 100_000))
    assert set(even.codes.tolist()) == set(range(1, 256))


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [True, False])
def test_flips_disturb_weights_as_much_as_the_formula_tells(bits: int, signed: bool) -> None:
    quantizer, ber = AffineQuantizer(bits=bits, signed=signed, narrow=False), 0.01
    weights = torch.rand(400_000, generator=make_generator(1)) - 0.5
    coded = quantizer.encode(weights)
    faulty = RandomFlips(ber=ber).corrupt(coded.codes, bits=bits, generator=make_generator(2))
    off = (faulty.long() - coded.codes.long()).double() * coded.grid.scale.double()
    wanted = ber * float(coded.grid.scale) ** 2 * (4**bits - 1) / 3
    # Relative deviation of the mean of n draws, each a flip of weight 4**bit with probability ber.
    sigma = ((16**bits - 1) / 15 / (ber * len(weights))) ** 0.5 / ((4**bits - 1) / 3)
    assert float((off**2).mean()) == pytest.approx(wanted, rel=5 * sigma + ber)


@few
@given(rows=st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=5))
def test_channels_are_at_least_as_precise_as_the_tensor(rows: list[list[float]]) -> None:
    weights = torch.tensor(rows)
    for symmetric in (True, False):
        whole = AffineQuantizer(symmetric=symmetric).fit(weights)
        each = AffineQuantizer(symmetric=symmetric, per_channel=True).fit(weights)
        assert each.axis == 0
        flat = (weights.amax(1) - weights.amin(1)) <= 2**-11 * weights.abs().amax(1)
        assert bool((each.scale[~flat] <= whole.scale * (1 + 1e-6)).all())


def test_bound_limits_the_range_and_clips_what_is_beyond() -> None:
    weights = torch.tensor([-3.0, -0.1, 0.0, 0.05, 2.0])
    for quantizer in (
        AffineQuantizer(w_max=0.5),
        AffineQuantizer(w_max=0.5, symmetric=True, signed=True),
        AffineQuantizer(w_max=0.5, symmetric=True, rounding="truncate"),
        AffineQuantizer(fixed_range=0.5),
        AffineQuantizer(fixed_range=0.5, symmetric=True, signed=True, margin=0.0),
    ):
        values = quantizer.encode(weights).values()
        assert values[0].item() == pytest.approx(-0.5, abs=0.003)
        assert values[-1].item() == pytest.approx(0.5, abs=0.005)
        low = quantizer.fit(weights).low
        assert int(quantizer.encode(weights).codes.min()) > low  # which is left to faults
        assert values[1:4].tolist() == pytest.approx(weights[1:4].tolist(), abs=0.005)


def test_bound_above_the_values_changes_nothing() -> None:
    weights = weights_like(0)
    for quantizer in LADDER.values():
        bound = quantizer.model_copy(update={"w_max": 9.0})
        assert torch.equal(bound.encode(weights).codes, quantizer.encode(weights).codes)


def test_range_on_one_side_of_the_bound_stays_inside_it() -> None:
    values = AffineQuantizer(w_max=1.0).encode(torch.tensor([2.0, 3.0])).values()
    assert values.tolist() == pytest.approx([1.0, 1.0], rel=0.002)


def test_fixed_range_does_not_look_at_the_values() -> None:
    quantizer = AffineQuantizer(fixed_range=1.0)
    one, other = (quantizer.fit(torch.tensor(values)) for values in ([0.1, 0.2], [-7.0, 9.0]))
    assert torch.equal(one.scale, other.scale)
    assert torch.equal(one.zero_point, other.zero_point)


@pytest.mark.parametrize("shrink", [1.0, 0.5, 0.25])
def test_shrinking_shrinks_the_step(shrink: float) -> None:
    weights = weights_like(0)
    full, less = RQUANT.fit(weights), RQUANT.fit(weights, shrink=shrink)
    assert float(less.scale) == pytest.approx(shrink * float(full.scale), rel=1e-6)
    values = RQUANT.encode(weights, less).values()
    assert float(values.max()) == pytest.approx(
        shrink * float(weights.max()), abs=float(less.scale)
    )


@pytest.mark.parametrize("shrink", [0.0, -1.0, 1.5])
def test_shrinking_by_no_fraction_is_refused(shrink: float) -> None:
    with pytest.raises(QuantizationError, match="shrink"):
        RQUANT.fit(weights_like(0), shrink=shrink)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.37, 1e-30, 1e-44, 5e30])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_constant_tensors_come_back(value: float, bits: int) -> None:
    for name, rung in LADDER.items():
        quantizer = rung.model_copy(update={"bits": bits})
        coded = quantizer.encode(torch.full((5,), value))
        allowed = float(coded.grid.scale) * (0.5 if name == "rquant" else 1.0)
        assert len(set(coded.codes.tolist())) == 1
        assert float(coded.values()[0]) == pytest.approx(value, abs=allowed * 1.001)


def test_nearly_constant_tensors_keep_small_zero_points() -> None:
    for spread in (1e-1, 1e-3, 1e-5, 1e-7):
        weights = torch.tensor([1.0, 1.0 + spread])
        coded = RQUANT.encode(weights)
        assert int(coded.grid.zero_point.abs()) < 1 << 20
        assert coded.values().tolist() == pytest.approx(weights.tolist(), rel=2e-3)


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_values_that_are_no_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(QuantizationError, match="finite"):
        RQUANT.encode(torch.tensor(values))


@pytest.mark.parametrize("table", [{"bits": 1}, {"bits": 9}, {"margin": -0.1}, {"w_max": 0.0}])
def test_impossible_parameters_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(table))):
        QUANTIZERS.build({"kind": "affine", **table})


def test_ladder_lessens_the_disturbance_of_real_weights(resnet20: nn.Module) -> None:
    """At a bit error rate of 0.5 %, as in the source's table; sums over all layers.

    Asymmetry shortens the step, rounding quarters the squared error without faults. Signed and
    unsigned words of one grid differ in their highest bit only, so flips disturb them alike.
    """
    layers = [weight.detach() for weight in resnet20.parameters() if weight.ndim > 1]
    quantization, flips = {}, {}
    for name, quantizer in LADDER.items():
        coded = [quantizer.encode(weight) for weight in layers]
        pairs = zip(coded, layers, strict=True)
        quantization[name] = sum(float(((c.values() - w) ** 2).sum()) for c, w in pairs)
        steps = sum(float(c.grid.scale) ** 2 * c.codes.numel() for c in coded)
        flips[name] = 0.005 * steps * (4**8 - 1) / 3
    assert flips["normal"] > 1.05 * flips["asymmetric"]
    assert flips["asymmetric"] == pytest.approx(flips["unsigned"]) == flips["rquant"]
    assert quantization["normal"] > quantization["unsigned"] > 3 * quantization["rquant"]
    totals = {name: quantization[name] + flips[name] for name in LADDER}
    assert min(totals, key=lambda name: totals[name]) == "rquant"
    assert max(totals, key=lambda name: totals[name]) == "normal"
