"""RandBET and its relatives: one step against a slow, obvious one, and their rules."""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bitproof.core.errors import SpecError
from bitproof.core.rng import draw_seed, make_generator
from bitproof.data import Dataset
from bitproof.faults import RandomFlips, corrupt
from bitproof.harden import AdvBET, Candidate, QuantizationAware, RandBET, TrainingContext
from bitproof.harden.bit_error_training import BitErrorTraining
from bitproof.harden.quantization_aware import QuantizedTraining
from bitproof.quant import PRESETS, CodedTensor, Scheme
from bitproof.quant.stored_parameters import StoredParameters
from bitproof.train import Optimization
from bitproof.train.batches import Batch, Batches
from bitproof.train.process_group import SINGLE_PROCESS

STEP = Optimization(
    epochs=1, batch_size=8, learning_rate=0.1, schedule="constant", momentum=0.0, weight_decay=0.0
)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def data(n: int = 8) -> Dataset:
    images = torch.rand(n, 1, 2, 3, generator=make_generator(0, "images"))
    return Dataset("points", images, torch.arange(n) % 3, 3)


def trained(stage: Any, model: nn.Module, n: int = 8) -> nn.Module:
    scheme = Scheme(calibration_images=8)
    done: Candidate = stage.apply(Candidate(model, scheme), TrainingContext(train=data(n)))
    return done.model


def reference_gradients(model: nn.Module, batch: Batch, rate: float | None) -> dict[str, Tensor]:
    """Return the mean of clean and clamped faulty gradients, tensor by tensor."""
    quantizer = PRESETS["rquant"]
    weights = {name: value.detach() for name, value in model.named_parameters()}
    coded = {name: quantizer.encode(value) for name, value in weights.items()}

    def gradients(codes: dict[str, Tensor]) -> dict[str, Tensor]:
        read = {
            name: CodedTensor(codes[name], own.grid).values().requires_grad_()
            for name, own in coded.items()
        }
        loss = cross_entropy(functional_call(model, read, (batch.inputs,)), batch.labels)
        return dict(zip(read, torch.autograd.grad(loss, list(read.values())), strict=True))

    clean = gradients({name: own.codes for name, own in coded.items()})
    if rate is None:
        return clean
    held = {name: (own.codes, 8) for name, own in coded.items()}
    faulty = gradients(RandomFlips(ber=rate).corrupt_all(held, generator=batch.generator))
    return {name: (clean[name] + faulty[name].clamp(-0.05, 0.05)) / 2 for name in clean}


def first_batch(context: TrainingContext, kind: str) -> Batch:
    seed = draw_seed(context.generator(kind))
    return Batches(context.train, STEP, seed=seed)[0]


@pytest.mark.parametrize(
    ("stage", "rate"),
    [
        (QuantizationAware(optimization=STEP), None),
        (RandBET(rates=(0.2,), activate_below=None, optimization=STEP), 0.2),
        (RandBET(rates=(0.2,), activate_below=0.01, optimization=STEP), None),
    ],
    ids=["plain", "active", "not yet active"],
)
def test_a_step_moves_weights_as_the_formula_says(stage: Any, rate: float | None) -> None:
    model, context = network(), TrainingContext(train=data())
    batch = first_batch(context, stage.kind)
    wanted = reference_gradients(model, batch, rate)
    share = 1.0 if rate is None else 2.0
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    after = dict(trained(stage, model).named_parameters())
    for name, gradient in wanted.items():
        moved = (before[name] - after[name].detach()) / 0.1
        assert torch.allclose(moved, gradient, atol=1e-5), (name, share)
        assert torch.equal(before[name], model.get_parameter(name))


def test_errors_start_and_stop_by_the_losses_of_the_step_before() -> None:
    stage = RandBET(activate_below=1.75)
    never = math.inf
    assert not stage.is_active(clean=never, faulty=never)
    assert stage.is_active(clean=2.0, faulty=0.0)  # 2.0 < 1.15 x 1.75, and 1.0 <= 1.75
    assert not stage.is_active(clean=2.02, faulty=0.0)
    assert stage.is_active(clean=1.0, faulty=2.5)
    assert not stage.is_active(clean=1.0, faulty=2.51)
    assert RandBET(activate_below=None).is_active(clean=never, faulty=never)


