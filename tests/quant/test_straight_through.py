"""Gradients pass quantization, and training through it finds better codes."""

import pytest
import torch
from torch import Tensor, nn

from bitproof.core.errors import WeightsError
from bitproof.core.rng import make_generator
from bitproof.quant import AffineQuantizer, CodedTensor, Scheme, quantize, trace
from bitproof.quant.straight_through import (
    StraightThrough,
    call_with,
    faulty_weights,
    fold_factors,
    norm_after,
)

THREE_BITS = AffineQuantizer(bits=3)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        self.linear = nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        logits: Tensor = self.linear(torch.relu(self.norm2(self.conv2(x))).flatten(1))
        return logits


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    model = Small()
    for norm in (model.norm1, model.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
    return model


def clean(words: dict[str, CodedTensor]) -> dict[str, Tensor]:
    return {name: coded.codes for name, coded in words.items()}


def test_norms_that_will_be_folded_are_found(model: Small) -> None:
    norms = norm_after(model, torch.rand(2, 1, 6, 6))
    assert norms == {"conv1": "norm1", "conv2": "norm2"}
    assert model.training


def test_norm_over_tokens_is_not_taken_for_a_folded_one() -> None:
    model = nn.Sequential(nn.Flatten(2), nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert norm_after(model, torch.rand(2, 3, 2, 2)) == {}


def test_words_without_faults_are_those_that_will_be_stored(model: Small) -> None:
    images = torch.rand(8, 1, 6, 6, generator=make_generator(0))
    scheme = Scheme(weight=AffineQuantizer(bits=4, per_channel=True))
    stored_as: dict[str, CodedTensor] = {}

    def inject(words: dict[str, CodedTensor]) -> dict[str, Tensor]:
        stored_as.update(words)
        return clean(words)

    factors = fold_factors(model, norm_after(model, images))
    layers = ["conv1", "conv2", "linear"]
    seen = faulty_weights(
        model, layers, scheme, inject=inject, factors=factors, shrink={"conv2": 0.5}
    )
    stored = quantize(model, images, scheme, shrink={"conv2": 0.5})
    folded = trace(model, images).tensors
    assert sorted(seen) == [f"{layer}.weight" for layer in layers]
    for layer in layers:
        words = stored.tensors[f"{layer}.weight"]
        off = stored_as[f"{layer}.weight"].codes.int() - words.codes.int()
        assert int(off.abs().max()) <= 1  # folded in single here, in double precision there
        assert float((off != 0).float().mean()) < 0.01
        spread = factors[layer].view(-1, 1, 1, 1) if layer in factors else 1.0
        again = scheme.weight.encode(folded[f"{layer}.weight"], words.grid).values()
        near = float(words.grid.scale.max()) * 1.01 if off.any() else 1e-5
        assert torch.allclose(seen[f"{layer}.weight"] * spread, again, atol=near)
        assert not seen[f"{layer}.weight"].requires_grad


def test_faults_reach_the_weights_that_are_seen(model: Small) -> None:
    def inject(words: dict[str, CodedTensor]) -> dict[str, Tensor]:
        codes = words["linear.weight"].codes.clone()
        codes[1, 2] ^= 4
        return {"linear.weight": codes}

    seen = faulty_weights(model, ["linear"], Scheme(weight=THREE_BITS), inject=inject)
    whole = THREE_BITS.encode(model.linear.weight)
    off = (seen["linear.weight"] - whole.values()).abs()
    assert off[1, 2].item() == pytest.approx(4 * float(whole.grid.scale))
    assert int(off.count_nonzero()) == 1


def test_nobody_looks_at_the_numbers_of_the_device(model: Small) -> None:
    """A look would make a GPU wait, and the device "meta" has nothing to look at."""
    model.to("meta")
    factors = fold_factors(model, {"conv1": "norm1"})
    seen = faulty_weights(model, ["conv1", "linear"], Scheme(), inject=clean, factors=factors)
    logits = call_with(model, torch.rand(2, 1, 6, 6, device="meta"), seen, limit=0.1)
    assert logits.device.type == "meta"
    wrapped = StraightThrough(model, Scheme(weight=AffineQuantizer(per_channel=True)))
    assert wrapped(torch.rand(2, 1, 6, 6, device="meta")).device.type == "meta"


def test_wrapped_model_sees_what_each_quantizer_leaves(model: Small) -> None:
    images = torch.rand(4, 1, 6, 6)
    model.eval()
    for scheme in (Scheme(weight=THREE_BITS), Scheme(weight=THREE_BITS, bias=None)):
        wrapped, whole = StraightThrough(model, scheme), {**model.state_dict()}
        for name, value in model.named_parameters():
            quantizer = scheme.bias if name.endswith("bias") else scheme.weight
            whole[name] = value if quantizer is None else quantizer.encode(value).values()
        expected = torch.func.functional_call(model, whole, (images,))
        assert torch.equal(wrapped(images), expected)


def test_channel_that_its_norm_switches_off_stays_finite(model: Small) -> None:
    with torch.no_grad():
        model.norm1.weight[2] = 0.0
    factors = fold_factors(model, {"conv1": "norm1"})
    seen = faulty_weights(model, ["conv1"], Scheme(), inject=clean, factors=factors)
    assert bool(seen["conv1.weight"].isfinite().all())
    assert float(seen["conv1.weight"][2].abs().max()) == 0.0


def test_call_uses_the_values_and_leaves_the_model_alone(model: Small) -> None:
    images, zeros = torch.rand(4, 1, 6, 6), torch.zeros_like(model.linear.weight)
    model.eval()
    before = model.linear.weight.detach().clone()
    logits = call_with(model, images, {"linear.weight": zeros})
    assert torch.allclose(logits, model.linear.bias.expand(4, 3))
    assert torch.equal(model.linear.weight, before)
    (gradient,) = torch.autograd.grad(logits.sum(), model.linear.weight)
    assert float(gradient.abs().max()) > 0
    assert not zeros.requires_grad


def test_call_with_the_models_own_weights_is_the_plain_call(model: Small) -> None:
    images = torch.rand(4, 1, 6, 6)
    model.eval()
    assert torch.equal(call_with(model, images, {}), model(images))
    assert torch.equal(call_with(model, images, {}, limit=0.1), model(images))
    weights = [*model.parameters()]
    plain, passed = (
        torch.autograd.grad(run.square().sum(), weights)
        for run in (model(images), call_with(model, images, {}, limit=1e9))
    )
    assert all(torch.equal(one, other) for one, other in zip(plain, passed, strict=True))


def test_call_clamps_the_gradient_of_every_parameter(model: Small) -> None:
    images = torch.rand(4, 1, 6, 6)
    seen = {"conv1.weight": THREE_BITS.encode(model.conv1.weight.detach()).values()}
    loss = (1e4 * call_with(model, images, seen, limit=0.05)).square().sum()
    largest = [float(one.abs().max()) for one in torch.autograd.grad(loss, [*model.parameters()])]
    assert max(largest) == pytest.approx(0.05)
    assert largest[0] == pytest.approx(0.05)  # also where the value was replaced


def test_values_for_no_parameter_are_refused(model: Small) -> None:
    with pytest.raises(
        WeightsError, match=r"no parameter 'linear.wait'. Did you mean 'linear.weig"
    ):
        call_with(model, torch.rand(2, 1, 6, 6), {"linear.wait": torch.zeros(1)})


def clusters(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return points of eight overlapping clusters in [0, 1]**16, and which it is."""
    centres = 0.3 + 0.4 * torch.rand(8, 16, generator=make_generator(0, "centres"))
    generator = make_generator(seed, "points")
    labels = torch.randint(8, (n,), generator=generator)
    points = centres[labels] + 0.15 * torch.randn(n, 16, generator=generator)
    return points.clamp(0, 1), labels


def test_training_through_quantization_beats_quantization_after_training() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))
    (images, labels), (unseen, wanted) = clusters(512, 1), clusters(2048, 2)
    layers, scheme = ["0", "2"], Scheme(weight=THREE_BITS)

    def train(steps: int, rate: float, *, aware: bool) -> None:
        for _ in range(steps):
            seen = faulty_weights(model, layers, scheme, inject=clean) if aware else {}
            loss = nn.functional.cross_entropy(call_with(model, images, seen), labels)
            slopes = torch.autograd.grad(loss, [*model.parameters()])
            with torch.no_grad():
                for weight, slope in zip(model.parameters(), slopes, strict=True):
                    weight.sub_(rate * slope)

    def accuracy(scheme: Scheme) -> float:
        hits = quantize(model, images, scheme)(unseen).argmax(1) == wanted
        return float(hits.float().mean())

    train(400, 0.5, aware=False)
    before = accuracy(scheme)
    train(200, 0.05, aware=True)
    after = accuracy(scheme)
    assert before + 0.02 < after
