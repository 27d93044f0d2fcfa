import pytest
import torch
import torchattacks
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from bitproof.attacks.ascent import FGSM, L2PGD, LinfPGD, ascend, input_gradient, signed_ascent
from bitproof.attacks.balls import draw_linf, project_l2, project_linf
from bitproof.attacks.base import InputAttack
from bitproof.core.errors import InputRangeError, ModelError
from bitproof.core.rng import make_generator

EPSILON, STEP, STEPS = 0.1, 0.03, 8
WEIGHTS = torch.randn(3, 4, 4, generator=make_generator(8)) / 4
RADII = [0.0, 0.01, 0.03, 0.06, 0.1, 0.2]


def small_net() -> nn.Module:
    """An untrained net in float64, where the order of sums moves no decision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 3)).double().eval()


def batch(n: int = 60) -> tuple[Tensor, Tensor]:
    generator = make_generator(1)
    inputs = torch.rand(n, 12, generator=generator, dtype=torch.float64)
    labels = small_net()(inputs).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % 3  # Some are misclassified from the outset.
    return inputs, labels


def draw_starts(inputs: Tensor, count: int) -> list[Tensor]:
    generator = make_generator(2)
    return [draw_linf(inputs, EPSILON, generator=generator) for _ in range(count)]


def signed_step(points: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
    return project_linf(points + STEP * gradient.sign(), inputs, EPSILON)


def attack_one_image_slowly(
    net: nn.Module, image: Tensor, label: Tensor, starts: list[Tensor]
) -> tuple[bool, Tensor]:
    """Try the clean image, then every iterate from every start; tell the first that is wrong."""
    iterates = [image]
    for start in starts:
        point = start
        for _ in range(STEPS):
            iterates.append(point)
            point = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(net(point), label), point)
            point = signed_step(point.detach(), gradient, image)
        iterates.append(point)
    wrong = [point for point in iterates if net(point).argmax(dim=1) != label]
    return bool(wrong), wrong[0] if wrong else iterates[-1]


@pytest.mark.parametrize("restarts", [1, 3])
def test_early_stopping_finds_exactly_what_the_slow_loop_finds(restarts: int) -> None:
    net, (inputs, labels) = small_net(), batch()
    starts = draw_starts(inputs, restarts)
    found = ascend(net, inputs, labels, starts=starts, steps=STEPS, move=signed_step)
    slow = [
        attack_one_image_slowly(net, inputs[[i]], labels[[i]], [start[[i]] for start in starts])
        for i in range(len(inputs))
    ]
    wrong = torch.tensor([is_wrong for is_wrong, _ in slow])
    assert torch.equal(net(found).argmax(dim=1) != labels, wrong)
    assert 10 < int(wrong.sum()) < 50, "the comparison needs images of both sorts"
    # Sums of a batched and of a single product differ in the last bits, signs do not.
    torch.testing.assert_close(found, torch.cat([point for _, point in slow]), rtol=0, atol=1e-12)


def test_images_do_not_see_each_other() -> None:
    net, (inputs, labels) = small_net(), batch()
    starts = draw_starts(inputs, 2)
    whole = ascend(net, inputs, labels, starts=starts, steps=STEPS, move=signed_step)
    half = ascend(
        net,
        inputs[::2],
        labels[::2],
        starts=[start[::2] for start in starts],
        steps=STEPS,
        move=signed_step,
    )
    torch.testing.assert_close(whole[::2], half, rtol=0, atol=1e-12)


def test_images_that_are_wrong_cost_one_evaluation() -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x

    inputs = torch.tensor([[0.9, 0.1], [0.1, 0.9]])  # The second is not of class 0.
    ascend(model, inputs, torch.tensor([0, 0]), starts=[inputs, inputs], steps=3, move=signed_step)
    assert seen == [2, 1, 1, 1, 1, 1, 1, 1]


def test_a_batch_without_a_right_image_is_not_computed_again() -> None:
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x

    inputs = torch.tensor([[0.51, 0.49]])
    ascend(model, inputs, torch.tensor([0]), starts=[inputs] * 2, steps=9, move=signed_step)
    assert seen == [1, 1, 1], "clean, start, and the first step, which is wrong"


def test_the_gradient_of_an_image_is_the_same_in_any_batch() -> None:
    net, (inputs, labels) = small_net(), batch()
    _, together = input_gradient(net, inputs, labels)
    _, alone = input_gradient(net, inputs[:1], labels[:1])
    torch.testing.assert_close(together[:1], alone, rtol=1e-12, atol=0)


def test_all_starts_are_consumed_even_when_every_image_has_fallen() -> None:
    inputs = torch.tensor([[0.1, 0.9]])
    starts = iter([inputs, inputs, inputs])
    ascend(nn.Identity(), inputs, torch.tensor([0]), starts=starts, steps=3, move=signed_step)
    assert next(starts, None) is None


def test_climb_reaches_the_optimum_of_a_linear_model() -> None:
    generator = make_generator(3)
    weights = torch.randn(12, generator=generator)
    inputs = torch.rand(20, 12, generator=generator)
    labels = torch.arange(20) % 2

    def model(x: Tensor) -> Tensor:
        return torch.stack([-(x @ weights), x @ weights], dim=1)

    found = signed_ascent(
        model, inputs, labels, epsilon=0.1, step=0.025, steps=9, generator=make_generator(0)
    )
    sam_perturbation = torch.where(labels[:, None] == 0, weights.sign(), -weights.sign())
    assert torch.equal(found, project_linf(inputs + sam_perturbation, inputs, 0.1))


def test_one_step_of_climb_is_the_fast_gradient_sign_method_from_a_random_start() -> None:
    net, (inputs, labels) = small_net(), batch()
    start = draw_linf(inputs, EPSILON, generator=make_generator(5))
    _, gradient = input_gradient(net, start, labels)
    wanted = project_linf(start + EPSILON * gradient.sign(), inputs, EPSILON)
    found = signed_ascent(
        net, inputs, labels, epsilon=EPSILON, step=EPSILON, steps=1, generator=make_generator(5)
    )
    assert torch.equal(found, wanted)


def test_climb_takes_another_loss() -> None:
    net, (inputs, labels) = small_net(), batch()
    clean = net(inputs).log_softmax(dim=1).detach()

    def divergence(logits: Tensor, _: Tensor) -> Tensor:
        return kl_div(logits.log_softmax(dim=1), clean, log_target=True, reduction="sum")

    start = signed_ascent(
        net, inputs, labels, epsilon=EPSILON, step=0.0, steps=1, generator=make_generator(5)
    )
    found = signed_ascent(
        net,
        inputs,
        labels,
        epsilon=EPSILON,
        step=STEP,
        steps=STEPS,
        generator=make_generator(5),
        loss=divergence,
    )
    assert divergence(net(found), labels) > 2 * divergence(net(start), labels)


def test_climb_raises_the_loss_of_every_image_of_a_trained_net(trained: "Trained") -> None:
    found = signed_ascent(
        trained.net,
        trained.inputs,
        trained.labels,
        epsilon=0.05,
        step=0.0125,
        steps=10,
        generator=make_generator(0),
    )
    before = cross_entropy(trained.net(trained.inputs), trained.labels, reduction="none")
    after = cross_entropy(trained.net(found), trained.labels, reduction="none")
    assert (after > before).all()


def test_parameters_in_training_receive_no_gradient_from_climb() -> None:
    net, (inputs, labels) = small_net().train(), batch()
    signed_ascent(net, inputs, labels, epsilon=0.1, step=0.05, steps=2, generator=make_generator(0))
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_climb_refuses_normalised_inputs() -> None:
    with pytest.raises(InputRangeError, match="put normalisation into the model"):
        signed_ascent(
            nn.Identity(),
            torch.full((1, 2), -1.0),
            torch.tensor([0]),
            epsilon=0.1,
            step=0.1,
            steps=1,
            generator=make_generator(0),
        )


def test_gradients_are_found_where_the_caller_switched_them_off() -> None:
    net, (inputs, labels) = small_net(), batch()
    _, wanted = input_gradient(net, inputs, labels)
    with torch.no_grad():
        _, found = input_gradient(net, inputs, labels)
    assert torch.equal(found, wanted)
    assert wanted.abs().min() > 0


@pytest.mark.parametrize("frozen", [True, False])
def test_a_model_that_cuts_the_gradient_is_refused(frozen: bool) -> None:
    layer = nn.Linear(2, 2).requires_grad_(not frozen)

    def model(x: Tensor) -> Tensor:
        return layer(x.detach())  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match="let gradients pass rounding"):
        input_gradient(model, torch.rand(3, 2), torch.zeros(3, dtype=torch.int64))


def test_a_gradient_that_is_not_a_number_is_no_step() -> None:
    inputs = torch.tensor([[0.0, 0.5]])

    def model(x: Tensor) -> Tensor:
        return torch.stack([(0 * x[:, 0]).sqrt() - x[:, 1], x[:, 1]], dim=1)

    _, gradient = input_gradient(model, inputs, torch.tensor([0]))
    assert gradient[0, 0] == 0
    assert gradient[0, 1] > 0


def linear(x: Tensor) -> Tensor:
    score = (x - 0.5).flatten(1) @ WEIGHTS.flatten()
    return torch.stack([-score, score], dim=1)


def linear_batch(n: int = 200) -> tuple[Tensor, Tensor]:
    inputs = torch.rand(n, 3, 4, 4, generator=make_generator(9))
    return inputs, linear(inputs).argmax(dim=1)


def sam_perturbation(labels: Tensor) -> Tensor:
    return torch.where(labels.view(-1, 1, 1, 1) == 0, WEIGHTS, -WEIGHTS)


def run(attack: InputAttack, model: object, inputs: Tensor, labels: Tensor) -> Tensor:
    assert callable(model)
    return attack.run(model, inputs, labels, generator=make_generator(0))


def test_linf_pgd_is_optimal_on_a_linear_model() -> None:
    inputs, labels = linear_batch()
    best = project_linf(inputs + sam_perturbation(labels).sign(), inputs, 0.04)
    found = run(LinfPGD(epsilon=0.04), linear, inputs, labels)
    broken = linear(best).argmax(dim=1) != labels
    assert 20 < int(broken.sum()) < 180
    assert torch.equal(linear(found).argmax(dim=1) != labels, broken)
    assert torch.equal(found[~broken], best[~broken])


def test_l2_pgd_is_optimal_on_a_linear_model_away_from_the_borders() -> None:
    inputs, labels = linear_batch()
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
    inputs, labels = linear_batch()
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
    inputs, labels = linear_batch()
    attack = LinfPGD(epsilon=0.1, steps=1, relative_step=0.01)
    first, again, other = (
        attack.run(linear, inputs, labels, generator=make_generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_l2_projection_of_the_answer_stays_in_its_own_ball() -> None:
    inputs, labels = linear_batch()
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
