"""Images and labels that do not fit a network are refused before anything runs."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import bitproof as bp
from bitproof.core.errors import DataError, InputRangeError, InputShapeError, ModelError, SpecError
from bitproof.data import Dataset
from bitproof.evaluation import FloatModel, IntegerModel, check_data

SHORT = bp.Optimization(epochs=1)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))


def images(last: int, *, size: int = 6, n: int = 12) -> Dataset:
    pixels = torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % 10
    if n:
        labels[n // 2] = last
    return Dataset.from_arrays(pixels, labels, n_classes=50)


QUANTIZED = bp.quantize(network(), images(9).inputs())
EVALUATION = bp.Evaluation(threats=(bp.Clean(),))
VERBS: dict[str, Callable[[Dataset], object]] = {
    "evaluate": lambda data: bp.evaluate({"mine": QUANTIZED}, data, EVALUATION),
    "evaluate float": lambda data: bp.evaluate({"mine": network()}, data, EVALUATION),
    "attack": lambda data: bp.attack(QUANTIZED, bp.FGSM(epsilon=0.1), data),
    "attack float": lambda data: bp.attack(network(), bp.FGSM(epsilon=0.1), data),
    "inject": lambda data: bp.inject(QUANTIZED, data, bp.Injection(trials=2, images=2)),
    "analyze": lambda data: bp.analyze({"mine": QUANTIZED}, data),
    "train": lambda data: bp.train_model(network(), data, SHORT),
    "harden": lambda data: bp.harden_model(network(), [bp.Desensitize(optimization=SHORT)], data),
}


@pytest.mark.parametrize("verb", VERBS)
def test_labels_beyond_the_outputs_are_refused(verb: str) -> None:
    said = r"want(ed|s) labels .*from 0 to 9"
    with pytest.raises(DataError, match=said) as caught:
        VERBS[verb](images(42))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", VERBS)
def test_images_of_another_size_are_refused(verb: str) -> None:
    with pytest.raises(InputShapeError, match=r"\(1, 1, 8, 8\)") as caught:
        VERBS[verb](images(9, size=8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_set_is_refused(verb: str) -> None:
    with pytest.raises(DataError, match="user: wanted at least one image, got none"):
        VERBS[verb](images(9, n=0))


def test_images_and_labels_that_fit_pass() -> None:
    check_data("mine", IntegerModel(QUANTIZED), images(9))
    check_data("mine", FloatModel(network()), images(3))


def test_outputs_that_are_no_scores_of_classes_are_none_of_its_business() -> None:
    one = nn.Sequential(nn.Flatten(), nn.Linear(36, 1))
    check_data("one output", FloatModel(one), images(42))


def test_a_model_in_short_floats_is_not_trained() -> None:
    with pytest.raises(SpecError, match=r"wanted float32 parameters to train, got torch\.float16"):
        bp.harden_model(network().half(), [bp.Desensitize(optimization=SHORT)], images(9))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_every_verb_refuses_torchscript() -> None:
    scripted, data = torch.jit.script(network()), images(9)
    for use in (
        lambda: bp.quantize(scripted, data.inputs()),
        lambda: bp.evaluate({"mine": scripted}, data, EVALUATION),
        lambda: bp.attack(scripted, bp.FGSM(epsilon=0.1), data),
        lambda: bp.train_model(scripted, data, SHORT),
        lambda: bp.harden_model(scripted, [], data),
    ):
        with pytest.raises(ModelError, match="got a ScriptModule"):
            use()


def test_a_wrapped_model_is_hardened_as_what_is_inside() -> None:
    stages, data = [bp.Desensitize(optimization=SHORT, steps=1)], images(9)
    plain = bp.harden_model(network(), stages, data).quantize(data)
    wrapped = bp.harden_model(nn.DataParallel(network()), stages, data).quantize(data)
    assert wrapped.digest() == plain.digest()


def test_a_wrapped_model_is_trained_in_place() -> None:
    plain, inside, data = network(), network(), images(9)
    bp.train_model(plain, data, SHORT)
    wrapped = nn.DataParallel(inside)
    assert bp.train_model(wrapped, data, SHORT) is wrapped
    assert torch.equal(inside.get_parameter("3.weight"), plain.get_parameter("3.weight"))
    assert not torch.equal(inside.get_parameter("3.weight"), network().get_parameter("3.weight"))


def test_an_empty_calibration_set_is_refused() -> None:
    with pytest.raises(InputRangeError, match="wanted at least one"):
        bp.quantize(network(), images(9, n=0).inputs())
    with pytest.raises(InputRangeError, match="wanted at least one"):
        bp.Candidate(network()).quantize(images(9, n=0))
