from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bitproof.approx import Drum
from bitproof.attacks import LinfPGD
from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.evaluation import IntegerModel, MemoryFaults, count
from bitproof.evaluation.adversarial_examples import attack_images
from bitproof.harden import Approximate, Candidate, Joint, TrainingContext
from bitproof.harden.joint import clamped
from bitproof.quant import AffineQuantizer, Scheme
from bitproof.train import Optimization, train_

SCHEME = Scheme(weight=AffineQuantizer(symmetric=True, signed=True), activation_signed=True)
SHORT = Optimization(epochs=6, batch_size=32, learning_rate=0.02)
EPSILON, BER = 0.2, 0.1


@pytest.fixture(scope="module")
def data() -> Dataset:
    generator = make_generator(0)
    labels = torch.arange(256) % 4
    patterns = torch.rand(4, 1, 6, 6, generator=generator)
    noise = 0.25 * torch.randn(256, 1, 6, 6, generator=generator)
    return Dataset("patterns", (patterns[labels] + noise).clamp(0, 1), labels, 4)


@pytest.fixture(scope="module")
def trained(data: Dataset) -> Candidate:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(288, 16), nn.ReLU(), nn.Linear(16, 4)),
        )
    much = Optimization(epochs=8, batch_size=32, learning_rate=0.05)
    train_(model, data, much, generator=make_generator(1))
    return Candidate(model.eval(), SCHEME)


def under_faults(candidate: Candidate, data: Dataset) -> float:
    threat = MemoryFaults(levels=(BER,), chips=8, images=None)
    network = IntegerModel(candidate.quantize(data))
    counts = [threat.measure(network, data, level=BER, trial=n, seed=0) for n in range(8)]
    return sum(one.correct for one in counts) / sum(one.total for one in counts)


def under_attack(candidate: Candidate, data: Dataset) -> float:
    attack, network = LinfPGD(epsilon=EPSILON, steps=10), IntegerModel(candidate.quantize(data))
    return attack_images(attack, network, data, generator=make_generator(0)).acc


@pytest.mark.slow
def test_one_training_raises_resilience_to_faults_and_to_attacks_on_a_multiplier(
    trained: Candidate, data: Dataset
) -> None:
    there = Approximate(multiplier=Drum(width=4, signed=True)).apply(trained, TrainingContext(data))
    stage = Joint(ber=BER, clip=0.6, clamp=0.3, epsilon=EPSILON, optimization=SHORT)
    after = stage.apply(there, TrainingContext(data))
    assert after.arithmetic == there.arithmetic
    assert count(after.quantize(data), data).acc > 0.95
    assert under_faults(after, data) > under_faults(there, data) + 0.05
    assert under_attack(after, data) > under_attack(there, data) + 0.05


def test_folded_weights_stay_inside_their_share_of_the_range(
    trained: Candidate, data: Dataset
) -> None:
    stage = Joint(clip=0.5, lam_adv=0.0, lam_keep=0.0, optimization=replace_epochs(1))
    after = stage.apply(trained, TrainingContext(data))
    for path in ("0", "4", "6"):
        before, now = folded(trained.model, path), folded(after.model, path)
        assert now.max() <= 0.5 * before.max().clamp(min=0) + 1e-5
        assert now.min() >= 0.5 * before.min().clamp(max=0) - 1e-5


def folded(model: nn.Module, path: str) -> Tensor:
    """Return a weight with its batch norm folded in, as a slow obvious formula has it."""
    weight: Tensor = model.get_parameter(f"{path}.weight").detach()
    if path != "0":
        return weight
    factor = model.get_parameter("1.weight") / (model.get_buffer("1.running_var") + 1e-5).sqrt()
    return weight * factor.detach().view(-1, 1, 1, 1)


def replace_epochs(epochs: int) -> Optimization:
    return SHORT.model_copy(update={"epochs": epochs})


def test_terms_that_weigh_nothing_cost_nothing() -> None:
    plain = Joint(faulty_share=0.0, lam_adv=0.0, lam_keep=0.0)
    assert plain.step_passes.images == 3
    assert Joint(steps=3).step_passes.images == 3 * (2 + 1 + 3)


def test_the_rate_rises_to_its_end_over_the_ramp() -> None:
    stage = Joint(ber=0.02, ramp=0.5)
    assert [stage.ber_at(done) for done in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.01, 0.02, 0.02]
    assert Joint(ber=0.02, ramp=0.0).ber_at(0.0) == 0.02


def test_only_gradients_of_the_block_are_clamped_and_each_before_they_add_up() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -1.0]))

    def after(*slopes: float) -> list[float]:
        torch.autograd.backward((torch.tensor(slopes) * weight).sum())
        assert weight.grad is not None
        found: list[float] = weight.grad.tolist()
        return found

    assert after(3.0, 3.0) == [3.0, 3.0]
    with clamped([weight], 0.5):
        assert after(-7.0, 0.25) == [3.0 - 0.5, 3.0 + 0.25]
    assert after(10.0, 10.0) == [12.5, 13.25]
    with clamped([weight], None):
        assert after(2.0, 2.0) == [14.5, 15.25]


def test_the_same_context_gives_the_same_weights(trained: Candidate, data: Dataset) -> None:
    stage = Joint(epsilon=0.1, steps=1, optimization=replace_epochs(1))
    one, two = (stage.apply(trained, TrainingContext(data, seed=3)) for _ in range(2))
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)
    other = stage.apply(trained, replace(TrainingContext(data), seed=4))
    first = "0.weight"
    assert not torch.equal(one.model.get_parameter(first), other.model.get_parameter(first))
