from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from bitproof.attacks.base import Classifier, InputAttack, check_inputs
from bitproof.core.errors import InputRangeError, InputShapeError, SpecError
from bitproof.core.rng import make_generator


class Fixed(InputAttack):
    """Answers with one number everywhere, whatever it is asked."""

    kind: Literal["fixed"] = "fixed"
    answer: float

    def search(
        self,
        model: Classifier,  # noqa: ARG002
        inputs: Tensor,
        labels: Tensor,  # noqa: ARG002
        *,
        generator: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        found = torch.full_like(inputs, self.answer)
        found[1:] = inputs[1:]
        return found


LABELS = torch.tensor([0, 1])


def images(low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.linspace(low, high, 24).view(2, 3, 2, 2)


def run(attack: InputAttack, inputs: Tensor) -> Tensor:
    return attack.run(nn.Flatten(), inputs, LABELS, generator=make_generator(0))


@pytest.mark.parametrize("answer", [1e9, -1e9, 0.5])
def test_no_search_can_leave_its_ball(answer: float) -> None:
    found = run(Fixed(epsilon=0.1, answer=answer), images())
    assert (found.double() - images().double()).abs().max() <= 0.1
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_not_finite_leaves_the_image_clean(answer: float) -> None:
    attack = Fixed.model_construct(epsilon=0.1, answer=answer)
    assert torch.equal(run(attack, images()), images())


def test_epsilon_zero_gives_a_copy_of_the_inputs() -> None:
    inputs = images()
    found = run(Fixed(epsilon=0, answer=0.5), inputs)
    assert torch.equal(found, inputs)
    assert found.data_ptr() != inputs.data_ptr()


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.5), (0.5, 1.5), (-2.1, 2.6)])
def test_inputs_outside_the_range_are_refused_with_what_was_seen(low: float, high: float) -> None:
    with pytest.raises(InputRangeError, match=rf"got {low} to {high}; put normalisation into"):
        run(Fixed(epsilon=0.1, answer=0), images(low, high))


def test_inputs_that_are_not_a_number_are_refused() -> None:
    inputs = images()
    inputs[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputRangeError, match="got nan"):
        run(Fixed(epsilon=0.1, answer=0), inputs)


@pytest.mark.parametrize("shape", [(3,), (2, 1), ()])
def test_labels_that_do_not_match_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputShapeError, match=r"wanted shapes \(n, ...\) and \(n\)"):
        check_inputs(images(), torch.zeros(shape, dtype=torch.int64))


def test_an_empty_batch_stays_empty() -> None:
    attack = Fixed(epsilon=0.1, answer=0.5)
    labels = torch.zeros(0, dtype=torch.int64)
    found = attack.run(nn.Flatten(), images()[:0], labels, generator=make_generator(0))
    assert found.shape == (0, 3, 2, 2)


def test_at_changes_the_radius_and_nothing_else() -> None:
    attack = Fixed(epsilon=0.1, answer=0.5)
    assert attack.at(0.2) == Fixed(epsilon=0.2, answer=0.5)
    assert attack.epsilon == 0.1


def test_at_refuses_a_negative_radius() -> None:
    with pytest.raises(SpecError, match="epsilon"):
        Fixed(epsilon=0.1, answer=0.5).at(-1.0)
