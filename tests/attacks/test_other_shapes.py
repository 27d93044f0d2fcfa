"""The Square attack beyond images, and on images exactly as it was."""

import pytest
import torch

from bitproof.attacks import LinfSquare
from bitproof.attacks.random_search import _draw_squares
from bitproof.core.rng import make_generator


def test_squares_of_images_are_drawn_as_rows_then_columns() -> None:
    h, w, side = 7, 5, 3
    generator = make_generator(3)
    top = torch.randint(h - side + 1, (6, 1, 1, 1), generator=generator)
    left = torch.randint(w - side + 1, (6, 1, 1, 1), generator=generator)
    rows, columns = torch.arange(h)[:, None], torch.arange(w)
    wanted = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    assert torch.equal(_draw_squares(6, [h, w], side=side, generator=make_generator(3)), wanted)


@pytest.mark.parametrize("shape", [(9,), (2, 16), (3, 6, 6), (1, 4, 5, 6)], ids=str)
def test_a_window_is_whole_and_as_wide_on_every_axis(shape: tuple[int, ...]) -> None:
    sides = shape[1:] or shape
    window = _draw_squares(20, sides, side=3, generator=make_generator(0))
    assert window.shape == (20, 1, *sides)
    assert window.flatten(1).sum(1).tolist() == [3 ** len(sides)] * 20


@pytest.mark.parametrize("shape", [(9,), (2, 16), (1, 4, 5, 6)], ids=str)
def test_square_finds_what_one_window_does(shape: tuple[int, ...]) -> None:
    inputs = torch.full((8, *shape), 0.5)

    def model(points: torch.Tensor) -> torch.Tensor:
        # Answers 0 until the values have risen together: stripes alone do not.
        rise = (points - 0.5).flatten(1).mean(1)
        return torch.stack([0.02 - rise, rise], 1)

    labels = torch.zeros(8, dtype=torch.int64)
    method = LinfSquare(epsilon=0.1, queries=300)
    found = method.run(model, inputs, labels, generator=make_generator(1))
    assert (model(found).argmax(1) == 1).all()
    assert float((found - inputs).abs().max()) <= 0.1 + 1e-6
