"""A search over multipliers from its spec to what came out: profile, scores, searches, checks."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bitproof.core.errors import SpecError, shorten
from bitproof.core.passes import Passes
from bitproof.core.progress import SILENT, Progress
from bitproof.core.spec import Spec
from bitproof.core.stop_request import StopRequest
from bitproof.core.types import Count, Seed
from bitproof.data.dataset import Splits
from bitproof.evaluation.evaluation import Evaluation
from bitproof.evaluation.executors import Executor
from bitproof.evaluation.threat import Clean
from bitproof.explore.accelerator import AnyAccelerator
from bitproof.explore.count_store import CountStore
from bitproof.explore.emulation import Emulator
from bitproof.explore.goal import Goal
from bitproof.explore.hawx import Hawx
from bitproof.explore.layer_power import with_layer_power
from bitproof.explore.measuring import Measuring
from bitproof.explore.multiplier_set import MultiplierSet
from bitproof.explore.point import Point, accuracies
from bitproof.explore.problem import Harm, Problem
from bitproof.explore.profile import Profile, take_profile
from bitproof.explore.random_choices import RandomChoices
from bitproof.explore.scores import AnyScore, HawxScore, Scores, weighted
from bitproof.explore.search import AnySearch, Search
from bitproof.explore.search_images import SearchImages
from bitproof.explore.spatial import Spatial
from bitproof.explore.trial import BudgetSpentError, Trial
from bitproof.explore.under_threat import passes_under, under
from bitproof.explore.units import Granularity, Scope, Units, units_of
from bitproof.quant.network import IntegerNetwork
from bitproof.stats.intervals import Interval

OPERAND_IMAGES = 32
"""Images that operands of layers are taken from."""
PROFILED = Passes(1, 2)
"""What an image of a profile takes: gradients for two judges."""
CHECK = "check"
"""What the choices are called that predictors are checked on."""


class Exploration(Spec):
    """What is searched, for what, how, and on which images.

    Example:
        >>> Exploration(granularity="filter", searches=[Hawx(budget=20)]).score.kind
        'hawx'
    """

    granularity: Granularity = "layer"
    """What chooses: layers, or their filters."""
    scope: Scope = "all"
    """Which layers choose: all that multiply, or convolutions only; the others multiply exactly."""
    keep: tuple[str, ...] = ()
    """Layers without a choice, by name."""
    score: AnyScore = HawxScore()
    """The harm of a multiplier in a filter."""
    profile_images: Count = 512
    """Training images that scores are taken on."""
    accelerator: AnyAccelerator = Spatial()
    """What runs the network."""
    costs: str = "published"
    """Where the costs of multipliers are from: `published`, a library of cells such as `sky130`
    (circuits only), or a CSV file with the columns name, area_um2, power_mw, delay_ns."""
    operands: Literal["uniform", "layers"] = "uniform"
    """Operands that power is of: all as likely, or those that each layer meets (circuits in a
    library of cells only)."""
    goal: Goal = Goal()
    """What is wanted of a choice."""
    searches: Annotated[tuple[AnySearch, ...], Field(min_length=1, max_length=100)] = (Hawx(),)
    """Searches, each with its budget; the result is that of the first."""
    images: Count = 2000
    """Images that choices are measured on."""
    images_of: Literal["validation", "test"] = "validation"
    """Where these images are from. `test`: the first test images; results are then measured on the
    others only."""
    check: Annotated[int, Field(ge=0, le=10**6, strict=True)] = 0
    """Choices at random that predictors are checked on; the papers' number is 100."""
    correct_means: bool = False
    """Take the mean error of each filter off again, in every choice."""
    evaluation: Evaluation = Evaluation(threats=(Clean(),))
    """What is measured of each choice; accuracy under the first threat is that of the goal, the
    others are further objectives."""
    seed: Seed = 0
    """Root of the labels that `hessian` draws."""

    def choose_images(self, splits: Splits, *, calibration: int) -> SearchImages:
        """Return the images for profile, search and results; `calibration` is how many for means.

        Raises:
            SpecError: there are too few.
        """
        return SearchImages.of(
            splits,
            profile=self.profile_images,
            calibration=calibration,
            search=self.images,
            search_of=self.images_of,
        )

    @property
    def choices(self) -> int:
        """Choices that are measured, at most: those of all searches, of the check, and exact."""
        return 1 + self.check + sum(search.budget for search in self.searches)

    def passes(self, blocks: int, *, layers: int, calibration: int) -> Passes:
        """Return what searching takes, at most, before it begins.

        Args:
            blocks: number of multipliers.
            layers: convolutions and linear layers of the network.
            calibration: images that means are corrected on, where they are.
        """
        threats = self.evaluation.threats
        levels = sum(max(1, len(threat.levels)) for threat in threats)
        profiled = levels * (PROFILED + self.score.passes(blocks))
        profiled = sum(map(passes_under, threats), profiled)
        measured = self.evaluation.passes(self.images, layers=layers)
        corrected = Passes(2 * calibration if self.correct_means else 0)
        return self.profile_images * profiled + self.choices * (measured + corrected)

    @field_validator("searches")
    @classmethod
    def _check_titles(cls, searches: tuple[Search, ...]) -> tuple[Search, ...]:
        titles = [CHECK, *(search.title for search in searches)]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(
                    f"wanted a 'name' for each of several searches called {shorten(title)}"
                )
        return searches


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search over multipliers came to."""

    exploration: Exploration
    problem: Problem
    profile: Profile
    scores: Scores
    """Harm by filter and block."""
    exact_accs: tuple[Interval, ...]
    """Accuracy with exact products under each threat and level."""
    trials: dict[str, Trial]
    """By title of the search; `check` for choices that predictors are checked on."""
    seconds: dict[str, float] = field(default_factory=dict)
    """What profile and scores took."""

    @property
    def first(self) -> Trial:
        """The first search, whose choice is the result."""
        return next(iter(self.trials.values()))

    @property
    def chosen(self) -> Point | None:
        """The choice: the best measured one for the goal; None where none meets it."""
        return self.first.best(self.acc0)

    @property
    def network(self) -> IntegerNetwork | None:
        """The network with the multipliers of the choice; None where there is none."""
        chosen = self.chosen
        return None if chosen is None else self.problem.measuring.emulator.emulated(chosen.choice)

    @property
    def acc0(self) -> float:
        """Accuracy with exact products under the first threat."""
        return self.exact_accs[0].value


def explore(
    network: IntegerNetwork,
    exploration: Exploration,
    blocks: MultiplierSet,
    images: SearchImages,
    *,
    classes: int,
    executor: Executor | None = None,
    store: CountStore | None = None,
    only: Sequence[str] | None = None,
    progress: Progress = SILENT,
    stop: StopRequest | None = None,
) -> Outcome:
    """Search for multipliers of `network`, whose products are exact.

    Args:
        network: on the device where it is measured.
        exploration: what is wanted.
        blocks: what may multiply.
        images: for profile, search and results.
        classes: number of answers.
        executor: who measures; None: this process.
        store: counts that are known already; new ones are added.
        only: titles of the searches to carry out; None: all.
        progress: who watches.
        stop: asked between measurements.

    Raises:
        QuantizationError: the network has no layer to choose for, or a name is wrong.
        SpecError: the network has multipliers already, the clock is too fast for all but one, a
            threat gives no accuracy, or a search does not fit the problem.
        StoppedError: asked to stop; what is finished is in `store`.
    """
    if network.products:
        raise SpecError(
            f"network: wanted exact products, {len(network.products)} layers have multipliers "
            "already"
        )
    blocks = _in_time(blocks, exploration, progress)
    seconds: dict[str, float] = {}
    units = units_of(
        network,
        images.profile.inputs(slice(0, 1)),
        granularity=exploration.granularity,
        scope=exploration.scope,
        keep=exploration.keep,
    )
    if exploration.operands == "layers":
        few = images.profile.inputs(slice(0, OPERAND_IMAGES))
        blocks = with_layer_power(blocks, network, few, units)
    with _timed(seconds, "profile"):
        profile = take_profile(
            network,
            images.profile,
            units,
            signed=blocks.signed,
            judges=(exploration.score.judged, "margin"),
            seed=exploration.seed,
        )
    with _timed(seconds, "scores"):
        scores = exploration.score.score(profile, blocks)
        harms = [Harm(units.summed(scores), exploration.score.interactions(profile, blocks))]
        harms += _other_harms(exploration, network, blocks, images, units)
        margin_scores = weighted(profile, blocks, profile.energy("margin"))
    emulator = Emulator(
        network,
        units,
        blocks,
        exploration.evaluation,
        images.search,
        images.calibration,
        exploration.correct_means,
        str(network.device),
    )
    measuring = Measuring.opened(
        emulator, store or CountStore(), executor, progress=progress, stop=stop
    )
    with measuring.pool:
        problem = Problem(
            units=units,
            blocks=blocks,
            accelerator=exploration.accelerator,
            goal=exploration.goal,
            harms=tuple(harms),
            margin_scores=units.summed(margin_scores),
            margins=profile.margins.cpu().numpy(),
            measuring=measuring,
            chance=1 / classes,
        )
        (counted,) = measuring.measure([problem.exact], "exact products")
        exact_accs = accuracies(exploration.evaluation, images.search, counted)
        wanted = all_searches(exploration)
        trials = {
            title: _carried_out(search, problem)
            for title, search in wanted.items()
            if only is None or title in only
        }
    return Outcome(exploration, problem, profile, scores, exact_accs, trials, seconds)


def _in_time(blocks: MultiplierSet, exploration: Exploration, progress: Progress) -> MultiplierSet:
    """Return the multipliers that are fast enough for the clock, and tell of the others."""
    usable = exploration.accelerator.usable(blocks)
    if len(usable) == len(blocks):
        return blocks
    slow = ", ".join(name for n, name in enumerate(blocks.names) if n not in usable)
    if len(usable) < 2 or not any(blocks.all[number].is_exact for number in usable):
        raise SpecError(
            f"clock_mhz: wanted a clock that an exact multiplier and another one can follow, "
            f"{exploration.accelerator.clock_mhz:g} MHz is too fast for {slow}"
        )
    progress.say(f"left out, too slow for the clock: {slow}")
    return blocks.only(usable)


def _other_harms(
    exploration: Exploration,
    network: IntegerNetwork,
    blocks: MultiplierSet,
    images: SearchImages,
    units: Units,
) -> list[Harm]:
    """Return harm under each threat and level but the first."""
    score, seed = exploration.score, exploration.seed
    levels = [
        (threat, level)
        for threat in exploration.evaluation.threats
        for level in threat.levels or (0.0,)
    ]
    found = []
    for threat, level in levels[1:]:
        changed, seen = under(threat, level, network, images.profile, seed=seed)
        profile = take_profile(
            changed, seen, units, signed=blocks.signed, judges=(score.judged,), seed=seed
        )
        scores = units.summed(score.score(profile, blocks))
        found.append(Harm(scores, score.interactions(profile, blocks)))
    return found


def all_searches(exploration: Exploration) -> dict[str, Search]:
    """Return the searches by title, and the choices at random that check predictors."""
    found = {search.title: search for search in exploration.searches}
    if exploration.check:
        found[CHECK] = RandomChoices(name=CHECK, budget=exploration.check, seed=exploration.seed)
    return found


def _carried_out(search: Search, problem: Problem) -> Trial:
    trial = Trial(problem, search.budget, search.title)
    start = time.perf_counter()
    before = problem.measuring.spent
    with suppress(BudgetSpentError):
        search.run(problem, trial)
    trial.thinking = time.perf_counter() - start - (problem.measuring.spent - before)
    return trial


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
