import pytest
import torch
import torchattacks
from torch import Tensor

from bitproof.attacks.balls import project_l2, project_linf
from bitproof.attacks.base import InputAttack
from bitproof.attacks.pgd import FGSM, L2PGD, LinfPGD
from bitproof.core.rng import make_generator

WEIGHTS = torch.randn(3, 4, 4, generator=make_generator(8)) / 4
RADII = [0.0, 0.01, 0.03, 0.06, 0.1, 0.2]


def linear(x: Tensor) -> Tensor:
    score = (x - 0.5).flatten(1) @ WEIGHTS.flatten()
    return torch.stack([-score, score], dim=1)


def batch(n: int = 200) -> tuple[Tensor, Tensor]:
    inputs = torch.rand(n, 3, 4, 4, generator=make_generator(9))
    return inputs, linear(inputs).argmax(dim=1)


def sam_perturbation(labels: Tensor) -> Tensor:
    return torch.where(labels.view(-1, 1, 1, 1) == 0, WEIGHTS, -WEIGHTS)


def run(attack: InputAttack, model: object, inputs: Tensor, labels: Tensor) -> Tensor:
    assert callable(model)
    return attack.run(model, inputs, labels, generator=make_generator(0))


def test_linf_pgd_is_optimal_on_a_linear_model() -> None:
    inputs, labels = batch()
    best = project_linf(inputs + sam_perturbation(labels).sign(), inputs, 0.04)
    found = run(LinfPGD(epsilon=0.04), linear, inputs, labels)
    broken = linear(best).argmax(dim=1) != labels
    assert 20 < int(broken.sum()) < 180
    assert torch.equal(linear(found).argmax(dim=1) != labels, broken)
    assert torch.equal(found[~broken], best[~broken])


def test_l2_pgd_is_optimal_on_a_linear_model_away_from_the_borders() -> None:
    inputs, labels = batch()
    inputs = 0.4 + 0.2 * inputs
    labels = linear(inputs).argmax(dim=1)
    best = inputs + 0.05 * sam_perturbation(labels) / WEIGHTS.norm()
    found = run(L2PGD(epsilon=0.05, steps=50), linear, inputs, labels)
    broken = linear(best).argmax(dim=1) != labels
    assert 20 < int(broken.sum()) < 180
    assert torch.equal(linear(found).argmax(dim=1) != labels, broken)
    # Each step keeps a share of the sideways part of the random start, so it decays.
    torch.testing.assert_close(found[~broken], best[~broken], rtol=0, atol=1e-6)


@pytest.mark.parametrize("attack", [FGSM(epsilon=0), LinfPGD(epsilon=0), L2PGD(epsilon=0)])
def test_accuracy_never_rises_with_epsilon_on_a_linear_model(attack: InputAttack) -> None:
    inputs, labels = batch()
    scale = 5.0 if attack.ball == "L2" else 1.0
    accuracies = [
        float(
            (linear(run(attack.at(scale * radius), linear, inputs, labels)).argmax(1) == labels)
            .double()
            .mean()
        )
        for radius in RADII
    ]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] == 1
    assert accuracies[-1] < 0.2


def test_pgd_breaks_clearly_more_than_fgsm(trained: "Trained") -> None:
    one, many = (
        trained.accuracy(run(attack, trained.net, trained.inputs, trained.labels))
        for attack in (FGSM(epsilon=trained.epsilon), LinfPGD(epsilon=trained.epsilon))
    )
    assert 0.2 < many < 0.7, "the comparison needs a net at its tipping point"
    assert many < one - 0.05


def test_accuracy_falls_with_epsilon_on_a_trained_net(trained: "Trained") -> None:
    accuracies = [
        trained.accuracy(run(LinfPGD(epsilon=e), trained.net, trained.inputs, trained.labels))
        for e in (0.0, 0.05, 0.08, 0.12)
    ]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[0] > 0.98
    assert accuracies[-1] < 0.05


@pytest.mark.parametrize("kind", [LinfPGD, L2PGD])
def test_restarts_only_break_more(kind: type[LinfPGD] | type[L2PGD], trained: "Trained") -> None:
    epsilon = trained.epsilon if kind is LinfPGD else 0.7
    net, labels = trained.net, trained.labels
    broken = [
        net(run(kind(epsilon=epsilon, restarts=n, steps=5), net, trained.inputs, labels)).argmax(1)
        != labels
        for n in (1, 4)
    ]
    assert (broken[1] >= broken[0]).all()
    assert 0 < int(broken[0].sum()) < int(broken[1].sum())


def test_linf_pgd_is_as_strong_as_that_of_torchattacks(trained: "Trained") -> None:
    epsilon = trained.epsilon
    ours = run(LinfPGD(epsilon=epsilon), trained.net, trained.inputs, trained.labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = torchattacks.PGD(trained.net, eps=epsilon, alpha=epsilon / 4, steps=20)
        theirs = other(trained.inputs, trained.labels)
    # Starts differ, and theirs may walk back over the border: 300 images, up to 9 differ.
    assert trained.accuracy(ours) == pytest.approx(trained.accuracy(theirs), abs=0.03)


def test_l2_pgd_is_as_strong_as_that_of_torchattacks(trained: "Trained") -> None:
    ours = run(L2PGD(epsilon=0.7), trained.net, trained.inputs, trained.labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        other = torchattacks.PGDL2(trained.net, eps=0.7, alpha=0.7 / 4, steps=20)
        theirs = other(trained.inputs, trained.labels)
    assert trained.accuracy(ours) == pytest.approx(trained.accuracy(theirs), abs=0.03)


def test_starts_differ_between_generators_and_repeat_with_one() -> None:
    inputs, labels = batch()
    attack = LinfPGD(epsilon=0.1, steps=1, relative_step=0.01)
    first, again, other = (
        attack.run(linear, inputs, labels, generator=make_generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_l2_projection_of_the_answer_stays_in_its_own_ball() -> None:
    inputs, labels = batch()
    found = run(L2PGD(epsilon=0.2), linear, inputs, labels)
    torch.testing.assert_close(project_l2(found, inputs, 0.2), found, rtol=0, atol=1e-6)
    assert (found - inputs).flatten(1).norm(dim=1).max() > 0.19


FOUR_WEIGHTS = torch.tensor([1.0, -2.0, 0.5, -0.1])


def model_of_four(x: Tensor) -> Tensor:
    return torch.stack([-(x @ FOUR_WEIGHTS), x @ FOUR_WEIGHTS], dim=1)


def test_one_step_of_fgsm_is_the_optimum_of_a_linear_model() -> None:
    inputs = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    found = FGSM(epsilon=0.25).run(
        model_of_four, inputs, torch.tensor([0]), generator=make_generator(0)
    )
    assert torch.equal(found, torch.tensor([[0.75, 0.25, 0.75, 0.25]]))


def test_fgsm_leaves_images_clean_that_are_wrong_anyway() -> None:
    inputs = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    found = FGSM(epsilon=0.25).run(
        model_of_four, inputs, torch.tensor([1]), generator=make_generator(0)
    )
    assert torch.equal(found, inputs)


def test_fgsm_draws_nothing() -> None:
    generator = make_generator(0)
    FGSM(epsilon=0.25).run(
        model_of_four, torch.rand(3, 4), torch.tensor([0, 1, 0]), generator=generator
    )
    assert torch.equal(generator.get_state(), make_generator(0).get_state())
