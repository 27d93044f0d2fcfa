from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bitproof.approx import with_multipliers
from bitproof.core.errors import SpecError
from bitproof.data import Dataset, Splits
from bitproof.explore import (
    SEARCHES,
    Accelerator,
    Alwann,
    Exhaustive,
    Exploration,
    Goal,
    Greedy,
    Hawx,
    MultiplierSet,
    Nsga2,
    Outcome,
    RandomChoices,
    Search,
    SearchImages,
    Spatial,
    Temporal,
    explore,
)
from bitproof.explore.count_store import CountStore
from bitproof.quant import IntegerNetwork
from bitproof.stats import mean_interval, wilson

Explored = Callable[..., Outcome]
FEW = {"keep": ("conv1", "linear")}
"""Three layers choose: 27 choices."""


@pytest.fixture(scope="module")
def explored(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset, splits: Splits
) -> Explored:
    """Return a function that searches for multipliers, and measures no choice twice."""
    own = SearchImages(splits.train.first(128), splits.train.first(64), images, splits.test)
    store = CountStore()

    def search(**fields: object) -> Outcome:
        exploration = Exploration.model_validate(fields)
        return explore(network, exploration, blocks, own, classes=10, store=store)

    return search


def test_all_choices_are_measured_once(explored: Explored) -> None:
    outcome = explored(searches=[Exhaustive(budget=27)], **FEW)
    points = outcome.trials["exhaustive"].points
    units = outcome.problem.units.count
    assert len({point.choice.tobytes() for point in points}) == 3**units == len(points)


def test_too_many_choices_are_refused(explored: Explored) -> None:
    with pytest.raises(SpecError, match=r"wanted a budget of all 27 choices .3 units, 3 mult"):
        explored(searches=[Exhaustive(budget=26)], **FEW)


@pytest.mark.parametrize(
    ("machine", "max_drop"),
    [
        (Spatial(), 0.01),
        (Temporal(), 0.05),
        pytest.param(Spatial(), 0.05, marks=pytest.mark.slow),
        pytest.param(Temporal(), 0.01, marks=pytest.mark.slow),
    ],
)
def test_hawx_finds_what_all_choices_have_at_best(
    explored: Explored, machine: Accelerator, max_drop: float
) -> None:
    goal = Goal(minimize={"power": 1.0, "area": 1.0}, max_drop=max_drop)
    outcome = explored(
        searches=[Hawx(budget=20), Exhaustive(budget=27)], goal=goal, accelerator=machine, **FEW
    )
    found, best = (trial.best(outcome.acc0) for trial in outcome.trials.values())
    assert found is not None
    assert best is not None
    assert len(outcome.trials["hawx"].points) <= 20
    assert found.cost <= best.cost + 0.02


def test_scores_alone_order_choices_as_measurements_do(explored: Explored) -> None:
    outcome = explored(searches=[Exhaustive(budget=27)], **FEW)
    points = outcome.trials["exhaustive"].points
    harm = np.array([outcome.problem.score(point.choice) for point in points])
    accs = np.array([point.acc for point in points])
    order = np.argsort(harm)
    assert accs[order[:9]].mean() > accs[order[9:18]].mean() > accs[order[18:]].mean()


def test_choices_within_limits_keep_to_them(explored: Explored) -> None:
    goal = Goal(max_drop=None, limits={"power": 0.88, "area": 0.88})
    outcome = explored(searches=[Hawx(budget=20)], granularity="filter", goal=goal)
    best = outcome.trials["hawx"].best(outcome.acc0)
    assert best is not None
    assert best.figures.power <= 0.88 + 1e-9
    assert best.figures.area <= 0.88 + 1e-9
    assert best.acc > 0.6


@pytest.mark.slow
def test_an_array_takes_few_kinds_and_engines_many(explored: Explored) -> None:
    goal = Goal(minimize={"area": 1.0}, max_drop=0.02)
    kinds = {}
    for machine in (Spatial(), Temporal()):
        outcome = explored(
            searches=[Hawx(budget=24)], granularity="filter", goal=goal, accelerator=machine
        )
        best = outcome.trials["hawx"].best(outcome.acc0)
        assert best is not None
        kinds[machine.kind] = set(best.choice.tolist())
    assert len(kinds["temporal"]) == 1
    assert len(kinds["spatial"]) > 1


@pytest.mark.parametrize(
    "search",
    [
        RandomChoices(budget=9),
        Greedy(budget=9),
        Nsga2(budget=12, population=4),
        Alwann(budget=12, population=4, tiles=2),
        pytest.param(Hawx(budget=12), marks=pytest.mark.slow),
        Exhaustive(budget=27),
    ],
)
def test_searches_keep_to_their_budget_and_come_out_the_same(
    explored: Explored, search: Search
) -> None:
    if search.kind in {"nsga2", "alwann"}:
        pytest.importorskip("pymoo")
    first = explored(searches=[search], **FEW).trials[search.title]
    again = explored(searches=[search], **FEW).trials[search.title]
    assert len(first.points) <= search.budget
    assert [p.choice.tolist() for p in first.points] == [p.choice.tolist() for p in again.points]
    assert [p.acc for p in first.points] == [p.acc for p in again.points]


def test_every_search_is_tried() -> None:
    kinds = {"random", "greedy", "nsga2", "alwann", "hawx", "exhaustive"}
    assert set(SEARCHES.kinds()) == kinds


