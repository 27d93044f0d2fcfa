"""Words in training are those of the deployed network, at the same addresses."""

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.rng import make_generator
from bitproof.faults import Memory, RandomFlips
from bitproof.models import MODELS
from bitproof.quant import PRESETS, AffineQuantizer, Scheme, quantize
from bitproof.quant.quantizer import RQUANT
from bitproof.quant.stored_parameters import StoredParameters


def images(n: int = 16, channels: int = 3, side: int = 32) -> Tensor:
    return torch.rand(n, channels, side, side, generator=make_generator(0, "images"))


def stirred(model: nn.Module) -> nn.Module:
    """Give norms statistics and scales that are not those of the start."""
    generator = make_generator(1, "norms")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
        for name, parameter in module.named_parameters(recurse=False):
            if name in {"excess", "bias"}:
                nn.init.normal_(parameter, std=0.05, generator=generator)
    return model.eval()


def build(kind: str, **parameters: object) -> nn.Module:
    spec = MODELS.build({"kind": kind, **parameters})
    model = spec.build(
        in_channels=3, image_size=32, n_classes=10, generator=make_generator(2, "weights")
    )
    return stirred(model)


MODELS_UNDER_TEST = [
    ("resnet20", {}),
    ("simplenet", {"width": 8, "norm": "group"}),
    ("simplenet", {"width": 8, "norm": "batch"}),
]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("kind", "parameters"), MODELS_UNDER_TEST)
def test_words_are_those_of_the_deployed_network(
    kind: str, parameters: dict[str, object], preset: str
) -> None:
    model, scheme = build(kind, **parameters), Scheme.from_table({"preset": preset, "bits": 6})
    assert isinstance(scheme, Scheme)
    stored = StoredParameters.of(model, images(2), scheme)
    network = quantize(model, images(), scheme)
    deployed = network.codes()
    coded = stored.encode(stored.values())
    assert list(coded) == list(deployed)  # the same order: the same addresses
    assert stored.left_float == ()
    for name, own in coded.items():
        far = (own.codes.int() - deployed[name][0].int()).abs()
        exact = "excess" not in stored.places[name].parameter
        assert int(far.max()) <= (0 if exact else 1), name
        step = float(own.grid.scale)
        values = network.tensors[name].values() - (0 if exact else 1)
        assert float((own.values() - values).abs().max()) <= step * (1e-3 if exact else 1.01)


def test_faults_lie_in_the_same_cells() -> None:
    model = build("resnet20")
    stored = StoredParameters.of(model, images(2), Scheme())
    coded = stored.encode(stored.values())
    held = {name: (own.codes, own.grid.bits) for name, own in coded.items()}
    flips = RandomFlips(ber=0.01)
    trained, deployed = (
        flips.corrupt_all(codes, generator=make_generator(0, "chip", 3))
        for codes in (held, quantize(model, images()).codes())
    )
    assert all(torch.equal(trained[name], deployed[name]) for name in deployed)
    assert len(Memory.of(held).codes) == sum(p.numel() for p in deployed.values())


@pytest.mark.parametrize(("kind", "parameters"), MODELS_UNDER_TEST)
def test_what_is_read_back_gives_the_deployed_function(
    kind: str, parameters: dict[str, object]
) -> None:
    """With words of 8 bits and float activations; the integer network rounds activations, too."""
    model = build(kind, **parameters)
    stored = StoredParameters.of(model, images(2), Scheme())
    values = stored.values()
    read = {name: own.values() for name, own in stored.encode(values).items()}
    seen = stored.read_back(values, read)
    logits = torch.func.functional_call(model, seen, (images(),)).detach()
    wanted = quantize(model, images(64))(images())
    scale = float(wanted.std())
    assert float((logits - wanted).abs().mean()) < 0.15 * scale


def test_reading_back_what_is_stored_changes_nothing() -> None:
    model = build("resnet20")
    stored = StoredParameters.of(model, images(2), Scheme())
    values = stored.values()
    for parameter, value in stored.read_back(values, values).items():
        held = model.get_parameter(parameter)
        assert torch.allclose(value, held, rtol=1e-5, atol=1e-6), parameter


def test_clipping_bounds_what_is_stored_but_folded_biases() -> None:
    model = build("resnet20")
    stored = StoredParameters.of(model, images(2), Scheme())
    before = stored.values()
    stored.clip_(dict.fromkeys(stored.clippable, 0.05))
    after = stored.values()
    assert "conv1.weight" in stored.clippable
    assert "conv1.bias" not in stored.clippable
    for name in stored.clippable:
        assert float(after[name].abs().max()) <= 0.05 * (1 + 1e-5)
        inside = before[name].abs() < 0.05
        assert torch.equal(before[name][inside], after[name][inside])


def test_channels_that_a_norm_switches_off_stay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval()
    nn.init.zeros_(model[1].weight)  # type: ignore[arg-type]
    stored = StoredParameters.of(model, images(2), Scheme())
    before = {name: value.clone() for name, value in model.named_parameters()}
    stored.clip_({"0.weight": 1e-3})
    values = stored.values()
    seen = stored.read_back(values, {n: c.values() for n, c in stored.encode(values).items()})
    assert torch.equal(model.get_parameter("0.weight"), before["0.weight"])
    assert all(bool(value.isfinite().all()) for value in seen.values())


def test_biases_at_accumulator_width_and_shared_layers_are_left_float() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            twice: Tensor = self.layer(torch.relu(self.layer(x)))
            return twice

    scheme = Scheme(bias=None)
    stored = StoredParameters.of(Twice(), torch.rand(2, 4), scheme)
    assert list(stored.places) == ["layer.weight"]
    assert set(stored.left_float) == {"layer.bias", "layer_1.weight", "layer_1.bias"}


def test_a_scale_near_one_survives_a_range_around_zero() -> None:
    """Stored as 1 + a, a symmetric range would spend its codes on what is never there."""
    model = build("simplenet", width=8, norm="group")
    normal = Scheme(weight=PRESETS["normal"], bias=PRESETS["normal"])
    bounded = Scheme(weight=AffineQuantizer(w_max=0.1))
    for scheme in (normal, bounded):
        network = quantize(model, images(), scheme)
        name = "features.1.weight"
        scale = network.tensors[name]
        wanted = 1 + model.get_parameter("features.1.excess")
        if scheme is bounded:
            wanted = 1 + model.get_parameter("features.1.excess").clamp(-0.1, 0.1)
        assert float(scale.grid.scale) < 0.01
        off = (scale.values() - wanted.detach()).abs().max()
        assert float(off) < 1.5 * float(scale.grid.scale)
    assert RQUANT.follows_shifts
    assert not PRESETS["normal"].follows_shifts
