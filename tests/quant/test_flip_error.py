"""Flips in weights against loops over single words, and against sums over all patterns of flips."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import QuantizationError, SpecError
from bitproof.core.rng import make_generator
from bitproof.quant import (
    PRESETS,
    AffineQuantizer,
    CodedTensor,
    Grid,
    IntegerNetwork,
    Node,
    Scheme,
    flip_error,
    quantize,
)

QUANTIZERS = {
    f"{name}{', per channel' if per_channel else ''}": preset.model_copy(
        update={"per_channel": per_channel}
    )
    for name, preset in PRESETS.items()
    for per_channel in (False, True)
}


def network_of(*weights: CodedTensor) -> IntegerNetwork:
    """Return a network that holds these weights, as much of it as is needed here."""
    layers = [Node(f"fc{i}", "linear", ("x",)) for i in range(len(weights))]
    tensors = {f"{node.name}.weight": one for node, one in zip(layers, weights, strict=True)}
    return IntegerNetwork((Node("x", "input"), *layers), tensors, {})


def coded(quantizer: AffineQuantizer, *, rows: int = 3, seed: int = 0) -> CodedTensor:
    generator = make_generator(seed)
    spread = torch.arange(1.0, rows + 1).unsqueeze(1)
    return quantizer.encode(torch.randn(rows, 5, generator=generator) * 0.2 * spread + 0.05)


def by_hand(codes: Tensor, *, scale: float, bits: int, signed: bool, point: int = 0) -> CodedTensor:
    grid = Grid(torch.tensor(scale), torch.tensor(point, dtype=torch.int32), bits, signed)
    return CodedTensor(codes.to(grid.dtype), grid)


def one_by_one(weights: list[CodedTensor], bit: int) -> float:
    """Return the mean squared change by a flip of one bit, word by word, in Python numbers."""
    total, n = 0.0, 0
    for one in weights:
        grid = one.grid
        for index in np.ndindex(*one.codes.shape):
            channel = () if grid.axis is None else index[grid.axis]
            step, point = float(grid.scale[channel]), int(grid.zero_point[channel])
            code = int(one.codes[index])
            pattern = f"{code & (1 << grid.bits) - 1:0{grid.bits}b}"
            place = grid.bits - 1 - bit
            other = pattern[:place] + "10"[int(pattern[place])] + pattern[place + 1 :]
            read = int(other, 2)
            if grid.signed and other[0] == "1":
                read -= 1 << grid.bits
            total += (step * (read - point) - step * (code - point)) ** 2
            n += 1
    return total / n


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("name", QUANTIZERS)
def test_each_bit_moves_weights_as_single_words_tell(name: str, bits: int) -> None:
    quantizer = QUANTIZERS[name].model_copy(update={"bits": bits})
    weights = [coded(quantizer), coded(quantizer, rows=7, seed=1)]
    found = flip_error(network_of(*weights), generator=make_generator(0))
    assert found.words == 50
    assert found.measured == pytest.approx([one_by_one(weights, bit) for bit in range(bits)])
    assert found.formula == pytest.approx(found.measured, rel=1e-12)
    assert found.measured_sum == pytest.approx(0.01 * sum(found.measured))
    assert found.formula_sum == pytest.approx(found.measured_sum, rel=1e-12)


def test_values_by_hand() -> None:
    signed = by_hand(torch.tensor([-8, -1, 0, 7]), scale=0.5, bits=4, signed=True)
    found = flip_error(network_of(signed), generator=make_generator(0))
    assert found.measured == found.formula == (0.25, 1.0, 4.0, 16.0)
    assert found.measured_sum == found.formula_sum == pytest.approx(0.2125)
    unsigned = by_hand(torch.tensor([0, 3]), scale=2.0, bits=2, signed=False, point=1)
    found = flip_error(network_of(unsigned), generator=make_generator(0), ber=0.25)
    assert found.measured == found.formula == (4.0, 16.0)
    assert found.formula_sum == 5.0


def test_words_of_all_tensors_weigh_alike_and_channels_have_their_steps() -> None:
    steps = torch.tensor([1.0, 3.0])
    grid = Grid(steps, torch.tensor([0, 5], dtype=torch.int32), 2, True, 0)
    channels = CodedTensor(torch.tensor([[-2, 1, 0], [1, 0, -1]], dtype=torch.int8), grid)
    other = by_hand(torch.tensor([1, 0]), scale=2.0, bits=3, signed=False)
    found = flip_error(network_of(channels, other), generator=make_generator(0))
    assert found.words == 8
    # (3 x 1 + 3 x 9 + 2 x 4) / 8, four times that; bit 2 is one of the other tensor alone.
    assert found.measured == found.formula == (4.75, 19.0, 64.0)
    assert found.measured_sum == found.formula_sum == pytest.approx(0.01 * (4.75 + 19 + 64 * 2 / 8))


def test_everything_flips_at_rate_one_and_nothing_at_zero() -> None:
    weights = by_hand(torch.tensor([0, 15, 6]), scale=1.0, bits=4, signed=False)
    found = flip_error(network_of(weights), generator=make_generator(0), ber=1.0)
    assert found.simulated == pytest.approx((15**2 + 15**2 + 3**2) / 3)
    found = flip_error(network_of(weights), generator=make_generator(0), ber=0.0)
    assert found.simulated == found.measured_sum == found.formula_sum == 0.0


def moments(code: int, grid: Grid, ber: float) -> tuple[float, float]:
    """Return mean and variance of one word's squared change in steps, over all patterns."""
    masks = np.arange(1 << grid.bits)
    ones = np.array([int(mask).bit_count() for mask in masks])
    chances = ber**ones * (1 - ber) ** (grid.bits - ones)
    before = code & (1 << grid.bits) - 1
    sign = 1 << (grid.bits - 1) if grid.signed else 0
    squares = (((before ^ masks) ^ sign) - (before ^ sign)).astype(np.float64) ** 2
    mean = float(chances @ squares)
    return mean, float(chances @ squares**2) - mean**2


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ["normal", "rquant"])
def test_the_simulation_agrees_with_the_sum_over_all_patterns(name: str, bits: int) -> None:
    quantizer, ber = PRESETS[name].model_copy(update={"bits": bits}), 0.05
    weights = quantizer.encode(torch.randn(30_000, generator=make_generator(3)))
    step = float(weights.grid.scale)
    codes, counts = np.unique(weights.codes.numpy(), return_counts=True)
    each = np.array([moments(int(code), weights.grid, ber) for code in codes])
    mean, variance = (counts @ each) / len(weights.codes)
    found = flip_error(network_of(weights), generator=make_generator(4), ber=ber)
    sigma = (variance / len(weights.codes)) ** 0.5
    assert found.simulated / step**2 == pytest.approx(mean, abs=5 * sigma)
    # What the first order leaves out is bounded as the module says.
    assert 1 - ber <= mean * step**2 / found.formula_sum <= 1 + 2 * ber
    all_flip = (
        2.0**bits - 1 - 2 * (codes.astype(int) + (2 ** (bits - 1) if name == "normal" else 0))
    )
    exact = ber * (1 - ber) * (4**bits - 1) / 3 + ber**2 * all_flip**2
    assert each[:, 0] == pytest.approx(exact)


