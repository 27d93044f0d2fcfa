import torch
from torch import Tensor

from bitproof.attacks.noise import LinfNoise
from bitproof.core.rng import make_generator


def test_every_pixel_moves_by_epsilon_either_way() -> None:
    inputs = torch.full((50, 3, 4, 4), 0.5)

    def always_right(x: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).expand(len(x), 2)

    labels = torch.zeros(50, dtype=torch.int64)
    found = LinfNoise(epsilon=0.25, tries=3).run(
        always_right, inputs, labels, generator=make_generator(0)
    )
    up = found == 0.75
    assert (up | (found == 0.25)).all()
    assert abs(float(up.double().mean()) - 0.5) < 5 * (0.25 / up.numel()) ** 0.5


def test_more_tries_give_lower_margins() -> None:
    inputs = torch.rand(40, 20, generator=make_generator(1))

    def model(x: Tensor) -> Tensor:
        return torch.stack([10 + x.sum(dim=1), 0 * x.sum(dim=1)], dim=1)

    labels = torch.zeros(40, dtype=torch.int64)
    sums = [
        LinfNoise(epsilon=0.2, tries=tries)
        .run(model, inputs, labels, generator=make_generator(2))
        .sum(dim=1)
        for tries in (1, 30)
    ]
    assert (sums[1] <= sums[0]).all()
    assert sums[1].mean() < sums[0].mean() - 0.5
