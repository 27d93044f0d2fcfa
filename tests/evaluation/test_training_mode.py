"""A float model that was left in training mode, or has another float type."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from bitproof.attacks import ATTACKS, InputAttack, LinfPGD, LinfSquare
from bitproof.core.errors import ModelError, SpecError
from bitproof.core.rng import make_generator
from bitproof.evaluation import FloatModel
from bitproof.faults import RandomFlips
from bitproof.models.norms import batch_norms

IMAGES = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 5
Run = Callable[[nn.Module], Tensor]


def network() -> nn.Sequential:
    """Return a model in training mode whose second norm its user froze."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, 5),
    )
    for norm in batch_norms(model):
        assert norm.running_mean is not None
        nn.init.normal_(norm.running_mean)
    model[4].eval()
    return model


def state(model: nn.Module) -> Iterator[object]:
    for name, value in model.state_dict().items():
        yield name, value.tolist()
    for name, module in model.named_modules():
        yield name, module.training


def broken(model: nn.Module) -> Tensor:
    classify = FloatModel(model).broken(
        RandomFlips(ber=1e-3), sites=("weight", "bias"), generator=make_generator(1)
    )
    return classify(IMAGES)


def attacked(method: InputAttack) -> Run:
    def run(model: nn.Module) -> Tensor:
        return method.run(model, IMAGES, LABELS, generator=make_generator(2))

    return run


@pytest.mark.parametrize(
    "run",
    [
        lambda model: FloatModel(model).predict(IMAGES),
        lambda model: FloatModel(model).differentiable(IMAGES).detach(),
        broken,
        attacked(LinfPGD(epsilon=0.1, steps=3)),
        attacked(LinfSquare(epsilon=0.1, queries=20)),
    ],
    ids=["predict", "differentiable", "broken", "white box", "black box"],
)
def test_a_model_left_in_training_mode_gives_the_figures_of_evaluation_and_stays(run: Run) -> None:
    model = network()
    before = list(state(model))
    torch.testing.assert_close(run(model), run(network().eval()), equal_nan=True, rtol=0, atol=0)
    assert list(state(model)) == before


def test_modes_come_back_after_a_failure() -> None:
    model = network()
    before = list(state(model))
    with pytest.raises(RuntimeError):
        FloatModel(model).predict(torch.rand(2, 3, 6, 6))
    assert list(state(model)) == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_models_of_other_float_types_get_inputs_of_theirs_and_give_float32(
    dtype: torch.dtype,
) -> None:
    model = network().to(dtype)
    logits = FloatModel(model).predict(IMAGES)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, model.eval()(IMAGES.to(dtype)).detach().float())


def test_gradients_pass_a_model_of_another_float_type() -> None:
    wanted, inputs = IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_()
    FloatModel(network()).differentiable(wanted).square().sum().backward()  # type: ignore[no-untyped-call]
    FloatModel(network().double()).differentiable(inputs).square().sum().backward()  # type: ignore[no-untyped-call]
    assert wanted.grad is not None
    torch.testing.assert_close(inputs.grad, wanted.grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_words_of_another_width_do_not_break_as_if_they_had_32_bits(dtype: torch.dtype) -> None:
    with pytest.raises(SpecError, match=r"^0\.weight: wanted float32, .* got torch\.float"):
        broken(network().to(dtype))


def test_a_wrapped_model_is_measured_as_what_is_inside() -> None:
    model = network()
    wrapped = FloatModel(nn.DataParallel(model))
    assert wrapped.digest() == FloatModel(model).digest()
    assert torch.equal(wrapped.predict(IMAGES), FloatModel(model).predict(IMAGES))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_script_module_is_refused() -> None:
    with pytest.raises(ModelError, match="got a ScriptModule"):
        FloatModel(torch.jit.script(network()))


def test_every_kind_of_attack_goes_through_the_one_guard() -> None:
    """`run` is final: no kind has a way around the evaluation mode that it sets."""
    assert all(kind.run is InputAttack.run for kind in ATTACKS)
