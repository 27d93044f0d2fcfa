from collections.abc import Callable
from typing import Any

import pytest

from bitproof.models import MODELS, LeNet5
from bitproof.models.published import Size
from bitproof.recipe import model_checks

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


def test_an_architecture_is_held_against_its_published_size(call: Call) -> None:
    outcome = call("models", "--check", "lenet5")
    assert outcome.code == 0
    assert "61,706" in outcome.out
    assert "int8 was not compared" in outcome.out


def test_what_has_no_published_size_is_told(call: Call) -> None:
    outcome = call("models", "--check", "digits_cnn")
    assert outcome.code == 0
    assert "No published size is known for: digits_cnn." in outcome.out


def test_a_wrong_size_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_checks, "SIZES", (Size(LeNet5(), 1, 28, 10, 61_705, "nobody"),))
    outcome = call("models", "--check", "lenet5")
    assert (outcome.code, outcome.problems) == (2, ["bitproof: lenet5: not as published"])


def test_an_unknown_architecture_names_the_nearest(call: Call) -> None:
    outcome = call("models", "--check", "lenet")
    assert outcome.code == 2
    assert "Did you mean 'lenet5'?" in outcome.problems[0]


def test_models_lists_every_architecture(call: Call) -> None:
    outcome = call("models")
    assert outcome.code == 0
    told = [line.split()[0] for line in outcome.out.splitlines() if line]
    assert told[:-1] == MODELS.kinds()
    assert "pretrained 91.73 %" in outcome.out
