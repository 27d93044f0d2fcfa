from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitproof.attacks import signed_ascent
from bitproof.core.rng import make_generator
from bitproof.data import Dataset, Splits
from bitproof.faults import RandomFlips
from bitproof.harden import Adjust, Candidate, TrainingContext
from bitproof.harden import adjust as module
from bitproof.harden.adjust import AcceptanceRule
from bitproof.quant import AffineQuantizer, IntegerNetwork, Scheme

SYMMETRIC = AffineQuantizer(symmetric=True, signed=True, margin=0.0)
"""The quantizer of METHODS A.3 (8)."""


def weights(n: int = 4000) -> Tensor:
    """Return heavy-tailed weights, so that there is something to gain by clipping."""
    generator = make_generator(0, "weights")
    values = torch.randn(n, generator=generator)
    return 0.05 * values * values.abs().sqrt()


PLAIN = {"estimate_norms": False, "correct_bias": False}
"""Ranges alone."""


def small(**changes: Any) -> Adjust:
    table = {"epsilon": 0.1, "calibration_images": 48, "attack_images": 16, "steps": 2}
    return Adjust(**{**table, **PLAIN, "ber": 0.01, "grid_points": 9, **changes})


def test_defaults_are_those_of_the_specification() -> None:
    stage = Adjust()
    assert (stage.grid_points, stage.lowest, stage.mu) == (80, 0.2, 1.0)
    assert (stage.calibration_images, stage.percentile) == (1024, 99.99)
    assert (stage.tolerance, stage.epsilon, stage.ber) == (0.005, 8 / 255, 5e-4)
    assert (stage.estimate_norms, stage.correct_bias) == (True, True)


@pytest.mark.parametrize(
    ("bits", "quantizer"),
    [(8, AffineQuantizer(bits=8)), (8, SYMMETRIC), (4, AffineQuantizer(bits=4))],
    ids=["rquant8", "symmetric8", "rquant4"],
)
def test_expected_error_is_the_mean_over_many_faulty_memories(
    bits: int, quantizer: AffineQuantizer
) -> None:
    """To first order in the rate: at 2e-4 the second order is 0.06 %, far below five sigma."""
    weight, ber, copies = weights(2000), 2e-4, 2000
    coded = quantizer.encode(weight, quantizer.fit(weight, shrink=0.6))
    codes = coded.codes.expand(copies, -1)
    faulty = RandomFlips(ber=ber).corrupt(codes, bits=bits, generator=make_generator(1))
    scale, zero = float(coded.grid.scale), int(coded.grid.zero_point)
    read = scale * (faulty.double() - zero)
    errors = (read - weight.double()).square()
    mean, sigma = float(errors.mean()), float(errors.std()) / errors.numel() ** 0.5
    stage = Adjust(ber=ber)
    assert abs(stage.expected_error(weight, quantizer, 0.6) - mean) < 5 * sigma
    assert abs(Adjust(ber=0.0).expected_error(weight, quantizer, 0.6) - mean) > 5 * sigma
    doubled = Adjust(ber=ber, mu=2.0).expected_error(weight, quantizer, 0.6)
    assert abs(doubled - mean) > 5 * sigma


