from dataclasses import replace

import pytest
import torch
from torch import nn

from bitproof.approx import Arithmetic, SignMagnitude, Truncated
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.harden import Approximate, ApproximationAware, Candidate, TrainingContext
from bitproof.metrics import tally
from bitproof.quant import AffineQuantizer, Scheme
from bitproof.train import Optimization, train_

COARSE = SignMagnitude(of=Truncated(columns=11))
SCHEME = Scheme(weight=AffineQuantizer(symmetric=True), activation_signed=True)


@pytest.fixture(scope="module")
def data() -> Dataset:
    generator = make_generator(0)
    labels = torch.arange(192) % 4
    patterns = torch.rand(4, 1, 6, 6, generator=generator)
    noise = 0.3 * torch.randn(192, 1, 6, 6, generator=generator)
    return Dataset("patterns", (patterns[labels] + noise).clamp(0, 1), labels, 4)


@pytest.fixture(scope="module")
def trained(data: Dataset) -> Candidate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
        )
    much = Optimization(epochs=12, batch_size=32, learning_rate=0.05)
    train_(model, data, much, generator=make_generator(1))
    return Candidate(model.eval(), SCHEME)


def accuracy(candidate: Candidate, data: Dataset) -> float:
    return tally(candidate.quantize(data)(data.inputs()), data.labels).acc


@pytest.mark.parametrize("gradient", ["straight_through", "table"])
def test_training_wins_back_what_a_coarse_multiplier_takes(
    gradient: str, trained: Candidate, data: Dataset
) -> None:
    rough = Approximate(multiplier=COARSE).apply(trained, TrainingContext(data))
    short = Optimization(epochs=3, batch_size=32, learning_rate=0.02)
    stage = ApproximationAware.model_validate({"gradient": gradient, "optimization": short})
    after = stage.apply(rough, TrainingContext(data))
    exact, before = accuracy(trained, data), accuracy(rough, data)
    assert before < exact - 0.2
    assert accuracy(after, data) > (exact + before) / 2
    assert after.arithmetic == rough.arithmetic
    assert after.record[-1]["record"]["layers"] == ["0", "3"]


def test_training_with_exact_products_keeps_accuracy(trained: Candidate, data: Dataset) -> None:
    short = Optimization(epochs=1, batch_size=32, learning_rate=0.005)
    after = ApproximationAware(optimization=short).apply(trained, TrainingContext(data))
    assert accuracy(after, data) >= accuracy(trained, data) - 0.02


def test_a_later_multiplier_takes_the_place_of_an_earlier_one(
    trained: Candidate, data: Dataset
) -> None:
    mild = Truncated(columns=2, signed=True)
    first = Approximate(multiplier=COARSE, layers={"0": mild}).apply(trained, TrainingContext(data))
    second = Approximate(multiplier=mild).apply(first, TrainingContext(data))
    assert second.arithmetic == Arithmetic(multiplier=mild)
    named = Approximate(layers={"3": mild}).apply(first, TrainingContext(data))
    assert named.arithmetic == Arithmetic(multiplier=COARSE, layers={"0": mild, "3": mild})
    kept = Approximate(correct_means=True).apply(first, TrainingContext(data))
    assert kept.arithmetic == replace_means(first.arithmetic)
    offsets = [own.offset for own in kept.quantize(data).products.values()]
    assert all(bool(offset.any()) for offset in offsets)


def replace_means(arithmetic: Arithmetic) -> Arithmetic:
    return arithmetic.model_copy(update={"correct_means": True})


def test_the_judge_of_adjust_sees_the_multipliers(trained: Candidate, data: Dataset) -> None:
    rough = Approximate(multiplier=COARSE).apply(trained, TrainingContext(data))
    assert replace(rough, correct_bias=True).quantize(data).products.keys() == {"0", "3"}