def test_rates_rise_in_twenty_stages() -> None:
    stage = RandBET(rates=(0.01, 0.02), ramp=0.5)
    assert stage.levels_at(0.0) == (0.0, 0.0)
    assert stage.levels_at(0.0249) == (0.0, 0.0)
    assert stage.levels_at(0.026) == pytest.approx((0.0005, 0.001))
    assert stage.levels_at(0.5) == (0.01, 0.02)
    assert RandBET().levels_at(0.0) == (0.01,)


def words_of(model: nn.Module, scheme: Scheme, stage: BitErrorTraining) -> dict[str, Tensor]:
    """Return which bits a stage changes in one step, by tensor."""
    stored = StoredParameters.of(model, data().inputs(slice(0, 2)), scheme)
    training = QuantizedTraining(model, stored, {}, SINGLE_PROCESS)
    batch = first_batch(TrainingContext(train=data()), stage.kind)
    words = training.words(batch)
    faulty = stage.inject(training, words, batch, level=stage.levels()[0])
    return {name: own.codes ^ faulty[name] for name, own in words.codes.items()}


@pytest.mark.parametrize("preset", ["normal", "rquant"])
@pytest.mark.parametrize("bits", [4, 8])
def test_errors_can_be_kept_to_one_bit(preset: str, bits: int) -> None:
    scheme = Scheme.from_table({"preset": preset, "bits": bits})
    assert isinstance(scheme, Scheme)
    for which, wanted in (("lsb", 1), ("msb", 1 << (bits - 1))):
        stage = RandBET(rates=(0.5,), bits=which)
        changed = torch.cat([c.reshape(-1) for c in words_of(network(), scheme, stage).values()])
        low = changed.int() & ((1 << bits) - 1)
        assert set(low.tolist()) == {0, wanted}


def test_a_fixed_pattern_is_that_of_the_evaluated_chip() -> None:
    model, scheme = network().eval(), Scheme(calibration_images=8)
    stage = RandBET(rates=(0.1,), chip=7)
    deployed = Candidate(model, scheme).quantize(data())
    broken = corrupt(deployed, RandomFlips(ber=0.1), generator=make_generator(0, "chip", 7))
    for name, changed in words_of(model, scheme, stage).items():
        assert torch.equal(changed, deployed.tensors[name].codes ^ broken.tensors[name].codes)
        assert bool((changed != 0).any())


def test_branches_take_turns() -> None:
    """The first step is clean, the second faulty alone; every batch holds all images."""

    def weights(stage: Any, epochs: int) -> Tensor:
        longer = STEP.model_copy(update={"epochs": epochs})
        done = trained(stage.model_copy(update={"optimization": longer}), network())
        return done.get_parameter("1.weight").detach()

    plain = QuantizationAware(optimization=STEP)
    alone = RandBET(rates=(0.3,), branches="faulty_only", activate_below=None, optimization=STEP)
    turns = alone.model_copy(update={"branches": "alternating"})
    assert torch.allclose(weights(turns, 1), weights(plain, 1), atol=1e-6)
    assert not torch.allclose(weights(alone, 1), weights(plain, 1), atol=1e-6)
    assert not torch.allclose(weights(turns, 2), weights(plain, 2), atol=1e-6)
    with pytest.raises(SpecError, match="alternating"):
        RandBET.from_table(
            {"kind": "randbet", "branches": "alternating", "optimization": {"sam": 0.1}}
        )