def error_by_hand(weight: Any, factor: float, *, bits: int, ber: float) -> float:
    """Return equation (9) of METHODS A.3 with the symmetric quantizer of equation (8)."""
    step = factor * np.abs(weight).max() / (2 ** (bits - 1) - 1)
    codes = np.clip(np.round(weight / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return float(((weight - step * codes) ** 2).mean() + ber * step**2 * (4**bits - 1) / 3)


@pytest.mark.parametrize("ber", [0.0, 5e-4, 1e-2])
@pytest.mark.parametrize("bits", [4, 8])
def test_error_is_that_of_the_equation(bits: int, ber: float) -> None:
    weight, quantizer = weights(), SYMMETRIC.model_copy(update={"bits": bits})
    for factor in (0.2, 0.5, 1.0):
        ours = Adjust(ber=ber).expected_error(weight, quantizer, factor)
        hand = error_by_hand(weight.double().numpy(), factor, bits=bits, ber=ber)
        assert ours == pytest.approx(hand, rel=1e-4)


@pytest.mark.parametrize("ber", [0.0, 5e-4, 1e-2])
@pytest.mark.parametrize("bits", [4, 8])
def test_best_factor_is_that_of_a_fine_scan(bits: int, ber: float) -> None:
    weight, quantizer = weights(), SYMMETRIC.model_copy(update={"bits": bits})
    best = Adjust(ber=ber).best_factor(weight, quantizer)
    numbers = weight.double().numpy()
    scan = {
        factor: error_by_hand(numbers, factor, bits=bits, ber=ber)
        for factor in np.linspace(0.2, 1.0, 1001).tolist()
    }
    least = min(scan, key=lambda factor: scan[factor])
    chosen = error_by_hand(numbers, best, bits=bits, ber=ber)
    assert chosen <= 1.02 * scan[least]
    assert chosen < min(scan[0.2], scan[1.0]) or best == pytest.approx(least)
    assert best in np.linspace(0.2, 1.0, 80).round(6)


def test_more_flips_call_for_smaller_ranges() -> None:
    weight, quantizer = weights(), AffineQuantizer()
    factors = [
        Adjust(ber=ber).best_factor(weight, quantizer) for ber in (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
    ]
    assert factors == sorted(factors, reverse=True)
    assert factors[0] > 0.8
    assert factors[-1] < 0.4


def test_chosen_factors_are_those_of_the_folded_weights(net: nn.Sequential, data: Dataset) -> None:
    stage = small(attack_images=0, grid_points=80)
    adjusted = stage.apply(Candidate(net), TrainingContext(data))
    factor = net.get_parameter("1.weight") / (net.get_buffer("1.running_var") + 1e-5).sqrt()
    folded = net.get_parameter("0.weight") * factor.view(-1, 1, 1, 1)
    assert adjusted.shrink["0"] == stage.best_factor(folded.detach(), AffineQuantizer())
    assert adjusted.shrink.keys() == {"0", "3", "7"}


def record_of(candidate: Candidate) -> dict[str, Any]:
    alpha: dict[str, Any] = candidate.record[-1]["record"]["alpha"]
    return alpha


def accuracies(monkeypatch: pytest.MonkeyPatch, *right: int) -> None:
    """Let the acceptance rule see these counts out of 1000 under attack, one after the other."""
    counts: Iterator[int] = iter(right)
    monkeypatch.setattr(AcceptanceRule, "measure", lambda *_: (0.9, next(counts) / 1000))


def test_no_range_is_taken_where_the_attack_wins_by_it(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies(monkeypatch, 800, 100, 790, 794)
    adjusted = small().apply(Candidate(net, shrink={"3": 0.9}), TrainingContext(data))
    assert adjusted.shrink == {"3": 0.9}
    assert [entry["accepted"] for entry in record_of(adjusted).values()] == [False] * 3
    assert [entry["acc_before"] for entry in record_of(adjusted).values()] == [0.8] * 3
    assert [entry["acc_after"] for entry in record_of(adjusted).values()] == [0.1, 0.79, 0.794]


def test_ranges_are_taken_one_by_one_within_the_tolerance_of_the_start(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be lost is meant in all: 0.4 points, then 0.7 below the start, then a gain."""
    accuracies(monkeypatch, 800, 796, 793, 810)
    adjusted = small().apply(Candidate(net, shrink={"3": 0.9}), TrainingContext(data))
    alpha = record_of(adjusted)
    assert [entry["accepted"] for entry in alpha.values()] == [True, False, True]
    assert adjusted.shrink == {"0": alpha["0"]["chosen"], "3": 0.9, "7": alpha["7"]["chosen"]}


def test_tolerance_is_a_parameter(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies(monkeypatch, 800, 750, 750, 690)
    adjusted = small(tolerance=0.1).apply(Candidate(net), TrainingContext(data))
    assert [entry["accepted"] for entry in record_of(adjusted).values()] == [True, True, False]


def test_without_attacked_images_every_range_is_taken_and_none_is_measured(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies(monkeypatch)  # the first measurement would fail
    adjusted = small(attack_images=0).apply(Candidate(net), TrainingContext(data))
    for layer, entry in record_of(adjusted).items():
        assert entry == {
            "chosen": adjusted.shrink[layer],
            "accepted": True,
            "acc_before": None,
            "acc_after": None,
        }


def test_rule_measures_the_network_with_the_ranges_in_question(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the ranges so far, then one more layer at a time; refused ones are gone again."""
    scales: list[tuple[float, ...]] = []

    def measure(rule: AcceptanceRule, network: IntegerNetwork) -> tuple[float, float]:
        assert len(rule.data) == 16
        layers = ("0", "3", "7")
        scales.append(tuple(float(network.tensors[f"{x}.weight"].grid.scale) for x in layers))
        return 1.0, 0.0 if len(scales) == 3 else 1.0

    monkeypatch.setattr(AcceptanceRule, "measure", measure)
    adjusted = small().apply(Candidate(net), TrainingContext(data))
    start, first, second, third = scales
    assert first[0] < start[0]
    assert first[1:] == start[1:]
    assert second[1] < start[1]
    assert (second[0], second[2]) == (first[0], start[2])
    assert third == (first[0], start[1], third[2])
    assert third[2] < start[2]
    stored = adjusted.quantize(data).tensors
    assert tuple(float(stored[f"{x}.weight"].grid.scale) for x in ("0", "3", "7")) == third


def test_judge_measures_the_integer_network(trained: Candidate, digits: Splits) -> None:
    network, part = trained.quantize(digits.train), digits.train.first(64)
    context = TrainingContext(digits.train)
    (clean, mild), (again, strong) = (
        AcceptanceRule(Adjust(epsilon=eps, steps=5), part, context).measure(network)
        for eps in (0.001, 0.3)
    )
    right = int((network(part.inputs()).argmax(1) == part.labels).sum())
    assert clean == again == right / 64
    assert abs(mild - clean) <= 1 / 64
    assert strong < 0.3


def test_a_change_that_costs_clean_accuracy_is_refused(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([(0.9, 0.5), (0.8, 0.6), (0.9, 0.5), (0.9, 0.5)])
    monkeypatch.setattr(AcceptanceRule, "measure", lambda *_: next(scores))
    adjusted = small().apply(Candidate(net), TrainingContext(data))
    assert [entry["accepted"] for entry in record_of(adjusted).values()] == [False, True, True]


def test_statistics_and_biases_that_lose_too_much_are_refused(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([(0.9, 0.5), (0.9, 0.4), *[(0.9, 0.5)] * 3, (0.8, 0.5)])
    monkeypatch.setattr(AcceptanceRule, "measure", lambda *_: next(scores))
    stage = small(estimate_norms=True, correct_bias=True)
    adjusted = stage.apply(Candidate(net), TrainingContext(data))
    record = adjusted.record[-1]["record"]
    assert not record["norms"]["accepted"]
    assert not record["biases"]["accepted"]
    assert not adjusted.correct_bias
    assert torch.equal(
        adjusted.model.get_buffer("1.running_mean"), net.get_buffer("1.running_mean")
    )


def test_statistics_are_the_mean_over_clean_and_perturbed_batches(
    net: nn.Sequential, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recomputed with numpy, layer by layer; 48 images in batches of 20 leave one of 8."""
    monkeypatch.setattr(module, "BATCH", 20)
    stage = small(epsilon=0.1, steps=3, estimate_norms=True, attack_images=0)
    adjusted = stage.apply(Candidate(net), TrainingContext(data, seed=5)).model
    generator = TrainingContext(data, seed=5).generator("norms")
    means: dict[str, list[Any]] = {"1": [], "4": []}
    variances: dict[str, list[Any]] = {"1": [], "4": []}
    for index in torch.split(torch.arange(48), 20):
        inputs = data.inputs(index)
        moved = signed_ascent(
            net,
            inputs,
            data.labels[index],
            epsilon=0.1,
            step=0.025,
            steps=3,
            generator=generator,
        )
        values = torch.cat([inputs, moved])
        for conv, norm in (("0", "1"), ("3", "4")):
            maps = net.get_submodule(conv)(values).detach().double().numpy()
            mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
            means[norm].append(mean)
            variances[norm].append(maps.var((0, 2, 3), ddof=1))
            weight, bias = (
                net.get_parameter(f"{norm}.{key}").detach().double().numpy()
                for key in ("weight", "bias")
            )
            scaled = (maps.transpose(0, 2, 3, 1) - mean) / np.sqrt(variance + 1e-5)
            after = np.maximum(scaled * weight + bias, 0).transpose(0, 3, 1, 2)
            values = torch.from_numpy(after).float()
    for norm in ("1", "4"):
        ours = [adjusted.get_buffer(f"{norm}.{key}") for key in ("running_mean", "running_var")]
        np.testing.assert_allclose(ours[0], np.mean(means[norm], axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(ours[1], np.mean(variances[norm], axis=0), rtol=1e-3)
        layer = adjusted.get_submodule(norm)
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.momentum == 0.1


def test_weights_are_not_trained(net: nn.Sequential, data: Dataset) -> None:
    adjusted = small().apply(Candidate(net), TrainingContext(data)).model
    for name, weight in net.named_parameters():
        assert torch.equal(adjusted.get_parameter(name), weight)


def test_statistics_stay_on_request(net: nn.Sequential, data: Dataset) -> None:
    adjusted = small(estimate_norms=False).apply(Candidate(net), TrainingContext(data)).model
    for name, value in net.state_dict().items():
        assert torch.equal(adjusted.state_dict()[name], value)


def test_activations_are_clamped_at_the_percentile(net: nn.Sequential, data: Dataset) -> None:
    """The scheme's own rule for ranges is replaced."""
    scheme = Scheme(calibration="min_max")
    stage = small(percentile=97.0, attack_images=0, estimate_norms=False)
    clamped = stage.apply(Candidate(net, scheme), TrainingContext(data))
    assert (clamped.scheme.calibration, clamped.scheme.percentile) == ("percentile", 97.0)
    assert clamped.scheme.calibration_images == 48
    network, free = clamped.quantize(data), Candidate(net, scheme).quantize(data)
    maps = np.sort(net[:3](data.inputs()).detach().numpy().ravel())
    peak = network.grids["0"].scale * 255
    np.testing.assert_allclose(float(peak), np.quantile(maps, 0.97), rtol=0.01)
    np.testing.assert_allclose(float(free.grids["0"].scale * 255), maps[-1], rtol=0.01)


def test_biases_are_corrected_on_request(net: nn.Sequential, data: Dataset) -> None:
    quantizer = AffineQuantizer(bits=3)
    scheme = Scheme(weight=quantizer)
    with_, without = (
        small(correct_bias=correct, attack_images=0).apply(
            Candidate(net, scheme), TrainingContext(data)
        )
        for correct in (True, False)
    )
    assert (with_.correct_bias, without.correct_bias) == (True, False)
    exact = with_.model(data.inputs()).detach()
    shifts = [
        float((candidate.quantize(data)(data.inputs()) - exact).mean(0).abs().max())
        for candidate in (with_, without)
    ]
    assert shifts[0] < 0.5 * shifts[1]
