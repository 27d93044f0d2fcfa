"""What users' modules are wrapped in, hooked up with and made of."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from bitproof.core.errors import ModelError, TraceError
from bitproof.models.user_module import dtype_of, inside_wrappers, traceable, unwrapped
from bitproof.quant import quantize

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
"""What torch says of itself while `torch.compile` and TorchScript are imported."""
IMAGES = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)]
    return nn.Sequential(*layers)


def pruned(model: nn.Sequential) -> nn.Sequential:
    prune.l1_unstructured(model[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    prune.random_structured(model[0], "weight", amount=0.25, dim=0)  # type: ignore[no-untyped-call]
    prune.l1_unstructured(model[4], "bias", 0.4)  # type: ignore[no-untyped-call]
    return model


def old_norms(model: nn.Sequential) -> nn.Sequential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model[0])
    nn.utils.spectral_norm(model[4])
    return model


def new_norms(model: nn.Sequential) -> nn.Sequential:
    parametrizations.weight_norm(model[0])
    parametrizations.spectral_norm(model[4])
    return model


def compiled_inside(model: nn.Sequential) -> nn.Sequential:
    model[0] = torch.compile(model[0])  # type: ignore[assignment]
    return model


def compiled_in_place(model: nn.Sequential) -> nn.Sequential:
    model[0].compile()
    model.compile()
    return model


def parallel_inside(model: nn.Sequential) -> nn.Sequential:
    model[0] = nn.DataParallel(model[0])
    return model


@pytest.mark.parametrize("changed", [pruned, old_norms, new_norms])
def test_computed_weights_are_those_of_evaluation_mode(
    changed: Callable[[nn.Sequential], nn.Sequential],
) -> None:
    model = changed(network())
    model(IMAGES)  # leaves a weight behind that has a history, and moves spectral norms
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(layer) for layer in model]
    plain = traceable(model, IMAGES)
    assert type(next(plain.children())) is nn.Conv2d
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [type(layer) for layer in model] == kinds
    assert model.training
    quantized = quantize(model, IMAGES)
    model.eval()
    torch.testing.assert_close(plain(IMAGES), model(IMAGES))
    assert float((quantized(IMAGES) - model(IMAGES)).detach().abs().max()) < 0.05


def test_a_pruned_weight_is_quantized_to_its_zeros() -> None:
    model = pruned(network())
    words = quantize(model, IMAGES).tensors["0.weight"]
    zeros = model[0].get_buffer("weight_mask") == 0
    assert int(zeros.sum()) >= 54
    assert bool((words.values()[zeros] == 0).all())


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, torch.compile, parallel_inside, compiled_inside, compiled_in_place],
)
def test_a_wrapped_network_becomes_the_same_integers(
    wrap: Callable[[nn.Sequential], nn.Module],
) -> None:
    wrapped = wrap(network())
    kinds = [type(module) for module in wrapped.modules()]
    assert quantize(wrapped, IMAGES).digest() == quantize(network(), IMAGES).digest()
    assert [type(module) for module in wrapped.modules()] == kinds


def test_wrappers_around_the_whole_come_off_without_a_copy() -> None:
    model = network()
    assert unwrapped(nn.DataParallel(nn.DataParallel(model))) is model
    assert inside_wrappers(torch.compile(model)) is model
    assert unwrapped(model) is model
    assert traceable(model, IMAGES) is model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: torch.jit.script(network()), "model: wanted .* got a ScriptModule; hand in the"),
        (lambda: nn.Sequential(torch.jit.script(nn.ReLU())), "^0: wanted .* got a ScriptModule"),
        (lambda: nn.DataParallel(torch.jit.script(nn.ReLU())), "got a ScriptModule"),
    ],
)
def test_torchscript_is_refused_by_name(make: Callable[[], nn.Module], said: str) -> None:
    model = make()
    with pytest.raises(ModelError, match=said) as caught:
        quantize(model, IMAGES)
    assert "\n" not in str(caught.value)


def test_what_is_no_module_is_refused_by_name() -> None:
    program = torch.export.export(network().eval(), (IMAGES,))
    said = "got an ExportedProgram; hand in the module that it was exported from"
    with pytest.raises(ModelError, match=said):
        inside_wrappers(program)
    with pytest.raises(ModelError, match=r"wanted an nn\.Module as written in Python, got a dict"):
        inside_wrappers({})


def doubled(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
    return 2 * output


def test_forward_hooks_that_change_answers_are_refused_by_name() -> None:
    model = network()
    model[2].register_forward_hook(doubled)
    with pytest.raises(TraceError, match="'doubled' on 2; remove") as caught:
        quantize(model, IMAGES)
    assert "\n" not in str(caught.value)


def test_hooks_before_a_forward_that_change_answers_are_refused_by_name() -> None:
    model = network()
    model.register_forward_pre_hook(lambda _module, inputs: (1 - inputs[0],))
    with pytest.raises(TraceError, match="'<lambda>' on Sequential; remove"):
        quantize(model, IMAGES)


def test_a_forward_that_reads_what_its_hooks_keep_is_refused_by_name() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()
            self.kept: Tensor = torch.zeros(1)
            self.body[2].register_forward_hook(self.keep)

        def keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.kept = output

        def forward(self, x: Tensor) -> Tensor:
            answers: Tensor = self.body(x)
            return answers + self.kept.sum()

    with pytest.raises(TraceError, match=r"'keep' on body\.2; remove"):
        quantize(Reading(), IMAGES)


def test_hooks_that_only_watch_are_left_alone() -> None:
    model, seen = network(), []
    model[2].register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    assert quantize(model, IMAGES).digest() == quantize(network(), IMAGES).digest()
    calls = len(seen)
    model(IMAGES)
    assert len(seen) == calls + 1


def test_lazy_layers_that_never_ran_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(
        TraceError, match=r"^1: wanted a layer that knows its size, got a LazyLinear"
    ):
        quantize(model, IMAGES)


def test_float64_parameters_are_rounded_to_the_nearest_float32() -> None:
    model = network().double()
    with torch.no_grad():
        model.get_parameter("4.weight").mul_(1 + 2**-40)  # not a float32 any more
    plain = traceable(model, IMAGES)
    assert dtype_of(model) == torch.float64
    assert dtype_of(plain) == torch.float32
    weight = model.get_parameter("4.weight").detach()
    error = (plain.get_parameter("4.weight").detach().double() - weight).abs()
    assert 0 < float((error / weight.abs()).max()) <= 2**-24


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_quantized_as_they_are(dtype: torch.dtype) -> None:
    model = network().to(dtype)
    exact = network().to(dtype).float()
    assert quantize(model, IMAGES).digest() == quantize(exact, IMAGES).digest()
    assert {value.dtype for value in model.parameters()} == {dtype}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_of_other_float_types_are_calibrated_and_run_in_float32(dtype: torch.dtype) -> None:
    images = (IMAGES * 255).round().div(256).to(dtype)  # exact in each type
    quantized = quantize(network(), images)
    assert quantized.digest() == quantize(network(), images.float()).digest()
    assert torch.equal(quantized(images), quantized(images.float()))
    assert torch.equal(quantized.differentiable(images), quantized.differentiable(images.float()))