def test_one_generator_state_is_one_draw() -> None:
    network = network_of(coded(PRESETS["rquant"], rows=50))
    one, same, other = (
        flip_error(network, generator=make_generator(seed), ber=0.1) for seed in (0, 0, 1)
    )
    assert one == same
    assert one.simulated != other.simulated
    assert one.measured == other.measured


def test_biases_and_norms_do_not_count() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 3))
    network = quantize(model.eval(), torch.rand(8, 1, 4, 4))
    assert len(network.tensors) > 4
    assert flip_error(network, generator=make_generator(0)).words == 36 + 48


def test_the_network_stays_as_it_is() -> None:
    scheme = Scheme.model_validate({"preset": "normal", "bits": 3})
    network = quantize(nn.Linear(4, 3), torch.rand(8, 4), scheme)
    before = network.digest()
    flip_error(network, generator=make_generator(0))
    assert network.digest() == before


def test_what_is_found_is_json() -> None:
    found = flip_error(network_of(coded(PRESETS["rquant"])), generator=make_generator(0))
    table = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert table["measured"] == list(found.measured)
    assert set(table) == {
        *("words", "measured", "formula", "ber", "measured_sum", "formula_sum", "simulated")
    }


def test_a_network_without_weights_and_a_rate_that_is_none_are_refused() -> None:
    with pytest.raises(QuantizationError, match="weights"):
        flip_error(network_of(), generator=make_generator(0))
    with pytest.raises(SpecError, match="ber"):
        flip_error(network_of(coded(PRESETS["rquant"])), generator=make_generator(0), ber=1.5)
