import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from bitproof.core.rng import make_generator
from bitproof.harden.critic import Critic


@pytest.fixture
def critic() -> Critic:
    return Critic(4, 3, learning_rate=0.1, generator=make_generator(0))


def clouds() -> tuple[Tensor, Tensor, Tensor]:
    """Two clouds whose shift depends on the class, so that the label is needed."""
    generator = make_generator(1)
    labels = torch.randint(3, (200,), generator=generator)
    clean, moved = torch.randn(2, 200, 4, generator=generator)
    return clean, moved + torch.tensor([1.5, 0.0, -1.5])[labels].unsqueeze(1), labels


def test_critic_learns_to_tell_clouds_apart(critic: Critic) -> None:
    clean, moved, labels = clouds()
    for _ in range(200):
        critic.fooled(clean, moved, labels)
    # Class 1 is not shifted at all: there is nothing to tell.
    shifted = labels != 1
    right = torch.cat([critic(clean, labels)[shifted] > 0, critic(moved, labels)[shifted] < 0])
    assert right.double().mean() > 0.9


def test_critic_sees_the_class(critic: Critic) -> None:
    features = torch.zeros(3, 4)
    assert len(critic(features, torch.arange(3)).unique()) == 3


def test_encoder_alone_gets_the_gradient(critic: Critic) -> None:
    clean, moved, labels = clouds()
    clean, moved = clean.requires_grad_(), moved.requires_grad_()
    loss = critic.fooled(clean, moved, labels)
    critic.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    assert moved.grad is not None
    assert float(moved.grad.norm()) > 0
    assert clean.grad is None
    assert all(weight.grad is None and weight.requires_grad for weight in critic.parameters())


def test_encoder_descends_towards_features_that_pass_for_clean(critic: Critic) -> None:
    clean, moved, labels = clouds()
    for _ in range(50):
        critic.fooled(clean, moved, labels)
    moved = moved.requires_grad_()
    loss = critic.fooled(clean, moved, labels)
    torch.testing.assert_close(loss, softplus(-critic(moved, labels)).mean())
    (gradient,) = torch.autograd.grad(loss, moved)
    assert critic(moved - 10 * gradient, labels).mean() > critic(moved, labels).mean()


def test_one_step_of_the_critic_is_gradient_descent(critic: Critic) -> None:
    clean, moved, labels = clouds()
    own = softplus(critic(moved, labels)) + softplus(-critic(clean, labels))
    gradients = torch.autograd.grad(own.mean(), list(critic.parameters()))
    expected = [w - 0.1 * g for w, g in zip(critic.parameters(), gradients, strict=True)]
    critic.fooled(clean, moved, labels)
    for weight, wanted in zip(critic.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.detach(), wanted.detach())


def test_weights_come_from_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, again = (
        Critic(4, 3, learning_rate=0.1, generator=make_generator(5)).state_dict() for _ in range(2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)
