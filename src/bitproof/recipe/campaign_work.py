"""What a campaign will take, told before anything is executed or written.

Model:  trials that are planned times images, and the time of some trials, drawn as those of the
        campaign are: most of a network need not be executed again for a fault, and how much depends
        on where faults lie. A few trials share less work than many of the campaign do; a stop rule
        is taken not to stop. Workers do not shorten it.
"""

import time
from pathlib import Path

import numpy as np

from bitproof.core.lock import Shard
from bitproof.data import Dataset
from bitproof.faults import read_fault_list
from bitproof.injection.directory import CampaignDirectory
from bitproof.injection.engine import Engine
from bitproof.injection.golden import Golden
from bitproof.injection.plan import Plan, count_trials, draw_plan, plan_of_list
from bitproof.injection.spec import Injection
from bitproof.quant import IntegerNetwork
from bitproof.recipe.building import choose_device
from bitproof.recipe.estimate import Estimate, as_float
from bitproof.recipe.injection import InjectionRecipe, find_file

ENOUGH_S = 0.3
"""Seconds of trying that suffice."""
DRAWN, DRAWN_WHOLE = 4096, 32
"""Trials to choose from: of single faults, and where each is a draw from the whole memory."""
PLACES = 8
"""How many neighbourhoods trials are tried in, from the first layers to the last."""
TOGETHER = (2, 8, 32)
"""Trials of each, until that suffices."""
GOLDEN_S = 0.2
"""Seconds that one fault-free run of the images may take that trials are tried on."""
LEAST, MOST = 8, 256
"""Images that they are tried on."""


def estimate_injection(
    recipe: InjectionRecipe,
    test: Dataset,
    network: IntegerNetwork,
    out: Path,
    *,
    shard: Shard | None = None,
    device: str = "cpu",
    recipe_dir: Path | None = None,
) -> Estimate:
    """Return what is left of a campaign, or of a share of it, in the directory `out`.

    Raises:
        BitproofError: in its kinds, for whatever is wrong with recipe, data or network.
    """
    injection, network = recipe.injection, network.to(choose_device(device))
    test = test.with_task(recipe.task or test.task)
    test = test.first(min(len(test), max(injection.images, MOST))).to(network.device)
    shapes = Golden.run(network, test.inputs(slice(0, 1))).shapes
    if recipe.fault_list:
        names = [node.name for node in network.nodes]
        path = find_file(recipe.fault_list, recipe_dir)
        plan = plan_of_list(read_fault_list(path, layers=names))
        trials = plan.n_trials
    else:
        plan = draw_plan(_few(injection), network, shapes)
        trials = count_trials(injection, network, shapes)
    images = trials * injection.images
    seconds = as_float(images) * _seconds(network, injection, plan, test)
    left = 1 - _done(CampaignDirectory(out))
    return Estimate(images, seconds).share(left / (shard[1] if shard else 1))


def _few(injection: Injection) -> Injection:
    """Return a campaign with fewer trials of the same kinds."""
    kinds = tuple(one.model_copy(update={"exhaustive": False}) for one in injection.faults)
    whole = any(one.model is not None or one.rate is not None for one in kinds)
    trials = DRAWN_WHOLE if whole else DRAWN
    return injection.model_copy(update={"faults": kinds, "trials": trials})


def _seconds(network: IntegerNetwork, injection: Injection, plan: Plan, test: Dataset) -> float:
    """Return what one image of one trial takes."""
    few = test.first(min(len(test), LEAST))
    start = time.perf_counter()
    Golden.run(network, few.inputs())
    golden = (time.perf_counter() - start) / len(few)
    wanted = min(injection.images, max(LEAST, int(GOLDEN_S / golden)))
    few = test.first(min(len(test), wanted))
    engine = Engine(network, few.inputs(), few.labels, array=injection.array, task=few.task)
    order = np.concatenate([np.empty(0, np.int64), *plan.chunks()])
    engine.run(plan.faults, order[:1].tolist())  # what the first trial has to make ready
    spent, tried = 0.0, 0
    for size in TOGETHER:
        starts = np.linspace(0, max(0, len(order) - size), PLACES).astype(int)
        begin, tried = time.perf_counter(), 0
        for first in starts.tolist():
            trials = order[first : first + size].tolist()
            engine.run(plan.faults, trials)
            tried += len(trials)
        spent = time.perf_counter() - begin
        if spent > ENOUGH_S:
            break
    return spent / max(1, tried * len(few))


def _done(directory: CampaignDirectory) -> float:
    """Return the share of the chunks that are finished."""
    if not directory.plan.is_file():
        return 0.0
    chunks = int(directory.read_plan()["chunks"])
    return min(1.0, len(list(directory.parts.glob("part-*.parquet"))) / max(1, chunks))
