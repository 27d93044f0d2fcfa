import torch
from torch import Tensor

from bitproof.attacks.fgsm import FGSM
from bitproof.core.rng import make_generator

WEIGHTS = torch.tensor([1.0, -2.0, 0.5, -0.1])


def model(x: Tensor) -> Tensor:
    return torch.stack([-(x @ WEIGHTS), x @ WEIGHTS], dim=1)


def test_one_step_is_the_optimum_of_a_linear_model() -> None:
    inputs = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    found = FGSM(epsilon=0.25).run(model, inputs, torch.tensor([0]), generator=make_generator(0))
    assert torch.equal(found, torch.tensor([[0.75, 0.25, 0.75, 0.25]]))


def test_images_that_are_wrong_anyway_stay_clean() -> None:
    inputs = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    found = FGSM(epsilon=0.25).run(model, inputs, torch.tensor([1]), generator=make_generator(0))
    assert torch.equal(found, inputs)


def test_nothing_is_drawn() -> None:
    generator = make_generator(0)
    FGSM(epsilon=0.25).run(model, torch.rand(3, 4), torch.tensor([0, 1, 0]), generator=generator)
    assert torch.equal(generator.get_state(), make_generator(0).get_state())
