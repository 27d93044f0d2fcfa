import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.metrics import Tally, tally


@settings(max_examples=30, deadline=None)
@given(
    scores=st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1),
    data=st.data(),
)
def test_tally_counts_like_plain_python(scores: list[list[int]], data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores)))
    right = sum(row.index(max(row)) == label for row, label in zip(scores, labels, strict=True))
    counted = tally(torch.tensor(scores, dtype=torch.float32), torch.tensor(labels))
    assert counted == Tally(right, len(scores))


def test_parts_add_up_to_the_whole() -> None:
    logits, labels = torch.randn(50, 4), torch.arange(50) % 4
    parts = tally(logits[:17], labels[:17]) + tally(logits[17:], labels[17:])
    assert parts == tally(logits, labels)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_an_answer_that_is_not_finite_is_never_right(broken: float) -> None:
    logits = torch.tensor([[1.0, 0.0], [broken, 0.0], [1.0, broken]])
    assert tally(logits, torch.tensor([0, 0, 0])) == Tally(1, 3)


def test_nothing_counted_is_no_accuracy() -> None:
    assert Tally(0, 0).acc == 0.0
    assert Tally(3, 4).acc == 0.75


def test_right_answers_lie_one_after_the_other_where_both_keep_them() -> None:
    one, other = Tally(1, 2, right=bytes([0, 1])), Tally(1, 1, right=bytes([1]))
    assert (one + other).right == bytes([0, 1, 1])
    assert (Tally(0, 0) + one + Tally(0, 0)).right == one.right
    assert (one + Tally(1, 1)).right is None
