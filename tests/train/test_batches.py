from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bitproof.core.errors import SpecError
from bitproof.data import Dataset
from bitproof.data.augment import Cutout, Flip, PadCrop
from bitproof.train import Batches, Optimization, ProcessGroup

STEPS = Optimization(epochs=2, batch_size=8, label_smoothing=0.2)
CHANGES = (PadCrop(padding=1), Flip(), Cutout(size=2))


def test_a_batch_depends_on_its_number_alone(patterns: Dataset) -> None:
    forwards = Batches(patterns, STEPS, seed=1, augmentation=CHANGES)
    backwards = Batches(patterns, STEPS, seed=1, augmentation=CHANGES)
    seen = {step: forwards[step] for step in range(len(forwards))}
    for step in reversed(range(len(backwards))):
        again = backwards[step]
        assert torch.equal(again.inputs, seen[step].inputs)
        assert torch.equal(again.labels, seen[step].labels)
        draws = [torch.rand(3, generator=batch.generator) for batch in (again, seen[step])]
        assert torch.equal(*draws)


def test_parts_make_up_the_whole(patterns: Dataset) -> None:
    whole = Batches(patterns, STEPS, seed=1, augmentation=CHANGES)
    parts = [
        Batches(patterns, STEPS, seed=1, augmentation=CHANGES, group=ProcessGroup(part, 3))
        for part in range(3)
    ]
    for step in range(len(whole)):
        pieces = [part[step] for part in parts]
        assert sum(piece.share for piece in pieces) == pytest.approx(1.0)
        for number, piece in enumerate(pieces):
            assert torch.equal(piece.inputs, whole[step].inputs[number::3])
            assert torch.equal(piece.labels, whole[step].labels[number::3])
            assert piece.share == len(piece.labels) / len(whole[step].labels)


def test_a_batch_too_small_to_share_is_refused(patterns: Dataset) -> None:
    with pytest.raises(SpecError, match="the last of 44 images by 8 has 4"):
        Batches(patterns, STEPS, seed=0, group=ProcessGroup(0, 5))


def test_the_error_is_the_smoothed_cross_entropy(
    patterns: Dataset, make_net: Callable[[], nn.Module]
) -> None:
    batch = Batches(patterns, STEPS, seed=0)[0]
    logits = make_net()(batch.inputs)
    soft = torch.full((8, 3), 0.2 / 3).scatter_(1, batch.labels[:, None], 0.8 + 0.2 / 3)
    torch.testing.assert_close(batch.error(logits), cross_entropy(logits, soft))
