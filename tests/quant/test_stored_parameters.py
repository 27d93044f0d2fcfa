"""Words in training are those of the deployed network, at the same addresses."""

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import QuantizationError
from bitproof.core.rng import make_generator
from bitproof.faults import Memory, RandomFlips
from bitproof.models import MODELS
from bitproof.quant import PRESETS, AffineQuantizer, Scheme, quantize
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


@pytest.mark.parametrize(
    ("kind", "parameters", "preset"),
    [
        pytest.param(*model, preset, marks=() if quick else pytest.mark.slow)
        for model in MODELS_UNDER_TEST
        for preset in PRESETS
        for quick in [model[1].get("norm") == "batch" or preset == "normal"]
    ],
)
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
    assert stored.left == {}
    for name, own in coded.items():
        far = (own.codes.int() - deployed[name][0].int()).abs()
        less_one = stored.places[name].less_one
        assert int(far.max()) == 0, name
        step = float(own.grid.scale)
        values = network.tensors[name].values() - int(less_one)
        assert float((own.values() - values).abs().max()) <= step * (0.51 if less_one else 1e-3)


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
    seen = stored.read_back(values, read, stored.factors())
    logits = torch.func.functional_call(model, seen, (images(),)).detach()
    wanted = quantize(model, images(64))(images())
    scale = float(wanted.std())
    assert float((logits - wanted).abs().mean()) < 0.15 * scale


def test_reading_back_what_is_stored_changes_nothing() -> None:
    model = build("resnet20")
    stored = StoredParameters.of(model, images(2), Scheme())
    values = stored.values()
    for parameter, value in stored.read_back(values, values, stored.factors()).items():
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
    read = {name: coded.values() for name, coded in stored.encode(values).items()}
    seen = stored.read_back(values, read, stored.factors())
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
    assert set(stored.left) == {"layer.bias"}


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


class Twin(nn.Module):
    """A functional layer whose name in the graph is that of a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.w, self.b = nn.Parameter(torch.rand(6, 6)), nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(nn.functional.linear(x.flatten(1), self.w, self.b))
        outer: Tensor = self.linear(inner)
        return outer


ODD = {
    "norm by itself": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
    ),
    "two norms": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ),
    "norm without parameters": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ),
    "a name twice": Twin,
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_followed_is_what_is_deployed(name: str) -> None:
    """Whatever cannot be followed is left float, at its address."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = stirred(ODD[name]())
    pictures = images(16, 1, 2)[..., :3] if name != "a name twice" else torch.rand(16, 1, 2, 3)
    stored = StoredParameters.of(model, pictures[:2], Scheme())
    deployed = quantize(model, pictures).codes()
    coded = stored.encode(stored.values())
    assert list(stored.memory(coded)) == list(deployed)
    assert [m.codes.shape for m in stored.memory(coded).values()] == [
        codes.shape for codes, _ in deployed.values()
    ]
    for words, own in coded.items():
        assert torch.equal(own.codes, deployed[words][0]), words
    assert (name == "norm by itself") == (stored.left == {})


def test_a_norm_by_itself_is_read_back_as_its_factor() -> None:
    model = stirred(ODD["norm by itself"]())
    stored = StoredParameters.of(model, torch.rand(2, 1, 2, 2), Scheme())
    factors = stored.factors()
    values = stored.values(factors)
    seen = stored.read_back(values, {n: v * 1.01 for n, v in values.items()}, factors)
    norm = model.get_submodule("2")
    assert torch.allclose(seen["2.weight"], norm.weight * 1.01)  # type: ignore[operator, arg-type]
    assert "2.weight" not in stored.clippable


def test_nothing_to_follow_is_refused() -> None:
    with pytest.raises(QuantizationError, match="wanted a parameter that training can put"):
        StoredParameters.of(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.rand(2, 4), Scheme())
