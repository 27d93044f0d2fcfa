import math
from pathlib import Path

import pytest
import torch
from torch import nn

from bitproof.metrics import Tally
from bitproof.models import MODELS, LeNet5
from bitproof.models.published import AKAMASTER, SIZES, Size
from bitproof.recipe import model_checks
from bitproof.recipe.model_checks import PretrainedCheck, check_pretrained, check_sizes

WITHOUT = {"digits_cnn", "factory", "in_memory", "onnx", "timm"}
"""Architectures that are ours, or somebody else's altogether."""


def test_every_architecture_of_others_has_a_published_size() -> None:
    assert {size.spec.kind for size in SIZES} == set(MODELS.kinds()) - WITHOUT


def test_digits_that_a_source_leaves_out_do_not_count() -> None:
    rounded = Size(LeNet5(), 1, 28, 10, 61_000, AKAMASTER, digits=2)
    assert rounded.agrees(61_706)
    assert not rounded.agrees(62_000)
    assert not Size(LeNet5(), 1, 28, 10, 61_705, AKAMASTER).agrees(61_706)


def test_another_size_and_a_broken_pass_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    (right,) = check_sizes(["lenet5"])
    assert right.passed
    assert right.parameters == 61_706
    monkeypatch.setattr(model_checks, "SIZES", (Size(LeNet5(), 1, 28, 10, 61_707, "nobody"),))
    (other,) = check_sizes(["lenet5"])
    assert not other.passed

    def broken(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 10), math.nan)

    monkeypatch.setattr("bitproof.models.lenet5.LeNet5Module.forward", broken)
    monkeypatch.setattr(model_checks, "SIZES", SIZES)
    (broke,) = check_sizes(["lenet5"])
    assert not broke.passed


def test_integers_may_cost_half_a_point() -> None:
    def check(right: int) -> PretrainedCheck:
        return PretrainedCheck("resnet20", Path(), Tally(9000, 10_000), Tally(right, 10_000))

    assert check(8950).passed
    assert not check(8949).passed


def test_without_weights_nothing_is_compared(tmp_path: Path) -> None:
    assert check_pretrained(MODELS.kinds(), tmp_path) == []


@pytest.mark.slow
def test_int8_is_as_good_as_float_on_resnet20(data_dir: Path) -> None:
    (check,) = check_pretrained(["resnet20"], data_dir)
    assert check.floats.acc == pytest.approx(0.9173, abs=5e-5)
    assert check.passed
