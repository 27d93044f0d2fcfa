"""From a recipe to a run directory: train, harden, quantize, measure, report.

Every network is written when it is finished and read back before it is used, so a resumed run
works on exactly the same numbers as an uninterrupted one.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from bitproof.approx import Arithmetic, describe
from bitproof.core.directory import read_json
from bitproof.core.errors import RecipeError, StoppedError, shorten
from bitproof.core.files import sha256_of_file, write_text
from bitproof.core.packages import check_packages
from bitproof.core.progress import SILENT, Progress
from bitproof.core.rng import derive_seed, make_generator
from bitproof.core.spec import Spec
from bitproof.core.stop_request import StopRequest
from bitproof.core.user_code import looking_in
from bitproof.data import Dataset, Splits
from bitproof.data.in_memory import InMemory
from bitproof.evaluation import EvaluatedModel, Executor, FloatModel, IntegerModel, Pool, TallyStore
from bitproof.evaluation.executors import InProcess
from bitproof.evaluation.models import PROFILE_IMAGES
from bitproof.evaluation.tasks import ending_of, settle_task
from bitproof.evaluation.threat import Counts
from bitproof.harden import Approximate, Candidate, TrainingContext
from bitproof.metrics import Classification, Ending, Own, Tally, Task
from bitproof.models import InMemoryModel, save_weights, weight_files
from bitproof.quant import (
    IntegerNetwork,
    Scheme,
    flip_error,
    load_network,
    network_files,
    redundancy,
    save_network,
    trace,
)
from bitproof.quant.fidelity import Fidelity
from bitproof.quant.flip_error import layer_weights
from bitproof.recipe.building import build, choose_device, untrained, weights_of
from bitproof.recipe.directory import RunDirectory, environment, now
from bitproof.recipe.overrides import Change
from bitproof.recipe.recipe import BASELINE, FLOAT, Recipe, stages_of
from bitproof.recipe.toml import read_recipe
from bitproof.report import write_report
from bitproof.report.html import REPORT
from bitproof.stats import Row, write_results
from bitproof.train import Checkpointer, ProcessGroup, joined_group, train_

T = TypeVar("T")


def run(
    recipe: Recipe | Path | str,
    out: Path | str | None = None,
    *,
    splits: Splits | None = None,
    model: nn.Module | None = None,
    device: str = "auto",
    data_dir: Path | str | None = None,
    recipe_dir: Path | str | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    progress: Progress = SILENT,
    stop: StopRequest | None = None,
    consent: Callable[[Splits], None] | None = None,
) -> Path:
    """Carry out `recipe`, an object or the path of one, and return the path of its report.

    With `splits`, the run works on these instead of the data of the recipe; with `model`, on copies
    of this module, which starts from the weights that it has: the recipe may not name any. The run
    directory `out` (None: `runs/NAME`) is as that of any other run; going on with it needs the same
    data and model again.

    Under `torchrun`, all processes share the training; the first of them measures and writes.
    Without an `executor`, this process measures. Files in the recipe are relative to `recipe_dir`,
    data sets lie in `data_dir` (None: `BITPROOF_DATA`), `resume` goes on with the run in `out`, and
    `stop` is asked between steps of training and between measurements. `consent` sees the data when
    nothing is done or written; what it raises ends the run.

    Raises:
        StoppedError: asked to stop; everything so far is kept, and `resume` goes on from there.
        ResumeError: another process works in `out`, or it belongs to other data or another model.
        BitproofError: in its kinds, for whatever is wrong with recipe, data, weights or disk.
    """
    if not isinstance(recipe, Recipe):
        recipe_dir = Path(recipe).parent if recipe_dir is None else recipe_dir
    recipe = _with_own(recipe, splits, model)
    check_packages(recipe, executor)
    out = Path("runs") / recipe.name if out is None else Path(out)
    data_dir = None if data_dir is None else Path(data_dir)
    recipe_dir = None if recipe_dir is None else Path(recipe_dir)
    place = choose_device(device)
    with joined_group(device) as group, ExitStack() as held:
        held.enter_context(looking_in(recipe_dir))
        folder = RunDirectory(out)
        if group.is_main:
            held.enter_context(folder.claimed())
            folder.check(recipe, resume=resume, progress=progress)
        weights = weights_of(recipe.weights, recipe.model, recipe_dir=recipe_dir, data_dir=data_dir)
        splits = (splits or recipe.data.load(data_dir)).to(place)
        if consent is not None and group.is_main:
            consent(splits)
        watch = progress if group.is_main else SILENT
        for note in splits.notes:
            watch.say(f"{splits.train.name}: {note}")
        stop = stop or StopRequest()
        task = _Run(recipe, folder, splits, weights, place, watch, stop, group, executor, data_dir)
        fingerprint = _fingerprint(splits, weights, place) | {"processes": str(group.size)}
        if group.is_main:
            before = folder.facts().get("fingerprint", fingerprint)
            folder.check_same(before, fingerprint, "cannot go on")
        task, facts = task.checked()
        if group.is_main:
            beside = {} if recipe_dir is None else {"recipe_dir": str(recipe_dir.resolve())}
            around = beside | environment(place)
            engine = (executor or InProcess()).told
            folder.begin(recipe, fingerprint=fingerprint, engine=engine, **around, **facts)
        group.wait()
        return task.carry_out()


def _with_own(
    recipe: Recipe | Path | str, splits: Splits | None, model: nn.Module | None
) -> Recipe:
    """Return the recipe with what was handed over in the place of what it names."""
    changes: dict[str, Spec] = {}
    if splits is not None:
        changes["data"] = InMemory(name=splits.train.name)
    if model is not None:
        changes["model"] = InMemoryModel.of(model)
    if not isinstance(recipe, Recipe):
        # A recipe in a file need not name what is handed over.
        laid_on = [Change((key,), value.model_dump(), key) for key, value in changes.items()]
        recipe = read_recipe(Path(recipe), laid_on)
    if model is not None and recipe.weights:
        raise RecipeError(
            "weights: wanted none where a model is handed over, which starts from those that it "
            f"has; the recipe names {shorten(recipe.weights)}: load them into the model, or leave "
            "out one of the two"
        )
    return recipe.model_copy(update=changes)


def _fingerprint(splits: Splits, weights: Path | None, device: torch.device) -> dict[str, str]:
    """Return what must not change between the parts of a run, beside its recipe."""
    around = environment(device)
    fingerprint = {name: str(around[name]) for name in ("bitproof", "torch", "device")}
    parts = {"train": splits.train, "test": splits.test}
    fingerprint |= {f"data.{name}": part.digest() for name, part in parts.items()}
    for number, file in enumerate(weight_files(weights) if weights else ()):
        fingerprint[f"weights.{file.name}" if number else "weights"] = sha256_of_file(file)
    return fingerprint


@dataclass(frozen=True)
class _Run:
    """One run under way."""

    recipe: Recipe
    folder: RunDirectory
    splits: Splits
    weights: Path | None
    device: torch.device
    progress: Progress
    stop: StopRequest
    group: ProcessGroup
    executor: Executor | None
    data_dir: Path | None

    def checked(self) -> tuple["_Run", dict[str, Any]]:
        """Find out before hours of training whether the network can be built and quantized.

        Returns:
            The same run with the task of its network and images, and facts for run.json.
        """
        multipliers = self.recipe.multipliers.items()
        described = {name: describe(multiplier, self.data_dir) for name, multiplier in multipliers}
        labels = self.recipe.evaluation.labels().items()
        taken: list[str] = []
        model, train = self._build(self.weights, taken.append), self.splits.train
        for said in taken:
            self.progress.say(f"weights: {said}")
        warning = self._untrained(model)
        ending: Ending = "unknown"
        if set(self.recipe.variants) != {FLOAT}:
            ending = ending_of(trace(model, train.inputs(slice(0, 1))).nodes)
        test = settle_task(
            self.splits.test, model.eval(), self.recipe.task, ending=ending, progress=self.progress
        )
        self._check_training(test.task)
        self.recipe.evaluation.measurements(test)  # refuses what it cannot measure on
        counted = sum(weight.numel() for weight in model.parameters())
        sizes = {"n_train": len(train), "n_test": len(test)}
        facts = {
            "model": {"kind": self.recipe.model.kind, "parameters": counted},
            **({"weights": ", ".join([self.weights.name, *taken])} if self.weights else {}),
            "data": {
                **{"name": train.name, "digest": train.digest(), **sizes},
                **({"notes": [*self.splits.notes]} if self.splits.notes else {}),
                **({"classes": [*train.class_names]} if train.class_names else {}),
            },
            **({"untrained": warning} if warning else {}),
            "multipliers": described,
            "threats": {title: asdict(label) for title, label in labels},
        }
        if test.task and test.task.identity:
            facts["task"] = test.task.model_dump(mode="json")
        return replace(self, splits=replace(self.splits, test=test)), facts

    def _untrained(self, model: nn.Module) -> str:
        """Return a warning, which is said, if random weights are what is going to be measured."""
        if not self.recipe.starts_bare:
            return ""
        spec, seed = self.recipe.model, self.recipe.seed
        warning = untrained(model.cpu(), spec, self.splits.train, seed=seed)
        model.to(self.device)
        if warning:
            self.progress.say(f"warning: {warning}")
        return warning

    def _check_training(self, task: Task | None) -> None:
        """Refuse to train for a task whose loss no stage knows."""
        stages = [self.recipe.stage(n) for v in self.recipe.variants for n in stages_of(v)]
        trains = self.recipe.train or not all(isinstance(one, Approximate) for one in stages)
        if trains and not isinstance(task, Classification | Own):
            raise RecipeError(
                f"task: wanted a classification, the only task that is trained for, got "
                f"'{task.kind if task else task}'; give 'weights' and leave out what trains"
            )

    def carry_out(self) -> Path:
        """Do whatever is not done yet."""
        store = TallyStore(self.folder.tallies)
        evaluation, test = self.recipe.evaluation, self.splits.test
        train = self.splits.train
        profile = train.first(min(len(train), PROFILE_IMAGES))
        models = Networks(self.recipe, self.folder, profile, self.device, self.data_dir)
        rows: list[Row] = []
        warnings = [f"{train.name}: {note}" for note in self.splits.notes]
        warnings += filter(None, [self.folder.facts().get("untrained")])
        with evaluation.open(models, test, self.executor) as pool:
            if not self.folder.results.exists():
                pool.prepare()
            self._float_network()
            for variant in self.recipe.variants:
                if variant != FLOAT:
                    self._integer_network(variant)
                counts = self._alone(partial(self._measure, variant, models, store, pool))
                if counts is not None:
                    rows += evaluation.rows(variant, counts)
                    warnings += evaluation.warnings(variant, counts, test)
                    warnings += self._left_float(variant)
                    warnings += self._far_from_floats(variant)
        if self.group.is_main:
            write_results(rows, self.folder.results)
            self.folder.note(warnings=warnings, finished=now())
            write_report(self.folder.path)
            self.folder.finish()
        self.group.wait()
        return self.folder.path / REPORT

    def _left_float(self, variant: str) -> list[str]:
        """Return what the training of a variant could not put on its grids."""
        path = self.folder.record(variant)
        found = []
        for stage in read_json(path)["stages"] if path.exists() else ():
            if names := stage["record"].get("left_float"):
                shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                found.append(
                    f"{variant}: {stage['stage']} trained {len(names)} parts of the network as "
                    f"floats, untouched by what it trains for: {shown}"
                )
        return found

    def _far_from_floats(self, variant: str) -> list[str]:
        """Return what the comparison of an integer network with its floats warned of."""
        path = self.folder.statistics(variant)
        found = read_json(path).get("fidelity") if path.exists() else None
        warning = Fidelity.from_dict(found).warning if found else ""
        return [f"{variant}: {warning}"] if warning else []

    def _alone(self, work: Callable[[], T]) -> T | None:
        """Let the main process work, while the others wait; all stop if it is asked to stop."""
        stopped, result = None, None
        if self.group.is_main:
            try:
                result = work()
            except StoppedError as error:
                stopped = error
        if self.group.agree(stopped is not None):
            self._stop()
        return result

    def _stop(self) -> None:
        self.stop.request()
        self.stop.check()

    def _measure(
        self, variant: str, models: "Networks", store: TallyStore, pool: Pool[Any, Tally]
    ) -> Mapping[str, Counts]:
        """Measure whatever is not measured yet on one network; return all its counts."""
        evaluation = self.recipe.evaluation
        digest = models(variant).digest()
        self.folder.note(networks={variant: digest})
        keys = evaluation.keys(digest, self.splits.test)
        counts = evaluation.counts(keys, store)
        if counts is None or any(store.get(key) is None for key in keys.values()):
            with self._timed(f"evaluate {variant}"):
                evaluation.measure(
                    variant, keys, pool=pool, store=store, progress=self.progress, stop=self.stop
                )
            counts = evaluation.counts(keys, store)
        assert counts is not None
        return counts

    @contextmanager
    def _timed(self, task: str) -> Iterator[None]:
        """Add the time of a task to run.json."""
        before = self.folder.facts().get("durations", {}).get(task, 0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = before + time.perf_counter() - start
            if self.group.is_main:
                self.folder.note(durations={task: round(spent, 3)})

    def _checkpointer(self, variant: str) -> Checkpointer:
        return Checkpointer(self.folder.checkpoint(variant), stop=self.stop)

    def _absent(self, *paths: Path) -> bool:
        """Return whether the run lacks one of the files, the same in every process."""
        return not self.group.agree(all(path.exists() for path in paths))

    def _stage_files(self, variant: str) -> tuple[Path, Path]:
        """Return what the last stage of a variant writes."""
        return self.folder.record(variant), self.folder.weights(variant)

    def _build(self, weights: Path | None, tell: Callable[[str], None] | None = None) -> nn.Module:
        spec, seed = self.recipe.model, self.recipe.seed
        model = build(spec, self.splits.train, seed=seed, weights=weights, tell=tell)
        return model.to(self.device)

    def _float_network(self) -> None:
        """Train or load the network that everything starts from, unless it is there."""
        path = self.folder.weights(FLOAT)
        if not self._absent(path):
            return
        model, checkpointer = self._build(self.weights), self._checkpointer(FLOAT)
        if self.recipe.train:
            with self._timed("train float"):
                train_(
                    model,
                    self.splits.train,
                    self.recipe.train,
                    generator=make_generator(self.recipe.seed, "train"),
                    augmentation=self.recipe.augmentation,
                    checkpointer=checkpointer,
                    group=self.group,
                    progress=self.progress,
                )
        if self.group.is_main:
            save_weights(model.cpu(), path)
            checkpointer.forget()
        self.group.wait()

    def _model(self, variant: str) -> nn.Module:
        return self._build(self.folder.weights(variant)).eval()

    def _candidate(self, variant: str) -> Candidate:
        """Return the hardened network of a variant; what is finished is read from disk."""
        stages = stages_of(variant)
        if not stages:
            return Candidate(self._model(FLOAT), self.recipe.quantization, data_dir=self.data_dir)
        if self._absent(*self._stage_files(variant)):
            before = self._candidate("+".join(stages[:-1]) or BASELINE)
            checkpointer = self._checkpointer(variant)
            context = TrainingContext(
                train=self.splits.train,
                seed=derive_seed(self.recipe.seed, *stages),
                augmentation=self.recipe.augmentation,
                checkpointer=checkpointer,
                group=self.group,
                progress=self.progress,
            )
            with self._timed(f"harden {variant}"):
                done = self.recipe.stage(stages[-1]).apply(before, context)
            if self.group.is_main:
                save_weights(done.model.cpu(), self.folder.weights(variant))
                self._write_record(variant, done)
                checkpointer.forget()
            self.group.wait()
        return self._read_candidate(variant)

    def _write_record(self, variant: str, done: Candidate) -> None:
        stages = [
            {"stage": name, **record}
            for name, record in zip(stages_of(variant), done.record, strict=True)
        ]
        record = {
            "stages": stages,
            "scheme": done.scheme.model_dump(mode="json"),
            "shrink": dict(done.shrink),
            "correct_bias": done.correct_bias,
            "arithmetic": done.arithmetic.model_dump(mode="json"),
        }
        write_text(self.folder.record(variant), json.dumps(record, indent=1) + "\n")

    def _read_candidate(self, variant: str) -> Candidate:
        record = read_json(self.folder.record(variant))
        return Candidate(
            model=self._model(variant),
            scheme=Scheme.model_validate(record["scheme"]),
            shrink=record["shrink"],
            correct_bias=record["correct_bias"],
            arithmetic=Arithmetic.model_validate(record["arithmetic"]),
            data_dir=self.data_dir,
            record=tuple({"kind": s["kind"], "record": s["record"]} for s in record["stages"]),
        )

    def _integer_network(self, variant: str) -> None:
        """Harden and quantize a variant, unless it is there."""
        path, stages = self.folder.network(variant), stages_of(variant)
        steps = ["+".join(stages[: n + 1]) for n in range(len(stages))]
        unmade = [step for step in steps if self._absent(*self._stage_files(step))]
        absent = self._absent(*network_files(path), self.folder.statistics(variant))
        if (unmade or absent) and self.group.agree(self.stop.requested):
            self._stop()
        for step in unmade:
            self._candidate(step)
        if not absent:
            return
        candidate = self._candidate(variant)
        if self.group.is_main:
            network = candidate.quantize(self.splits.train)
            if network.fidelity:
                self.progress.say(f"{variant}: {network.fidelity.line}")
            # First: what is there under the network's name is taken for finished.
            self._write_statistics(variant, network, candidate.scheme)
            save_network(network.to("cpu"), path)
        self.group.wait()

    def _write_statistics(self, variant: str, network: IntegerNetwork, scheme: Scheme) -> None:
        """Write how far a network is from floats, and what flipped bits do to weights of layers."""
        found: dict[str, Any] = {}
        if network.fidelity:
            found["fidelity"] = network.fidelity.to_dict()
        if layer_weights(network):
            found |= self._weight_statistics(variant, network, scheme)
        write_text(self.folder.statistics(variant), json.dumps(found) + "\n")

    def _weight_statistics(
        self, variant: str, network: IntegerNetwork, scheme: Scheme
    ) -> dict[str, Any]:
        images = self.splits.train.inputs(slice(0, min(scheme.calibration_images, PROFILE_IMAGES)))
        generator = make_generator(self.recipe.seed, "flip error", variant)
        return {
            "flips": flip_error(network, generator=generator).to_dict(),
            "redundancy": redundancy(network, images).to_dict(),
        }


@dataclass(frozen=True)
class Networks:
    """The finished networks of a run by variant, for whoever measures them."""

    recipe: Recipe
    folder: RunDirectory
    profile: Dataset
    """Training images: their shape decides that of the network, their activations bounds."""
    device: torch.device
    data_dir: Path | None = None
    """Where tables of multipliers are read from."""

    def __call__(self, variant: str) -> EvaluatedModel:
        """Return a network, read from the run directory."""
        if variant != FLOAT:
            network = load_network(self.folder.network(variant)).to(self.device)
            return IntegerModel(network, self.profile, self.data_dir)
        model = build(self.recipe.model, self.profile, weights=self.folder.weights(FLOAT))
        return FloatModel(model.to(self.device).eval())
