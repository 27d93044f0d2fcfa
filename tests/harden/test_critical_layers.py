import json

import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.harden.critical_layers import CriticalLayers, Weighting, rankable_layers

STEPS = 7


@pytest.fixture
def gradients(net: nn.Sequential) -> list[dict[str, torch.Tensor]]:
    generator = make_generator(0, "gradients")
    return [
        {
            name: torch.randn(weight.shape, generator=generator)
            for name, weight in net.named_parameters()
        }
        for _ in range(STEPS)
    ]


def show(net: nn.Module, ranking: CriticalLayers, gradients: list[dict[str, torch.Tensor]]) -> None:
    for step in gradients:
        for name, weight in net.named_parameters():
            weight.grad = step[name]
        ranking.observe()


def test_convolutions_and_linear_layers_are_ranked(net: nn.Sequential) -> None:
    assert rankable_layers(net) == ["0", "3", "7"]


@pytest.mark.parametrize("weighting", ["plain", "per_weight", "times_weight"])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9])
def test_scores_are_those_of_a_slow_loop(
    net: nn.Sequential,
    gradients: list[dict[str, torch.Tensor]],
    weighting: Weighting,
    beta: float,
) -> None:
    ranking = CriticalLayers(net, k=2, beta=beta, weighting=weighting)
    show(net, ranking, gradients)
    expected = {}
    for layer in ("0", "3", "7"):
        numbers = net.get_parameter(f"{layer}.weight").detach().flatten().tolist()
        score = None
        for step in gradients:
            size = sum(g * g for g in step[f"{layer}.weight"].flatten().tolist()) ** 0.5
            if weighting == "per_weight":
                size /= len(numbers) ** 0.5
            if weighting == "times_weight":
                size *= sum(w * w for w in numbers) ** 0.5
            score = size if score is None else beta * score + (1 - beta) * size
        expected[layer] = score
    assert ranking.means == pytest.approx(expected, rel=1e-5)
    order = sorted(expected, key=lambda layer: -float(expected[layer] or 0))
    assert ranking.rank() == order[:2]


def test_the_first_gradient_is_the_first_score(
    net: nn.Sequential, gradients: list[dict[str, torch.Tensor]]
) -> None:
    """No bias towards zero at the start, whatever beta is."""
    ranking = CriticalLayers(net, k=3, beta=0.999)
    show(net, ranking, gradients[:1])
    norms = {layer: float(gradients[0][f"{layer}.weight"].norm()) for layer in ("0", "3", "7")}
    assert ranking.means == pytest.approx(norms, rel=1e-6)


def test_a_small_network_has_all_its_layers_critical(
    net: nn.Sequential, gradients: list[dict[str, torch.Tensor]]
) -> None:
    ranking = CriticalLayers(net, k=10, beta=0.9)
    show(net, ranking, gradients)
    assert sorted(ranking.rank()) == ["0", "3", "7"]


def test_layers_without_gradients_come_last(net: nn.Sequential) -> None:
    ranking = CriticalLayers(net, k=3, beta=0.9)
    net.get_parameter("7.weight").grad = torch.ones(3, 54)
    ranking.observe()
    assert ranking.rank() == ["7", "0", "3"]
    assert ranking.means.keys() == {"7"}


def test_a_larger_gradient_moves_a_layer_up(
    net: nn.Sequential, gradients: list[dict[str, torch.Tensor]]
) -> None:
    ranking = CriticalLayers(net, k=1, beta=0.5)
    show(net, ranking, gradients)
    weakest = min(ranking.means, key=lambda layer: ranking.means[layer])
    net.get_parameter(f"{weakest}.weight").grad = torch.full_like(
        net.get_parameter(f"{weakest}.weight"), 100.0
    )
    ranking.observe()
    assert ranking.rank() == [weakest]


def test_taking_in_gradients_never_waits_for_the_device(net: nn.Sequential) -> None:
    """The device "meta" has no numbers to wait for."""
    net.to("meta")
    net(torch.rand(2, 1, 6, 6, device="meta")).sum().backward()
    for weighting in ("plain", "per_weight", "times_weight"):
        CriticalLayers(net, k=1, beta=0.9, weighting=weighting).observe()


def test_record_tells_scores_and_choice_of_each_ranking(
    net: nn.Sequential, gradients: list[dict[str, torch.Tensor]]
) -> None:
    ranking = CriticalLayers(net, k=2, beta=0.9)
    chosen = []
    for part in (gradients[:3], gradients[3:]):
        show(net, ranking, part)
        chosen.append(ranking.rank())
    record = json.loads(json.dumps(ranking.record()))
    assert record["layers"] == ["0", "3", "7"]
    assert record["top"] == chosen
    assert len(record["scores"]) == 2
    for scores, top in zip(record["scores"], chosen, strict=True):
        by_layer = dict(zip(record["layers"], scores, strict=True))
        assert sorted(by_layer, key=lambda layer: -by_layer[layer])[:2] == top
