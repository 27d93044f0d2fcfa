import subprocess
import sys

import pytest
import torch
from sklearn.datasets import load_digits

from bitproof.data import Dataset
from bitproof.data.digits import Digits


def test_every_digit_of_scikit_learn_is_there_once() -> None:
    splits = Digits(validation_fraction=0.0).load()
    pixels, labels = load_digits(return_X_y=True)
    wanted = [
        (int(y), [round(v * 255 / 16) for v in x]) for x, y in zip(pixels, labels, strict=True)
    ]

    def rows(data: Dataset) -> list[tuple[int, list[int]]]:
        return [
            (int(y), x.flatten().tolist()) for x, y in zip(data.images, data.labels, strict=True)
        ]

    assert sorted(rows(splits.train) + rows(splits.test)) == sorted(wanted)
    assert splits.train.images.shape[1:] == (1, 8, 8)


def test_the_test_set_has_thirty_per_cent_of_each_class_whatever_the_seed() -> None:
    first, other = Digits().load(), Digits(split_seed=1).load()
    assert first.test.digest() == other.test.digest()
    assert first.validation.digest() != other.validation.digest()
    whole = torch.cat([first.train.labels, first.validation.labels, first.test.labels])
    share = first.test.labels.bincount() / whole.bincount()
    assert bool(((share - 0.3).abs() < 0.01).all())
    assert len(first.test) == 539


def test_grey_values_span_the_whole_range() -> None:
    images = Digits().load().train.images
    assert (int(images.min()), int(images.max())) == (0, 255)


@pytest.mark.slow
def test_importing_the_room_imports_neither_scikit_learn_nor_pillow() -> None:
    code = "import sys, bitproof.data; print({'sklearn', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