def test_faulty_branches_leave_batch_statistics_alone() -> None:
    layers = (nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    model: nn.Module = nn.Sequential(*layers)
    plain = trained(QuantizationAware(optimization=STEP), deepcopy(model))
    stage = RandBET(rates=(0.3,), activate_below=None, optimization=STEP)
    faulty = trained(stage, deepcopy(model))
    one, two = (done.get_buffer("2.running_mean") for done in (plain, faulty))
    assert torch.allclose(one, two, atol=1e-6)
    assert int(faulty.get_buffer("2.num_batches_tracked")) == 1


def test_adversarial_errors_keep_to_their_budget_and_hurt_more_than_random_ones() -> None:
    model, scheme = network(), Scheme()
    stored = StoredParameters.of(model, data().inputs(slice(0, 2)), scheme)
    training = QuantizedTraining(model, stored, {}, SINGLE_PROCESS)
    stage = AdvBET(n_flips=6, iterations=10)
    batch = first_batch(TrainingContext(train=data()), stage.kind)
    words = training.words(batch)

    def loss(codes: dict[str, Tensor] | None) -> float:
        return float(training.error(words.read_back(codes), batch).detach())

    found = stage.inject(training, words, batch, level=6.0)
    flipped = {name: (own.codes ^ found[name]).int() for name, own in words.codes.items()}
    counts = [
        bin(value).count("1") for bits in flipped.values() for value in bits.flatten().tolist()
    ]
    assert sum(counts) <= 6
    assert max(counts) == 1
    held = {name: (own.codes, 8) for name, own in words.codes.items()}
    n_bits = sum(8 * own.codes.numel() for own in words.codes.values())
    random = [
        loss(
            RandomFlips(ber=6 / n_bits).corrupt_all(held, generator=make_generator(0, "random", n))
        )
        for n in range(20)
    ]
    assert loss(found) > max(random) > loss(None)
    assert stage.inject(training, words, batch, level=0.0).keys() == words.codes.keys()


@pytest.mark.parametrize("clipping", ["global", "per_layer"])
def test_clipped_training_ends_inside_its_bounds(clipping: str) -> None:
    stage = QuantizationAware(w_max=0.1, clipping=clipping, optimization=STEP)
    model = trained(stage, network())
    peaks = [float(value.detach().abs().max()) for value in model.parameters()]
    assert max(peaks) == pytest.approx(0.1)
    if clipping == "per_layer":
        widest = [float(value.detach().abs().max()) for value in network().parameters()]
        wanted = [0.1 * own / max(widest) for own in widest]
        assert all(peak <= bound * 1.001 for peak, bound in zip(peaks, wanted, strict=True))


def test_a_stage_deploys_on_the_grids_that_it_trained_on() -> None:
    scheme = Scheme.from_table({"preset": "normal", "bits": 4})
    assert isinstance(scheme, Scheme)
    stage = QuantizationAware(quantization=scheme, optimization=STEP)
    done = stage.apply(Candidate(network()), TrainingContext(train=data()))
    assert done.scheme == scheme
    assert done.quantize(data()).tensors["1.weight"].grid.bits == 4


def test_training_sees_activations_on_their_grids() -> None:
    """With two bits, four values go in; the loss is that of the rounded network."""
    model, scheme = network(), Scheme(activation_bits=2, calibration_images=8)
    stage = QuantizationAware(quantization=scheme, activations=True, optimization=STEP)
    seen: list[Tensor] = []
    model.get_submodule("3").register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].detach())
    )
    trained(stage, model)
    during = [one for one in seen if len(one) == 8]
    assert any(len(set(one.flatten().tolist())) <= 4 for one in during)


def test_presets_are_schemes_of_their_quantizer() -> None:
    scheme = Scheme.from_table({"preset": "rquant", "bits": 4})
    assert isinstance(scheme, Scheme)
    assert scheme.weight == scheme.bias == PRESETS["rquant"].model_copy(update={"bits": 4})
    with pytest.raises(SpecError, match=r"no preset 'rqant'\. Did you mean 'rquant'"):
        Scheme.from_table({"preset": "rqant"})
    with pytest.raises(SpecError, match="preset: wanted it, or 'weight'"):
        Scheme.from_table({"preset": "rquant", "weight": {"kind": "affine"}})
