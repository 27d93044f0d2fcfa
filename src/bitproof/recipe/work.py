"""What a run or a search will take, told before anything is trained, measured or written.

Model:  every stage and threat says how many images it sends through the network (`passes`), and a
        second of trying says how long an image takes (`speed`). An upper estimate, within a factor
        of two or three: attacks end early where networks fall. Workers do not shorten it; what is
        finished already is left out.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bitproof.approx import Arithmetic, Multiplier
from bitproof.approx.deploy import applicable
from bitproof.core.json_lines import JsonLines
from bitproof.core.lock import Shard
from bitproof.core.passes import STEP
from bitproof.data import Dataset, Splits
from bitproof.evaluation import Evaluation
from bitproof.exchange import open_network
from bitproof.explore import ChooseMultipliers
from bitproof.explore.directory import ExplorationDirectory
from bitproof.harden import Approximate, HardeningStage
from bitproof.quant import IntegerNetwork
from bitproof.recipe.building import build
from bitproof.recipe.directory import RunDirectory
from bitproof.recipe.estimate import Estimate
from bitproof.recipe.exploration import ExplorationRecipe
from bitproof.recipe.injection import find_network
from bitproof.recipe.recipe import FLOAT, Recipe, stages_of
from bitproof.recipe.speed import Speeds, few_of
from bitproof.train import Optimization


def estimate_run(
    recipe: Recipe, splits: Splits, out: Path, *, data_dir: Path | None = None
) -> Estimate:
    """Return what is left of a run in the directory `out`, on the device of `splits`.

    Raises:
        BitproofError: in its kinds, for whatever is wrong with recipe, data or directory.
    """
    folder, train, test = RunDirectory(out), splits.train, splits.test
    speeds = Speeds.of_model(
        build(recipe.model, train, seed=recipe.seed),
        recipe.quantization,
        train,
        augmentation=recipe.augmentation,
        data_dir=data_dir,
    )
    total = Estimate()
    if recipe.train and not folder.weights(FLOAT).exists():
        total += _training(recipe.train, len(train), speeds)
    stages = {name: recipe.stage(name) for name in (*recipe.stages, *recipe.multipliers)}
    for variant in _with_beginnings(recipe.variants):
        if variant and not folder.record(variant).exists():
            stage, arithmetic = stages[stages_of(variant)[-1]], _arithmetic(variant, stages, speeds)
            total += _stage(stage, len(train), speeds, arithmetic)
    measured = Counter(JsonLines(folder.tallies).read(lambda one: (one["variant"], one["threat"])))
    for variant in recipe.variants:
        network = folder.network(variant)
        if variant != FLOAT and not network.with_name(network.name + ".json").exists():
            total += speeds.floats().estimate(recipe.quantization.passes(len(train)))
        for threat in recipe.evaluation.threats:
            if variant == FLOAT and threat.integers_only:
                continue
            done = measured[variant, threat.title]
            part = 1 - min(1.0, done / len(threat.tasks(test))) if done else 1.0
            if not part:
                continue
            integers = variant != FLOAT
            arithmetic = _arithmetic(variant, stages, speeds)
            speed = speeds.integers(arithmetic) if integers else speeds.floats()
            passes = threat.passes(len(test), layers=speeds.layers)
            total += speed.estimate(passes, slowdown=threat.slowdown).share(part)
    return total


def estimate_exploration(
    recipe: ExplorationRecipe,
    splits: Splits,
    out: Path,
    *,
    shard: Shard | None = None,
    data_dir: Path | None = None,
    recipe_dir: Path | None = None,
) -> Estimate:
    """Return what is left of a search, or of a share of it, in `out`, on the device of `splits`.

    Raises:
        BitproofError: in its kinds, for whatever is wrong with recipe, data or directory.
    """
    folder, scheme, exploration = ExplorationDirectory(out), recipe.quantization, recipe.exploration
    n_train = len(splits.train)
    total = Estimate()
    if recipe.model is None:
        network = open_network(find_network(recipe.network, recipe_dir))
        speeds = Speeds(
            network.to(splits.train.labels.device), few_of(splits.train), data_dir=data_dir
        )
    else:
        model = build(recipe.model, splits.train, seed=recipe.seed)
        speeds = Speeds.of_model(
            model,
            scheme,
            splits.train,
            augmentation=recipe.augmentation,
            data_dir=data_dir,
        )
        if recipe.train is not None and not folder.weights.exists():
            total += _training(recipe.train, n_train, speeds)
        if not folder.network.with_name("network.json").exists():
            for stage in recipe.harden.values():
                total += _stage(stage, n_train, speeds, Arithmetic())
            total += speeds.floats().estimate(scheme.passes(n_train))
    mixed = _mixed(recipe.multipliers, speeds)
    passes = exploration.passes(
        len(recipe.multipliers),
        layers=speeds.layers,
        calibration=min(n_train, scheme.calibration_images),
    )
    known = sum(len(JsonLines(path).read(lambda one: one["key"])) for path in folder.all_counts())
    left = 1 - min(1.0, known / exploration.choices)
    share = left / (shard[1] if shard else 1)
    total += speeds.integers(mixed).estimate(passes).share(share)
    ends = exploration.searches[0].budget + len(exploration.searches) + 1
    held_out = len(splits.test)
    if exploration.images_of == "test":
        held_out = max(0, held_out - exploration.images)
    last = ends * exploration.evaluation.passes(held_out, layers=speeds.layers)
    total += speeds.integers(mixed).estimate(last)
    for stage in recipe.recover.values():
        total += _stage(stage, n_train, speeds, mixed)
    return total


def estimate_measurement(
    networks: Mapping[str, IntegerNetwork],
    evaluation: Evaluation,
    test: Dataset,
    *,
    data_dir: Path | None = None,
) -> Estimate:
    """Return what measuring stored networks takes, on the device where they and `test` lie.

    All of it, also where a part is finished already.
    """
    total = Estimate()
    for network in networks.values():
        speeds = Speeds(network.to(test.labels.device), few_of(test), data_dir=data_dir)
        for threat in evaluation.threats:
            passes = threat.passes(len(test), layers=speeds.layers)
            total += speeds.integers().estimate(passes, slowdown=threat.slowdown)
    return total


def _training(optimization: Optimization, images: int, speeds: Speeds) -> Estimate:
    passes = optimization.trained_images(images) * STEP
    return speeds.floats(optimization.precision).estimate(passes)


def _stage(stage: HardeningStage, images: int, speeds: Speeds, arithmetic: Arithmetic) -> Estimate:
    """Return what a stage takes, on a network that multiplies so afterwards."""
    optimization = getattr(stage, "optimization", None)
    precision = optimization.precision if isinstance(optimization, Optimization) else "float32"
    total = Estimate()
    if passes := stage.passes(images, layers=speeds.layers):
        total += speeds.floats(precision).estimate(passes)
    if passes := stage.integer_passes(images, layers=speeds.layers):
        total += speeds.integers(arithmetic).estimate(passes)
    return total


def _with_beginnings(variants: tuple[str, ...]) -> list[str]:
    """Return variants and what they begin with, each once, the shortest of a variant first.

    Example:
        >>> _with_beginnings(("float", "a+b", "a"))
        ['a', 'a+b']
    """
    names = [stages_of(variant) for variant in variants]
    found = ["+".join(own[:end]) for own in names for end in range(1, len(own) + 1)]
    return list(dict.fromkeys(found))


def _arithmetic(variant: str, stages: Mapping[str, HardeningStage], speeds: Speeds) -> Arithmetic:
    """Return what multiplies in a variant; of a choice to come, all candidates in turn."""
    found = Arithmetic()
    for stage in map(stages.__getitem__, stages_of(variant)):
        if isinstance(stage, Approximate):
            found = found.changed(stage.multiplier, stage.layers, correct_means=stage.correct_means)
        elif isinstance(stage, ChooseMultipliers):
            found = _mixed(stage.multipliers, speeds)
    return found


def _mixed(multipliers: Mapping[str, Multiplier], speeds: Speeds) -> Arithmetic:
    """Return all multipliers in turn, layer by layer."""
    each = list(multipliers.values())
    names = applicable(speeds.network)
    layers = {name: each[number % len(each)] for number, name in enumerate(names)}
    return Arithmetic(layers=layers)
