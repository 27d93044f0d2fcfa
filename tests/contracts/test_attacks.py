"""What every attack on inputs promises, checked for every registered kind."""

import importlib.util
import json

import pytest
import torch
from torch import Tensor, nn

from bitproof.attacks import (
    ATTACKS,
    FGSM,
    L2PGD,
    AutoAttack,
    InputAttack,
    LinfAPGD,
    LinfNoise,
    LinfPGD,
    LinfSquare,
)
from bitproof.core.errors import InputRangeError
from bitproof.core.rng import make_generator

SAMPLES: dict[str, InputAttack] = {
    "autoattack": AutoAttack(epsilon=0.15),
    "fgsm": FGSM(epsilon=0.15),
    "l2_pgd": L2PGD(epsilon=0.6, steps=4, restarts=2),
    "linf_apgd": LinfAPGD(epsilon=0.15, steps=4, targets=2),
    "linf_noise": LinfNoise(epsilon=0.15, tries=4),
    "linf_pgd": LinfPGD(epsilon=0.15, steps=4, restarts=2),
    "linf_square": LinfSquare(epsilon=0.15, queries=30),
}


@pytest.fixture(params=ATTACKS.kinds())
def attack(request: pytest.FixtureRequest) -> InputAttack:
    if request.param == "autoattack" and importlib.util.find_spec("pyautoattack") is None:
        pytest.skip("optional: pip install 'bitproof[autoattack]'")
    return SAMPLES[request.param]


@pytest.fixture
def net() -> nn.Module:
    """An untrained net with a frozen and a free layer, one of them with a gradient already."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        frozen, free = nn.Conv2d(3, 6, 3).requires_grad_(False), nn.Linear(6 * 16, 5)
    free.weight.grad = torch.ones_like(free.weight)
    return nn.Sequential(frozen, nn.ReLU(), nn.Flatten(), free).eval()


@pytest.fixture
def batch(net: nn.Module) -> tuple[Tensor, Tensor]:
    inputs = torch.rand(8, 3, 6, 6, generator=make_generator(1))
    labels = net(inputs).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 5  # One image is misclassified from the outset.
    return inputs, labels


def run(attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor], seed: int = 0) -> Tensor:
    return attack.run(net, *batch, generator=make_generator(seed))


def test_every_kind_has_a_sample() -> None:
    assert sorted(SAMPLES) == ATTACKS.kinds()


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_it_survives_a_round_trip_through_json(kind: str) -> None:
    sample = SAMPLES[kind]
    again = ATTACKS.build(json.loads(sample.model_dump_json()))
    assert again == sample
    assert again.digest() == sample.digest()
    assert sample.at(0.01).epsilon == 0.01


def test_the_answer_lies_in_the_ball_and_in_the_range(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    found = run(attack, net, batch)
    shift = (found.double() - batch[0].double()).flatten(1)
    size = shift.abs().amax(dim=1) if attack.ball == "Linf" else shift.norm(dim=1)
    # Linf bounds hold without rounding; a Euclidean norm is a rounded sum.
    assert size.max() <= attack.epsilon + (1e-6 if attack.ball == "L2" else 0)
    assert size[1:].max() > 0, "an attack that does nothing would pass this test"
    assert found.min() >= 0
    assert found.max() <= 1


def test_shape_dtype_and_device_are_kept_and_no_graph_hangs_on_the_answer(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    found = run(attack, net, batch)
    assert (found.shape, found.dtype, found.device) == (
        batch[0].shape,
        batch[0].dtype,
        batch[0].device,
    )
    assert not found.requires_grad


def test_inputs_and_labels_are_untouched(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    inputs, labels = batch[0].clone(), batch[1].clone()
    run(attack, net, batch)
    assert torch.equal(batch[0], inputs)
    assert torch.equal(batch[1], labels)
    assert not batch[0].requires_grad


def test_the_same_generator_gives_the_same_answer(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    assert torch.equal(run(attack, net, batch, seed=3), run(attack, net, batch, seed=3))


def test_global_generators_are_untouched(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    state = torch.random.get_rng_state()
    run(attack, net, batch)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_drawn_does_not_depend_on_the_model(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    generators = [make_generator(0), make_generator(0)]
    attack.run(net, *batch, generator=generators[0])
    attack.run(net, batch[0], (batch[1] + 1) % 5, generator=generators[1])
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_parameters_keep_their_values_gradients_and_flags(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    run(attack, net, batch)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.requires_grad == name.startswith("3")
        if name == "3.weight":
            assert torch.equal(parameter.grad, torch.ones_like(parameter))  # type: ignore[arg-type]
        else:
            assert parameter.grad is None


def test_an_image_that_is_wrong_anyway_stays_clean(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    assert torch.equal(run(attack, net, batch)[0], batch[0][0])


def test_accuracy_does_not_rise(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    inputs, labels = batch
    right_before = net(inputs).argmax(dim=1) == labels
    right_after = net(run(attack, net, batch)).argmax(dim=1) == labels
    assert (right_after <= right_before).all()


def test_radius_zero_changes_no_bit_and_draws_nothing(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    generator = make_generator(0)
    assert torch.equal(attack.at(0.0).run(net, *batch, generator=generator), batch[0])
    assert torch.equal(generator.get_state(), make_generator(0).get_state())


def test_projecting_the_answer_again_moves_nothing(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    found = run(attack, net, batch)
    again = attack.project(found, batch[0])
    torch.testing.assert_close(again, found, rtol=0, atol=1e-6 if attack.ball == "L2" else 0)


def test_it_works_where_the_caller_switched_gradients_off(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with torch.no_grad():
        found = run(attack, net, batch)
    assert torch.equal(found, run(attack, net, batch))


def test_normalised_inputs_are_refused(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(InputRangeError, match="put normalisation into the model"):
        run(attack, net, (batch[0] * 4 - 2, batch[1]))


def test_a_broken_net_breaks_no_attack(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    """Faults in float words leave NaN and infinity in a network; campaigns must go on."""

    def broken(x: Tensor) -> Tensor:
        logits: Tensor = net(x).clone()
        logits[:, 0] = torch.inf * x.flatten(1)[:, 0]
        logits[:, 1] = logits[:, 0] - logits[:, 0]
        return logits

    found = attack.run(broken, *batch, generator=make_generator(0))
    assert found.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_works_on_a_cuda_device(
    attack: InputAttack, net: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    inputs, labels = batch[0].cuda(), batch[1].cuda()
    found = attack.run(net.cuda(), inputs, labels, generator=make_generator(0))
    assert found.device == inputs.device
    assert torch.allclose(attack.project(found, inputs), found, rtol=0, atol=1e-6)
