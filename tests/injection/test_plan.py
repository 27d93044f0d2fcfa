"""Draws of trials: what they cover, how often, and in which order they are done."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bitproof.core.errors import SpecError
from bitproof.core.rng import make_generator
from bitproof.faults.execute import check_faults
from bitproof.faults.space import Shapes
from bitproof.faults.table import COLUMNS, FaultTable
from bitproof.injection import plan as plan_module
from bitproof.injection.golden import Golden
from bitproof.injection.plan import Plan, draw_plan, plan_of_list
from bitproof.injection.spec import Injection
from bitproof.quant import IntegerNetwork, quantize
from bitproof.stats.sample_size import allocate, sample_size

CONV, LINEAR = 3 * 2 * 4 * 8, 12 * 2 * 8
"""Bits of the two weights."""


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    return quantize(model, torch.rand(4, 2, 3, 3, generator=make_generator(0)))


@pytest.fixture(scope="module")
def shapes(network: IntegerNetwork) -> Shapes:
    return Golden.run(network, torch.zeros(1, 2, 3, 3)).shapes


class Drawing:
    """Draws plans from plain tables."""

    def __init__(self, network: IntegerNetwork, shapes: Shapes) -> None:
        self.network, self.shapes = network, shapes

    def __call__(self, *groups: dict[str, Any], **fields: Any) -> Plan:
        faults = {"faults": groups} if groups else {}
        plan = draw_plan(Injection.model_validate({**faults, **fields}), self.network, self.shapes)
        check_faults(self.network, plan.faults, self.shapes)
        assert len(plan.group) == len(plan.cell) == plan.n_trials
        assert plan.faults.layers == tuple(node.name for node in self.network.nodes)
        return plan


@pytest.fixture(scope="module")
def draw(network: IntegerNetwork, shapes: Shapes) -> Drawing:
    return Drawing(network, shapes)


def places(plan: Plan) -> list[tuple[Any, ...]]:
    """Return site, layer, element, tap and bit of each fault."""
    return [row[1:6] for row in plan.faults.rows()]


def drawn_per_cell(plan: Plan) -> list[int]:
    return [int(n) for n in np.bincount(plan.cell, minlength=len(plan.cells))]


def test_single_faults_are_drawn_without_return(draw: Drawing) -> None:
    plan = draw({"sites": ["weight", "product"]}, trials=2000)
    assert plan.n_trials == len(plan.faults) == len(set(places(plan))) == 2000
    assert plan.faults.trial.tolist() == list(range(2000))


def test_cells_are_where_the_fault_of_each_trial_lies(draw: Drawing) -> None:
    plan = draw({"sites": ["weight", "bias"]}, {"sites": ["output"]}, trials=100)
    for trial, (_, site, layer, _, _, bit, _) in enumerate(plan.faults.rows()):
        cell = plan.cells[plan.cell[trial]]
        assert (cell.group, cell.site, cell.layer, cell.bit) == (
            plan.group[trial], site, layer, bit
        )  # fmt: skip
    for group, population in enumerate(plan.populations):
        assert sum(cell.size for cell in plan.cells if cell.group == group) == population
    assert plan.populations == (CONV + LINEAR + 5 * 8, 12 * 8)


def test_more_trials_than_places_try_each_place_once(draw: Drawing) -> None:
    plan = draw(trials=10_000)
    assert plan.n_trials == CONV + LINEAR == len(set(places(plan)))


def test_an_exhaustive_group_tries_each_place_once(draw: Drawing) -> None:
    plan = draw({"sites": ["weight", "accumulator"], "exhaustive": True}, trials=5)
    assert plan.n_trials == len(set(places(plan))) == plan.populations[0]
    assert drawn_per_cell(plan) == [cell.size for cell in plan.cells]


def test_every_place_is_equally_likely(draw: Drawing) -> None:
    seeds, hits = 150, np.zeros((CONV + LINEAR) // 8 * 8)
    names = ["0", "3"]
    n = 0
    for seed in range(seeds):
        plan = draw({"layers": names}, trials=48, seed=seed)
        n = plan.n_trials
        first = {"0": 0, "3": CONV}
        for _, layer, element, _, bit in places(plan):
            hits[first[layer] + element * 8 + bit] += 1
    expected = seeds * n / len(hits)
    share = n / len(hits)
    # The variance of one count, without return, is that of a binomial number.
    chi_square = float(((hits - expected) ** 2).sum() / (expected * (1 - share)))
    assert abs(chi_square - len(hits)) < 5 * np.sqrt(2 * len(hits))


@pytest.mark.parametrize("allocation", ["proportional", "equal"])
def test_trials_are_shared_out_as_asked(draw: Drawing, allocation: Any) -> None:
    plan = draw({"sites": ["weight", "bias"]}, trials=150, allocation=allocation)
    sizes = [cell.size for cell in plan.cells]
    assert drawn_per_cell(plan) == allocate(sizes, 150, how=allocation)


def test_proportional_shares_follow_the_sizes(draw: Drawing) -> None:
    plan = draw(trials=96)
    assert drawn_per_cell(plan) == [cell.size // 4 for cell in plan.cells]


def test_data_aware_draws_prefer_bits_that_move_values_far(
    draw: Drawing, network: IntegerNetwork
) -> None:
    plan = draw(trials=120, allocation="data_aware")
    counts = dict(zip(((c.layer, c.bit) for c in plan.cells), drawn_per_cell(plan), strict=True))
    for layer in ("0", "3"):
        column = [counts[layer, bit] for bit in range(8)]
        assert column == sorted(column)
        assert column[0] >= 1
        assert column[7] > 2 * column[3]
    steps = {c: float(network.tensors[f"{c.layer}.weight"].grid.scale) for c in plan.cells}
    reach = [steps[cell] * 2**cell.bit for cell in plan.cells]
    odds = [one / max(reach) / 2 for one in reach]
    spread = [float(np.sqrt(p * (1 - p))) for p in odds]
    wanted = allocate([cell.size for cell in plan.cells], 120, how="neyman", spread=spread)
    assert drawn_per_cell(plan) == wanted


def test_the_margin_sets_the_number_of_trials(draw: Drawing) -> None:
    plan = draw({"sites": ["product"]}, margin=0.03, confidence=0.9)
    assert plan.n_trials == sample_size(plan.populations[0], margin=0.03, confidence=0.9)
    assert sum(drawn_per_cell(plan)) == plan.n_trials


def test_each_cell_can_have_its_own_margin(draw: Drawing) -> None:
    plan = draw(margin=0.1, per="cell")
    wanted = [sample_size(cell.size, margin=0.1, confidence=0.95) for cell in plan.cells]
    assert drawn_per_cell(plan) == wanted
    assert plan.n_trials == sum(wanted)


def test_several_places_of_a_trial_differ(draw: Drawing) -> None:
    plan = draw({"sites": ["weight", "bias"], "count": 7}, trials=300)
    assert plan.n_trials == 300
    assert set(plan.cell.tolist()) == {-1}
    for trial in range(300):
        assert len({row[1:6] for row in plan.faults.of_trial(trial).rows()}) == 7
    struck = (plan.faults.layer == plan.faults.layers.index("0")).sum()
    assert abs(struck / len(plan.faults) - (CONV + 24) / (CONV + LINEAR + 40)) < 0.06


@pytest.mark.parametrize("count", [40, 95, 190, 384])
def test_many_places_of_a_trial_are_drawn_in_good_time(draw: Drawing, count: int) -> None:
    plan = draw({"count": count}, trials=3)
    for trial in range(3):
        assert len({row[1:6] for row in plan.faults.of_trial(trial).rows()}) == count


def test_more_places_than_there_are_cannot_break_at_once(draw: Drawing) -> None:
    with pytest.raises(SpecError, match="count: wanted at most 384 places, got 385"):
        draw({"count": 385}, trials=3)


def test_a_rate_breaks_a_binomial_number_of_places(draw: Drawing) -> None:
    plan = draw({"rate": 0.02}, trials=1500)
    counts = np.bincount(plan.faults.trial, minlength=1500)
    mean, variance = 384 * 0.02, 384 * 0.02 * 0.98
    assert abs(counts.mean() - mean) < 5 * np.sqrt(variance / 1500)
    assert abs(counts.var() - variance) < 5 * variance * np.sqrt(2.2 / 1500)
    for trial in range(0, 1500, 50):
        rows = plan.faults.of_trial(trial).rows()
        assert len({row[1:6] for row in rows}) == len(rows)
    everywhere = draw({"rate": 1.0}, trials=2)
    assert len(everywhere.faults) == 2 * 384 == 2 * len(set(places(everywhere)))


def test_trials_at_a_rate_may_have_no_fault(draw: Drawing) -> None:
    plan = draw({"rate": 1e-9}, trials=20)
    assert (plan.n_trials, len(plan.faults)) == (20, 0)
    assert sorted(np.concatenate(plan.chunks()).tolist()) == list(range(20))


def test_groups_have_trials_of_their_own(draw: Drawing) -> None:
    plan = draw({"sites": ["weight"]}, {"sites": ["output"]}, {"rate": 0.05}, trials=50)
    assert plan.group.tolist() == [0] * 50 + [1] * 50 + [2] * 50
    sites = {row[1] for trial in range(50, 100) for row in plan.faults.of_trial(trial).rows()}
    assert sites == {"output"}


def test_groups_together_share_their_trials(draw: Drawing) -> None:
    plan = draw({"sites": ["weight"]}, {"sites": ["output"], "count": 2}, trials=40, together=True)
    assert plan.n_trials == 40
    assert set(plan.group.tolist()) == set(plan.cell.tolist()) == {-1}
    for trial in range(40):
        sites = sorted(row[1] for row in plan.faults.of_trial(trial).rows())
        assert sites == ["output", "output", "weight"]


def test_kinds_decide_what_breaks(draw: Drawing) -> None:
    plan = draw(
        {"kind": {"kind": "burst", "length": 3}}, {"kind": {"kind": "random_value"}}, trials=9
    )
    counts = np.bincount(plan.faults.trial)
    assert counts.tolist() == [3] * 9 + [8] * 9


@pytest.mark.parametrize("allocation", ["proportional", "equal", "data_aware"])
def test_the_first_trials_are_a_random_part_of_all(draw: Drawing, allocation: Any) -> None:
    early = np.zeros(2)
    for seed in range(30):
        plan = draw(trials=200, seed=seed, allocation=allocation)
        late = plan.faults.layer == plan.faults.layers.index("3")
        early += [
            late[:100].sum() / late.sum(),
            plan.faults.bit[:100].sum() / plan.faults.bit.sum(),
        ]
    assert (abs(early / 30 - 0.5) < 0.03).all()


@pytest.mark.parametrize(("first", "last"), [(0, None), (0, 0), (37, 911), (990, 1000)])
def test_chunks_partition_the_trials_and_keep_neighbours_together(
    draw: Drawing, first: int, last: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "MOST_CHUNKS", 12)
    plan = draw({"sites": ["product"]}, trials=1000)
    chunks = plan.chunks(first, last)
    trials = [int(trial) for chunk in chunks for trial in chunk]
    assert sorted(trials) == list(range(first, 1000 if last is None else last))
    assert all(len(chunk) == 84 for chunk in chunks[:-1])
    layers = plan.faults.layer[trials].tolist()
    assert layers == sorted(layers)


def test_small_campaigns_have_few_chunks(draw: Drawing) -> None:
    assert [len(chunk) for chunk in draw(trials=150).chunks()] == [64, 64, 22]


def test_chunks_of_trials_of_several_or_no_faults_hold_each_once(draw: Drawing) -> None:
    plan = draw({"rate": 0.004}, trials=300)
    assert 0 < len(set(plan.faults.trial.tolist())) < 300
    trials = np.concatenate(plan.chunks())
    assert sorted(trials.tolist()) == list(range(300))
    assert [len(np.concatenate(plan.chunks(*ends))) for ends in ((0, 100), (100, 300))] == [
        100,
        200,
    ]


GROUPS: list[dict[str, Any]] = [
    {"sites": ["weight", "product"]},
    {"count": 3, "kind": {"kind": "random_value"}},
    {"rate": 0.01},
    {"exhaustive": True, "kind": {"kind": "stuck_at", "value": 1}},
]


@pytest.mark.parametrize("group", GROUPS)
def test_equal_seeds_give_equal_plans(draw: Drawing, group: dict[str, Any]) -> None:
    one, two, other = (draw(group, trials=100, seed=seed) for seed in (5, 5, 6))
    for name in COLUMNS:
        assert np.array_equal(getattr(one.faults, name), getattr(two.faults, name))
    assert np.array_equal(one.cell, two.cell)
    assert one.faults.rows() != other.faults.rows()


def test_a_group_does_not_depend_on_those_after_it(draw: Drawing) -> None:
    alone, first = draw(GROUPS[0], trials=60), draw(GROUPS[0], GROUPS[1], trials=60)
    assert first.faults.select(first.faults.trial < 60).rows() == alone.faults.rows()


def test_the_global_generators_are_left_alone(draw: Drawing) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    draw(*GROUPS, trials=20)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"sites": ["weight"], "bits": [9]}, "wanted bits to break"),
        ({"count": 5}, "trials: wanted at most 1000 faults in all, got 2000"),
        ({"rate": 0.5}, "rate: wanted at most 1000 faults in all, got about 7.68e"),
        ({"kind": {"kind": "burst", "length": 9}}, "burst.length: wanted at most 8"),
        ({"sites": ["product"], "kind": {"kind": "word_line"}}, "wanted a site in a memory"),
    ],
)
def test_draws_that_cannot_be_are_refused(
    draw: Drawing, group: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "MOST_ROWS", 1000)
    with pytest.raises(SpecError, match=message):
        draw(group, trials=400)


def test_too_many_trials_are_refused(draw: Drawing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MOST_TRIALS", 500)
    assert draw({}, {}, trials=250).n_trials == 500
    with pytest.raises(SpecError, match="trials: wanted at most 500, got 502"):
        draw({}, {}, trials=251)


@pytest.mark.parametrize(
    "group",
    [
        {"count": 2, "rate": 0.1},
        {"count": 2, "exhaustive": True},
        {"rate": 0.1, "exhaustive": True},
    ],
)
def test_a_group_has_one_extent(group: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="one of count, rate and exhaustive"):
        Injection.model_validate({"faults": [group]})


def test_a_list_is_replayed_as_it_is() -> None:
    faults = FaultTable.from_rows([(2, "weight", "a", 0, -1, 0, "flip")])
    plan = plan_of_list(faults)
    assert plan.faults is faults
    assert plan.n_trials == len(plan.group) == len(plan.cell) == 3
    assert sorted(np.concatenate(plan.chunks()).tolist()) == [0, 1, 2]


def test_fewer_trials_than_cells_leave_no_cell_out_for_good(
    draw: Drawing, network: IntegerNetwork
) -> None:
    """Largest remainders would take the largest cells, whatever the seed."""
    hits: Counter[str] = Counter()
    for seed in range(200):
        plan = draw({"sites": ["weight", "bias"]}, trials=3, seed=seed)
        assert plan.n_trials == 3
        assert plan.is_sparse(0)
        hits.update(f"{plan.cells[i].layer}.{plan.cells[i].site}" for i in plan.cell.tolist())
    sizes = {name: coded.codes.numel() for name, coded in network.tensors.items()}
    assert len(sizes) == 4
    for name, size in sizes.items():
        wanted = 600 * size / sum(sizes.values())
        assert abs(hits[name] - wanted) < 4 * wanted**0.5 + 1
