"""WCAT: gradients of bounds as the formula says, and ranges that narrow."""

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.harden import WCAT, Candidate, TrainingContext
from bitproof.harden.wcat import best_bound, read_clipped, symmetric
from bitproof.quant import Scheme
from bitproof.quant.stored_parameters import StoredParameters
from bitproof.train import Optimization


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def data(n: int = 48) -> Dataset:
    images = torch.rand(n, 1, 2, 3, generator=make_generator(0, "images"))
    return Dataset("points", images, torch.arange(n) % 3, 3)


def test_gradients_of_weights_and_bounds() -> None:
    model = network()
    stored = StoredParameters.of(model, data().inputs(slice(0, 2)), symmetric(Scheme()))
    bound = nn.Parameter(torch.tensor(0.2))
    seen = read_clipped(stored, {"1.weight": bound}, bits=4)["1.weight"]
    weight = model.get_parameter("1.weight")
    step = 0.2 / 7
    for value, read in zip(weight.flatten().tolist(), seen.flatten().tolist(), strict=True):
        assert read == pytest.approx(max(-7, min(7, round(value / step))) * step, abs=1e-6)
    slope = torch.randn(5, 6, generator=make_generator(1))
    (seen * slope).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert bound.grad is not None
    assert torch.equal(weight.grad, slope)
    above, below = weight > 0.2, weight < -0.2
    wanted = (slope[above].sum() - slope[below].sum()) / 30**0.5
    assert float(bound.grad) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_bounds_start_at_the_least_squared_error(bits: int) -> None:
    values = torch.randn(2000, generator=make_generator(2))
    found = best_bound(values, bits=bits)

    def error(bound: float) -> float:
        step = bound / (2 ** (bits - 1) - 1)
        return float(
            (((values / step).round() * step).clamp(-bound, bound) - values).square().sum()
        )

    most = float(values.abs().max())
    best = min(error(most * share / 200) for share in range(2, 201))
    assert error(found) <= best * 1.02


def test_decay_narrows_the_range_of_every_layer() -> None:
    steps = Optimization(epochs=8, batch_size=8, learning_rate=0.1)
    runs = {
        decay: WCAT(decay=decay, optimization=steps).apply(
            Candidate(network()), TrainingContext(train=data())
        )
        for decay in (0.0, 0.3)
    }
    bounds = {decay: done.record[-1]["record"]["bounds"] for decay, done in runs.items()}
    assert all(bounds[0.3][name] < bounds[0.0][name] for name in bounds[0.0])
    done = runs[0.3]
    for name, bound in bounds[0.3].items():
        assert float(done.model.get_parameter(name).detach().abs().max()) <= bound * 1.0001
    grid = done.quantize(data()).tensors["1.weight"].grid
    assert grid.signed
    assert int(grid.zero_point) == 0
