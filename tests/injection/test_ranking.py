"""Rankings of a campaign, beside rates that are known, and beside single pairs."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.rng import make_generator
from bitproof.data import Dataset
from bitproof.injection import FaultGroup, Injection
from bitproof.injection.plan import Plan, draw_plan
from bitproof.injection.summary import summarize_injection
from bitproof.quant import IntegerNetwork, quantize
from bitproof.recipe import inject

IMAGES = 16


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)]
        net = nn.Sequential(*layers).eval()
    return quantize(net, torch.rand(32, 6, generator=make_generator(0, "inputs")))


@pytest.fixture(scope="module")
def data() -> Dataset:
    inputs = torch.rand(32, 6, generator=make_generator(0, "data"))
    return Dataset("noise", inputs, torch.arange(32) % 3, 3)


def population(plan: Plan, random: np.random.Generator) -> list[np.ndarray]:
    """Return which places of each cell change all answers: high bits more than low ones."""
    rates = [0.02 + 0.04 * max(0, cell.bit - 4) for cell in plan.cells]
    return [random.random(cell.size) < rate for cell, rate in zip(plan.cells, rates, strict=True)]


def simulated(plan: Plan, places: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return counts of trials, each of which strikes one place of the population."""
    n = plan.n_trials
    struck = zip(plan.cell.tolist(), plan.faults.element.tolist(), strict=True)
    hit = np.array([places[cell][element] for cell, element in struck])
    sdc = (IMAGES * hit).astype(np.int32)
    images = np.full(n, IMAGES, np.int32)
    return {
        **{"trial": np.arange(n, dtype=np.int32), "group": plan.group, "cell": plan.cell},
        **{"faults": np.ones(n, np.int32), "images": images, "masked": images - sdc},
        **{"sdc1": sdc, "due": np.zeros(n, np.int32), "correct": images - sdc},
    }


def truth_of(plan: Plan, rates: np.ndarray, ranking: dict[str, Any]) -> list[float]:
    """Return the true rate of each ranked place: the mean over its cells by their sizes."""
    found = []
    for place in ranking["places"]:
        own = [
            (rate, cell.size)
            for rate, cell in zip(rates, plan.cells, strict=True)
            if all(getattr(cell, name) == place[name] for name in ("layer", "bit") if name in place)
        ]
        found.append(sum(rate * size for rate, size in own) / sum(size for _, size in own))
    return found


@pytest.mark.parametrize(
    ("trials", "tables"),
    [(600, 5), *(pytest.param(n, 40, marks=pytest.mark.slow) for n in (120, 600))],
)
def test_claimed_orders_are_wrong_at_most_at_the_stated_rate(
    network: IntegerNetwork, trials: int, tables: int
) -> None:
    shapes = {node.name: (8,) for node in network.nodes}
    wrong, claims = {"layer": 0, "bit": 0, "cell": 0}, 0
    for seed in range(tables):
        injection = Injection(trials=trials, images=IMAGES, seed=seed)
        plan = draw_plan(injection, network, shapes)
        places = population(plan, np.random.default_rng(seed))
        rates = np.array([own.mean() for own in places])
        columns = simulated(plan, places)
        for ranking in summarize_injection(plan, injection, columns, network)["rankings"]:
            truth = np.array(truth_of(plan, rates, ranking))
            firsts, lasts = np.array([place["ranks"] for place in ranking["places"]]).T
            higher = (truth[:, None] > truth[None, :] + 1e-12).sum(0)
            lower = (truth[:, None] < truth[None, :] - 1e-12).sum(0)
            bad = (firsts > 1 + higher) | (lasts < len(truth) - lower)
            wrong[ranking["of"]] += bool(bad.any())
            claims += int((firsts > 1).sum())
    assert max(wrong.values()) <= 0.05 * tables + 5 * (0.0475 * tables) ** 0.5
    assert claims > 0 or trials < 600


def test_a_campaign_ranks_all_its_layers_and_bits(network: IntegerNetwork, data: Dataset) -> None:
    group = FaultGroup(sites=("weight", "bias"))
    summary = inject(network, data, Injection(faults=(group,), trials=200, images=IMAGES))
    kinds = [(one["site"], one["of"]) for one in summary["rankings"]]
    assert kinds == [(site, of) for of in ("layer", "bit", "cell") for site in ("weight", "bias")]
    for one in summary["rankings"]:
        rates = [place["rate"][1] for place in one["places"]]
        assert rates == sorted(rates, reverse=True)
        table = summary[f"{one['of']}s"]
        by_place = {
            (row["site"], row.get("layer"), row.get("bit")): row["rates"]["sdc1"] for row in table
        }
        for place in one["places"]:
            key = (one["site"], place.get("layer"), place.get("bit"))
            assert place["rate"] == by_place[key]
        assert one["first"]["untold"] == one["places"][0]["ranks"][1] - 1


def test_a_replayed_list_and_several_places_have_no_ranking(
    network: IntegerNetwork, data: Dataset
) -> None:
    group = FaultGroup(count=3)
    assert inject(network, data, Injection(faults=(group,), trials=9, images=8))["rankings"] == []
