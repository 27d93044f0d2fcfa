import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitproof.attacks.ascent import LinfPGD
from bitproof.attacks.random_search import LinfNoise, LinfSquare, search_at_random
from bitproof.core.rng import make_generator
from bitproof.metrics.classes import class_margin as margin

GREY = torch.full((30, 3, 8, 8), 0.5)
ZEROS = torch.zeros(30, dtype=torch.int64)


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


def never_wrong(x: Tensor) -> Tensor:
    """Class 0 for certain, by a lead that falls with brightness."""
    return torch.stack([1000 - x.flatten(1).sum(dim=1), 0 * x.flatten(1).sum(dim=1)], dim=1)


def run(attack: LinfSquare, inputs: Tensor = GREY) -> Tensor:
    return attack.run(never_wrong, inputs, ZEROS, generator=make_generator(0))


def test_the_first_query_of_square_is_vertical_stripes() -> None:
    found = run(LinfSquare(epsilon=0.25, queries=1))
    assert ((found == 0.25) | (found == 0.75)).all()
    assert (found == found[:, :, :1, :]).all(), "a column of a channel has one sign"
    up = found[:, :, 0] == 0.75
    assert abs(float(up.double().mean()) - 0.5) < 5 * (0.25 / up.numel()) ** 0.5


def test_the_second_query_sets_one_square_per_image_to_one_sign_per_channel() -> None:
    tried = []

    def model(x: Tensor) -> Tensor:
        tried.append(x)
        return never_wrong(x)

    attack = LinfSquare(epsilon=0.25, queries=200, initial_area=0.28)
    attack.run(model, GREY, ZEROS, generator=make_generator(0))
    _, stripes, squares = tried[:3]
    sides, corners = [], set()
    for before, after in zip(stripes, squares, strict=True):
        rows, columns = (before != after).any(dim=0).nonzero(as_tuple=True)
        top, left, bottom, right = (
            int(edge) for edge in (rows.min(), columns.min(), rows.max(), columns.max())
        )
        window = after[:, top : bottom + 1, left : right + 1].flatten(1)
        assert (window == window[:, :1]).all()
        sides += [bottom - top + 1, right - left + 1]
        corners.add((top, left))
    # Query 1 of 200 is query 50 of 10 000, after one halving: 14 % of 64 pixels is 3 by 3.
    assert max(sides) == 3
    assert len(corners) > 10, "each image has a square of its own"


def test_squares_shrink_as_published() -> None:
    attack = LinfSquare(epsilon=0.1, queries=10_000, initial_area=0.8)
    shares = [attack.area(query) / 0.8 for query in (0, 10, 11, 51, 201, 501, 1001, 2001, 4001)]
    assert shares == [1, 1] + [2.0**-n for n in range(1, 8)]
    assert [attack.area(query) / 0.8 for query in (6001, 8001, 9999)] == [2**-8, 2**-9, 2**-9]


def test_the_schedule_stretches_with_the_number_of_queries() -> None:
    long = LinfSquare(epsilon=0.1, queries=10_000)
    short = LinfSquare(epsilon=0.1, queries=1000)
    assert all(short.area(query) == long.area(10 * query) for query in range(1000))


def test_more_queries_of_square_give_lower_margins() -> None:
    margins = [
        margin(never_wrong(run(LinfSquare(epsilon=0.1, queries=q))), ZEROS) for q in (1, 40, 400)
    ]
    assert (margins[1] <= margins[0]).all()
    # The best is 192 pixels brighter by 0.1; stripes alone reach about none of it.
    assert (1000 - margins[2] > GREY[0].sum() + 0.6 * 19.2).all()


def test_square_beats_noise_with_as_many_queries(trained: "Trained") -> None:
    epsilon = 0.1
    square, noise = (
        trained.accuracy(
            attack.run(trained.net, trained.inputs, trained.labels, generator=make_generator(0))
        )
        for attack in (
            LinfSquare(epsilon=epsilon, queries=200),
            LinfNoise(epsilon=epsilon, tries=200),
        )
    )
    assert square < noise - 0.2


def test_square_sees_through_masked_gradients(trained: "Trained") -> None:
    def masked(x: Tensor) -> Tensor:
        return trained.net(x.detach()) + 0 * x.sum()  # type: ignore[no-any-return]

    fooled_by_gradients, fooled_by_scores = (
        trained.accuracy(
            attack.run(masked, trained.inputs, trained.labels, generator=make_generator(0))
        )
        for attack in (LinfPGD(epsilon=0.1), LinfSquare(epsilon=0.1))
    )
    assert fooled_by_gradients > 0.95
    assert fooled_by_scores < 0.8


def test_an_image_of_one_pixel_is_a_square_too() -> None:
    inputs = torch.full((30, 1, 1, 1), 0.5)
    found = run(LinfSquare(epsilon=0.25, queries=20), inputs)
    assert (found == 0.75).all()
