import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitproof.attacks.random_search import LinfNoise, margin, search_at_random
from bitproof.core.rng import make_generator


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.integers(2, 7))
def test_margin_is_the_lead_of_the_true_class(seed: int, classes: int) -> None:
    generator = make_generator(seed)
    logits = torch.randn(5, classes, generator=generator)
    labels = torch.randint(classes, (5,), generator=generator)
    for row, label, found in zip(
        logits.tolist(), labels.tolist(), margin(logits, labels).tolist(), strict=True
    ):
        lead = row.pop(label) - max(row)
        assert abs(found - lead) < 1e-6
        assert (found < 0) == (lead < 0)


def test_the_lowest_margin_is_kept_and_the_first_misclassification_ends_the_search() -> None:
    # Class 0 while the first pixel is the larger one; the second pixel is what is proposed.
    inputs = torch.tensor([[0.5, 0.0], [0.5, 0.0]])
    proposals = torch.tensor([[0.2, 0.2], [0.4, 0.3], [0.3, 0.6], [0.1, 0.9]])
    asked = []

    def model(x: Tensor) -> Tensor:
        asked.append(len(x))
        return x

    def propose(query: int, best: Tensor) -> Tensor:
        return torch.stack([best[:, 0], proposals[query]], dim=1)

    labels = torch.tensor([0, 0])
    found = search_at_random(model, inputs, labels, propose=propose, queries=4)
    assert torch.equal(found[:, 1], torch.tensor([0.4, 0.6]))
    assert asked == [2, 2, 2, 2, 1]


def test_images_that_are_wrong_anyway_stay_clean() -> None:
    inputs = torch.tensor([[0.0, 0.5]])

    def propose(query: int, best: Tensor) -> Tensor:
        return best + 0.1

    found = search_at_random(nn.Identity(), inputs, torch.tensor([0]), propose=propose, queries=5)
    assert torch.equal(found, inputs)


def test_noise_moves_every_pixel_by_epsilon_either_way() -> None:
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


def test_more_tries_of_noise_give_lower_margins() -> None:
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