def test_tiles_of_alwann_bound_the_kinds(explored: Explored) -> None:
    pytest.importorskip("pymoo")
    outcome = explored(searches=[Alwann(budget=12, population=4, tiles=2)])
    for point in outcome.trials["alwann"].points:
        assert len(set(point.choice.tolist())) <= 2
    with pytest.raises(SpecError, match="wanted layers as units, got filters"):
        explored(searches=[Alwann(budget=12)], granularity="filter")


def test_margins_alone_need_one_measured_choice(explored: Explored) -> None:
    hawx = Hawx(calibration="margin", finalists=0, rounds=0)
    limited = Goal(max_drop=None, limits={"power": 0.9})
    assert len(explored(searches=[hawx], goal=limited).first.points) == 1
    exact, one = sorted(explored(searches=[hawx]).first.points, key=lambda point: -point.cost)
    assert exact.cost == 1 > one.cost  # a drop is counted from exact products


def test_accuracies_have_the_intervals_of_runs(explored: Explored) -> None:
    threats = [
        {"kind": "clean"},
        {"kind": "memory_faults", "levels": [0.01], "chips": 3},
    ]
    outcome = explored(searches=[RandomChoices(budget=1)], evaluation={"threats": threats}, **FEW)
    (point,) = outcome.first.points
    emulator = outcome.problem.measuring.emulator
    clean, *chips = emulator.measure(point.choice).tallies
    assert point.accs[0] == wilson(clean.correct, clean.total)
    assert point.accs[1] == mean_interval([chip.acc for chip in chips])


def test_threats_without_an_accuracy_are_refused(explored: Explored) -> None:
    attack = {"kind": "linf_pgd", "epsilon": 0.1, "steps": 1}
    threats = [
        {"kind": "adversarial_examples", "name": "pgd", "attack": attack, "levels": [0.1]},
        {"kind": "black_box_check", "against": "pgd", "levels": [0.1]},
    ]
    with pytest.raises(SpecError, match="wanted threats that give an accuracy of every choice"):
        explored(searches=[RandomChoices(budget=1)], evaluation={"threats": threats}, **FEW)


def test_a_goal_needs_known_figures_and_a_bound() -> None:
    with pytest.raises(ValueError, match=r"wanted one of power, .* got 'powr'"):
        Goal(minimize={"powr": 1.0})
    with pytest.raises(ValueError, match="limits: wanted one where max_drop is none"):
        Goal(max_drop=None)


def test_searches_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="wanted a 'name' for each of several searches"):
        Exploration(searches=(Hawx(), Hawx(budget=3)))


@pytest.mark.parametrize("kind", ["nsga2", "alwann"])
@pytest.mark.parametrize("keep", [("conv1", "linear"), ("conv1", "linear", "conv2", "block.conv1")])
def test_genetic_searches_end_where_choices_run_out(
    explored: Explored, kind: str, keep: tuple[str, ...]
) -> None:
    pytest.importorskip("pymoo")
    table = {"kind": kind, "budget": 64, "population": 4}
    trial = explored(searches=[table], keep=keep).trials[kind]
    assert len(trial.points) <= 3 ** (5 - len(keep))


def test_networks_with_multipliers_are_refused(
    network: IntegerNetwork, blocks: MultiplierSet, images: Dataset, splits: Splits
) -> None:
    own = SearchImages(splits.train.first(64), splits.train.first(64), images, splits.test)
    rough = with_multipliers(network, blocks.all[2].multiplier)
    with pytest.raises(SpecError, match="wanted exact products, 5 layers have multipliers"):
        explore(rough, Exploration(), blocks, own, classes=10)


def test_multipliers_too_slow_for_the_clock_are_left_out(
    explored: Explored,
    network: IntegerNetwork,
    blocks: MultiplierSet,
    images: Dataset,
    splits: Splits,
) -> None:
    late = replace(blocks.all[2], cost=blocks.all[2].cost.model_copy(update={"delay_ns": 1.7}))
    known = MultiplierSet((*blocks.all[:2], late))
    own = SearchImages(splits.train.first(64), splits.train.first(64), images, splits.test)
    exploration = Exploration(
        searches=(RandomChoices(budget=4),), accelerator=Spatial(clock_mhz=600.0), **FEW
    )
    outcome = explore(network, exploration, known, own, classes=10)
    assert outcome.problem.blocks.names == ["exact", "mild"]
    with pytest.raises(SpecError, match=r"690 MHz is too fast for exact"):
        explored(searches=[RandomChoices(budget=4)], accelerator=Spatial(clock_mhz=690.0), **FEW)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"power_mw": 0.0}, "some multiplier power"),
        ({"area_um2": 0.0}, "some area"),
        ({"delay_ns": 0.0}, "wanted a clock, or multipliers with a delay"),
    ],
)
def test_exact_products_have_to_take_something(  # noqa: PLR0917
    network: IntegerNetwork,
    blocks: MultiplierSet,
    images: Dataset,
    splits: Splits,
    costs: dict[str, float],
    message: str,
) -> None:
    own = SearchImages(splits.train.first(64), splits.train.first(64), images, splits.test)
    free = MultiplierSet(
        tuple(replace(block, cost=block.cost.model_copy(update=costs)) for block in blocks.all)
    )
    machine = Spatial(clock_mhz=None, adder_area_um2=0.0)
    with pytest.raises(SpecError, match=message):
        explore(network, Exploration(accelerator=machine), free, own, classes=10)
