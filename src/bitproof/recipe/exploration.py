"""A search over multipliers as a recipe: on a model that is quantized, or on a network."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator

from bitproof.approx import AnyMultiplier, Arithmetic
from bitproof.core.errors import RecipeError, shorten
from bitproof.core.files import write_text
from bitproof.core.lock import Shard, claim, hold
from bitproof.core.packages import check_packages
from bitproof.core.progress import SILENT, Progress
from bitproof.core.rng import derive_seed, make_generator
from bitproof.core.stop_request import StopRequest
from bitproof.core.user_code import looking_in
from bitproof.core.version import __version__
from bitproof.data import Splits
from bitproof.evaluation import Executor, InProcess
from bitproof.exchange import open_network
from bitproof.explore import Exploration, SearchImages, explore, read_multipliers
from bitproof.explore.count_store import CountStore
from bitproof.explore.directory import ExplorationDirectory
from bitproof.explore.exploration import Outcome, all_searches
from bitproof.explore.point import Point
from bitproof.explore.search_images import HeldOut, measured_accuracies
from bitproof.explore.summary import summarize_exploration
from bitproof.harden import Approximate, Candidate, TrainingContext
from bitproof.models import save_weights
from bitproof.quant import IntegerNetwork, load_network, network_files, save_network
from bitproof.recipe.building import build, untrained, weights_of
from bitproof.recipe.injection import find_network
from bitproof.recipe.recipe import (
    BASELINE,
    FLOAT,
    AnyAugmentation,
    AnyStage,
    MultiplierName,
    Name,
    NetworkRecipe,
    Recipe,
    StageName,
)
from bitproof.recipe.stored_networks import check_classes, check_fit
from bitproof.recipe.toml import write_recipe
from bitproof.report.exploration_page import EXPLORATION_SCHEMA, write_exploration_report
from bitproof.stats.costs import undominated
from bitproof.train import Checkpointer, Optimization, train_

CHOSEN = "chosen"
"""The choice as a stage of a recipe."""


class ExplorationRecipe(NetworkRecipe):
    """Everything that decides the result of a search, and nothing else."""

    name: Name = "explore"
    """Short name, for directories: letters, digits, `_`, `.`, `+`, `-`."""
    train: Optimization | None = None
    """Float training before everything else; none needs `weights`."""
    augmentation: Annotated[tuple[AnyAugmentation, ...], Field(max_length=100)] = ()
    """Random changes of training images, in all training."""
    harden: dict[StageName, AnyStage] = Field(default_factory=dict, max_length=100)
    """Hardening stages before the search, in this order."""
    recover: dict[StageName, AnyStage] = Field(default_factory=dict, max_length=100)
    """Stages after it, on the multipliers that were chosen."""
    multipliers: Annotated[dict[MultiplierName, AnyMultiplier], Field(max_length=1000)]
    """What there is to choose from, by name; one of them exact."""
    exploration: Exploration = Exploration()
    """What is searched, and how."""

    @model_validator(mode="after")
    def _check_parts(self) -> "ExplorationRecipe":
        if self.network and (self.harden or self.recover or self.train):
            raise ValueError("network: it is complete; harden, recover and train need a 'model'")
        bare = self.model is not None and not self.model.brings_weights
        if bare and self.train is None and not self.weights:
            raise ValueError("wanted 'weights', or a table 'train', or both; none came")
        taken = {FLOAT, BASELINE, CHOSEN}
        for name in (*self.harden, *self.recover):
            if name in taken:
                raise ValueError(f"wanted another name for stage {shorten(name)}: it is taken")
            taken.add(name)
        return self


def explore_recipe(
    recipe: ExplorationRecipe,
    out: Path,
    *,
    executor: Executor | None = None,
    shard: Shard | None = None,
    device: str = "cpu",
    data_dir: Path | None = None,
    recipe_dir: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
    stop: StopRequest | None = None,
    consent: Callable[[Splits], None] | None = None,
) -> Path | None:
    """Carry out a search and return the path of its report; None while shares are missing.

    `shard=(k, n)` does the k-th of n shares of the searches, counted from 1. Without an `executor`,
    this process measures; files in the recipe are relative to `recipe_dir`, data sets lie in
    `data_dir` (None: `BITPROOF_DATA`), and `resume` goes on with the search in `out`. `consent`
    sees the data when nothing is done or written; what it raises ends the search.

    Raises:
        StoppedError: asked to stop; everything so far is kept, and `resume` goes on from there.
        BitproofError: in its kinds, for whatever is wrong with recipe, data, weights or disk.
    """
    check_packages(recipe, executor)
    directory = ExplorationDirectory(out)
    directory.check_place()
    with ExitStack() as held:
        held.enter_context(looking_in(recipe_dir))
        splits = recipe.data.load(data_dir)
        for note in splits.notes:
            progress.say(f"{splits.test.name}: {note}")
        if consent is not None:
            consent(splits)
        blocks = read_multipliers(
            recipe.multipliers,
            costs=recipe.exploration.costs,
            data_dir=data_dir,
            folder=recipe_dir,
        )
        images = recipe.exploration.choose_images(
            splits.to(device), calibration=recipe.quantization.calibration_images
        )
        held.enter_context(claim(out, shard=shard))
        fingerprint = {
            "recipe": recipe.to_dict(),
            "multipliers": blocks.digest,
            "data": {"train": splits.train.digest(), "test": splits.test.digest()},
            "versions": {"bitproof": __version__, "torch": torch.__version__},
        }
        directory.begin(
            {"fingerprint": fingerprint},
            resume=resume or shard is not None,
            progress=progress,
            log=directory.counts_of(shard),
        )
        work = _Work(recipe, directory, splits, data_dir, recipe_dir, progress, stop)
        network = work.network().to(device)
        outcome = explore(
            network,
            recipe.exploration,
            blocks,
            images,
            classes=int(network(images.search.inputs(slice(0, 1))).shape[-1]),
            executor=executor,
            store=CountStore(directory.counts_of(shard), directory.all_counts()),
            only=_share(recipe.exploration, shard),
            progress=progress,
            stop=stop,
        )
        if shard is not None:
            write_text(directory.finished(shard), "")
            marks = [directory.finished((number, shard[1])) for number in range(1, shard[1] + 1)]
            if not all(mark.exists() for mark in marks):
                return None
            outcome = explore(
                network,
                recipe.exploration,
                blocks,
                images,
                classes=round(1 / outcome.problem.chance),
                store=CountStore(directory.counts_of(shard), directory.all_counts()),
                progress=progress,
                stop=stop,
            )
        return work.finish(outcome, images, engine=(executor or InProcess()).told)


@dataclass(frozen=True)
class _Work:
    """One search under way."""

    recipe: ExplorationRecipe
    directory: ExplorationDirectory
    splits: Splits
    data_dir: Path | None
    recipe_dir: Path | None
    progress: Progress
    stop: StopRequest | None

    def network(self) -> IntegerNetwork:
        """Return the network with exact products, read from the directory once it is there."""
        path = self.directory.network
        with hold(self.directory.path / ".network"):
            if not _stored(path):
                save_network(self._made(), path)
        return load_network(path)

    def finish(self, outcome: Outcome, images: SearchImages, *, engine: str) -> Path:
        """Write what was found, measured on images that no search has seen."""
        directory = self.directory
        chosen = outcome.chosen
        bests = [trial.best(outcome.acc0) for trial in outcome.trials.values()]
        first = outcome.first.points
        front = [first[n] for n in undominated([(-point.cost, point.acc) for point in first])]
        points = [*front, *filter(None, bests)]
        wanted = [outcome.problem.exact, *(point.choice for point in points)]
        store = CountStore(directory.held_out)
        held_out = HeldOut.measured(outcome.problem.measuring, wanted, images.held_out, store)
        summary = {
            "schema": EXPLORATION_SCHEMA,
            "title": self.recipe.title or self.recipe.name,
            "source": self.recipe.source,
            "model": self.recipe.network or (self.recipe.model.kind if self.recipe.model else ""),
            "data": images.search.name,
            "images": {
                "profile": len(images.profile),
                "search": outcome.problem.images,
                "held_out": len(images.held_out),
                "of": self.recipe.exploration.images_of,
            },
            "exploration": self.recipe.exploration.model_dump(mode="json"),
            "network": outcome.problem.measuring.emulator.network.digest(),
            "versions": {"bitproof": __version__, "torch": torch.__version__},
            "device": str(outcome.problem.measuring.emulator.network.device),
            "engine": engine,
            **summarize_exploration(outcome, chosen, held_out),
        }
        if chosen is not None:
            recovered = self._write_choice(outcome, chosen, images)
            summary["recovered"] = recovered
        write_text(directory.summary, json.dumps(summary, allow_nan=False) + "\n")
        _write_front(summary, directory.front)
        report = write_exploration_report(directory.path)
        directory.finish()
        return report

    def _made(self) -> IntegerNetwork:
        if self.recipe.network:
            network = open_network(find_network(self.recipe.network, self.recipe_dir))
            check_fit(self.recipe.network, network, self.splits.test)
            check_classes(network, self.splits.test, work="explore")
            if network.products:
                raise RecipeError(
                    f"network: wanted exact products, {self.recipe.network} has multipliers already"
                )
            return network
        return self._candidate().quantize(self.splits.train)

    def _candidate(self) -> Candidate:
        """Return the network before the search: trained, and hardened."""
        recipe, path = self.recipe, self.directory.weights
        assert recipe.model is not None
        weights = weights_of(
            recipe.weights, recipe.model, recipe_dir=self.recipe_dir, data_dir=self.data_dir
        )
        model = build(
            recipe.model,
            self.splits.train,
            seed=recipe.seed,
            weights=path if path.exists() else weights,
            tell=lambda said: self.progress.say(f"weights: {said}"),
        )
        bare = recipe.train is None and weights is None and not path.exists()
        if bare and (
            warning := untrained(model, recipe.model, self.splits.train, seed=recipe.seed)
        ):
            self.progress.say(f"warning: {warning}")
        if not path.exists():
            checkpointer = self._checkpointer(FLOAT)
            if recipe.train is not None:
                train_(
                    model,
                    self.splits.train,
                    recipe.train,
                    generator=make_generator(recipe.seed, "train"),
                    augmentation=recipe.augmentation,
                    checkpointer=checkpointer,
                    progress=self.progress,
                )
            save_weights(model, path)
            checkpointer.forget()
        candidate = Candidate(model.eval(), recipe.quantization, data_dir=self.data_dir)
        return self._after(candidate, recipe.harden, ())

    def _after(
        self, candidate: Candidate, stages: Mapping[str, Any], before: Sequence[str]
    ) -> Candidate:
        """Return a candidate after stages, whose draws are those of a run with the same names."""
        for number, (name, stage) in enumerate(stages.items()):
            names = (*before, *list(stages)[: number + 1])
            checkpointer = self._checkpointer("+".join(names))
            context = TrainingContext(
                train=self.splits.train,
                seed=derive_seed(self.recipe.seed, *names),
                augmentation=self.recipe.augmentation,
                checkpointer=checkpointer,
                progress=self.progress,
            )
            self.progress.say(f"stage {name}")
            candidate = stage.apply(candidate, context)
            checkpointer.forget()
        return candidate

    def _checkpointer(self, name: str) -> Checkpointer:
        return Checkpointer(self.directory.checkpoint(name), stop=self.stop)

    def _write_choice(
        self, outcome: Outcome, chosen: Point, images: SearchImages
    ) -> list[list[float]] | None:
        """Write the choice in all its forms; return accuracies after recovery, if there is any."""
        directory, emulator = self.directory, outcome.problem.measuring.emulator
        arithmetic = emulator.arithmetic(chosen.choice)
        write_text(directory.chosen, arithmetic.model_dump_json() + "\n")
        calibration = images.calibration.inputs()
        network = arithmetic.apply(
            emulator.network.to("cpu"), calibration.cpu(), data_dir=self.data_dir
        )
        save_network(network, directory.chosen_network)
        if self.recipe.model is None:
            return None
        if not directory.weights.exists():
            self._candidate()
        write_recipe(_run_recipe(self.recipe, arithmetic, directory), directory.recipe)
        if not self.recipe.recover:
            return None
        stem = directory.recovered_network
        if not _stored(stem):
            candidate = replace(self._candidate(), arithmetic=arithmetic)
            before = (*self.recipe.harden, CHOSEN)
            done = self._after(candidate, self.recipe.recover, before)
            recovered = done.quantize(self.splits.train)
            save_network(recovered, stem)
        recovered = load_network(stem).to(emulator.network.device)
        found = measured_accuracies(
            recovered, emulator.evaluation, images.held_out, images.calibration
        )
        return [list(acc) for acc in found]


def _run_recipe(
    recipe: ExplorationRecipe, arithmetic: Arithmetic, directory: ExplorationDirectory
) -> Recipe:
    """Return a recipe for `bitproof run` that has the choice as a stage."""
    assert recipe.model is not None
    chosen = Approximate(layers=arithmetic.layers, correct_means=arithmetic.correct_means)
    before, after = "+".join(recipe.harden), "+".join(recipe.recover)
    variants = [before or BASELINE, "+".join(filter(None, (before, CHOSEN)))]
    if after:
        variants.append(f"{variants[-1]}+{after}")
    return Recipe(
        name=f"{recipe.name}-chosen",
        title=recipe.title + _searched(recipe),
        source=recipe.source,
        seed=recipe.seed,
        data=recipe.data,
        model=recipe.model,
        weights=directory.weights.name,
        augmentation=recipe.augmentation,
        quantization=recipe.quantization,
        stages={**recipe.harden, CHOSEN: chosen, **recipe.recover},
        variants=(FLOAT, *variants),
        evaluation=recipe.exploration.evaluation,
    )


def _searched(recipe: ExplorationRecipe) -> str:
    """Return a warning where test images were searched on, which a run measures on as well."""
    if recipe.exploration.images_of == "validation":
        return ""
    return f" (chosen on the first {recipe.exploration.images} test images)"


def _stored(stem: Path) -> bool:
    """Return whether both files of an integer network are there."""
    return all(path.exists() for path in network_files(stem))


def _share(exploration: Exploration, shard: Shard | None) -> list[str] | None:
    """Return the searches of a share, None for all."""
    if shard is None:
        return None
    return list(all_searches(exploration))[shard[0] - 1 :: shard[1]]


def _write_front(summary: Mapping[str, Any], path: Path) -> None:
    """Write the front as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [f"{one['title']} {one['level']:g}".strip() for one in summary["objectives"]]
    columns = ("cost", "power", "area", "latency", "energy")
    writer.writerow(
        [
            "search",
            *columns,
            *chain.from_iterable(
                (f"{name} acc", f"{name} ci_low", f"{name} ci_high") for name in names
            ),
            "predicted acc",
            "choice",
        ]
    )
    for row in summary["front"]:
        intervals = [
            f"{one:.6g}" for low, value, high in row["intervals"] for one in (value, low, high)
        ]
        predicted = "" if row["predicted"] is None else f"{row['predicted'][1]:.6g}"
        figures = [f"{row[name]:.6g}" for name in columns]
        writer.writerow([row["search"], *figures, *intervals, predicted, row["choice"]])
    write_text(path, text.getvalue())
