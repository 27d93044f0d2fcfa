"""The main job as a few calls, for programs and notebooks.

Each verb does what the command line does, on data and models in memory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor, nn

from bitproof.approx import Multiplier
from bitproof.attacks import InputAttack
from bitproof.core.errors import DataError, SpecError
from bitproof.core.packages import check_packages
from bitproof.core.progress import SILENT, Progress
from bitproof.core.rng import derive_seed, make_generator
from bitproof.data import DATA, Augmentation, Dataset, Splits
from bitproof.evaluation import (
    EvaluatedModel,
    Evaluation,
    Executor,
    FloatModel,
    IntegerModel,
    TallyStore,
    check_data,
)
from bitproof.evaluation.adversarial_examples import check_attack
from bitproof.evaluation.models import PROFILE_IMAGES
from bitproof.evaluation.tasks import AnyTaskLike, ending_of, settle_task
from bitproof.explore import Exploration, Outcome, explore, read_multipliers
from bitproof.harden import Candidate, HardeningStage, TrainingContext
from bitproof.metrics import Ending
from bitproof.models import MODELS
from bitproof.models.user_module import dtype_of
from bitproof.quant import IntegerNetwork, Scheme
from bitproof.recipe.building import build
from bitproof.recipe.stored_networks import check_classes
from bitproof.stats import Row
from bitproof.train import Optimization, train_


def load_data(kind: str, data_dir: Path | str | None = None, **parameters: Any) -> Splits:
    """Return training, validation and test images of a known data set, or of your own.

    `kind` is a data set, or `folder:DIR`, `npz:FILE`, `parquet:DIR`, `package.module:function`.
    `parameters` are fields of the source, for example `train_size=1000` or `size=32`; `data_dir` is
    the folder of its files, None for `BITPROOF_DATA`.

    Raises:
        UnknownKindError: there is no such data set.
        DataError: its files are missing or malformed.

    Example:
        >>> len(load_data("digits").test)
        539
    """
    source = DATA.build({"kind": kind, **parameters})
    return source.load(None if data_dir is None else Path(data_dir))


def build_model(kind: str, splits: Splits, *, seed: int = 0, **parameters: Any) -> nn.Module:
    """Return a known architecture for the images of `splits`, with weights drawn from `seed`.

    Raises:
        UnknownKindError: there is no such architecture.
        ModelError: it does not fit the images.
    """
    return build(MODELS.build({"kind": kind, **parameters}), splits.train, seed=seed)


def search_multipliers(
    network: IntegerNetwork,
    splits: Splits,
    multipliers: Mapping[str, Multiplier],
    exploration: Exploration | None = None,
    *,
    data_dir: Path | str | None = None,
    executor: Executor | None = None,
    progress: Progress = SILENT,
) -> Outcome:
    """Search which unit of `network` may use which of `multipliers`, one of which is exact.

    Validation images are searched on (`exploration.images_of`); tables and published costs are read
    from `data_dir`. The result is `Outcome.chosen`; `Outcome.network` has its multipliers.

    Raises:
        SpecError: multipliers, images or searches do not fit.
        DataError: labels lie beyond the network's outputs.
        InputShapeError: images are of another shape than those of calibration.
        QuantizationError: the network has no layer that could choose.

    Example:
        >>> from bitproof.approx import Exact, Truncated
        >>> from bitproof.quant import quantize
        >>> splits = load_data("digits")
        >>> network = quantize(build_model("digits_cnn", splits).eval(), splits.train.inputs())
        >>> search_multipliers(network, splits, {"exact": Exact(), "rough": Truncated(columns=6)})
        Traceback (most recent call last):
        bitproof.core.errors.SpecError: exact: wanted a published cost, there is none; ...
    """
    exploration = exploration or Exploration()
    check_packages(exploration, multipliers, executor)
    check_classes(network, splits.test, work="search_multipliers")
    folder = None if data_dir is None else Path(data_dir)
    blocks = read_multipliers(multipliers, costs=exploration.costs, data_dir=folder)
    images = exploration.choose_images(splits, calibration=PROFILE_IMAGES)
    check_data("network", IntegerModel(network), images.search)
    answers = network(images.search.inputs(slice(0, 1)))
    return explore(
        network,
        exploration,
        blocks,
        images,
        classes=answers.shape[-1],
        executor=executor,
        progress=progress,
    )


def train_model(
    model: nn.Module,
    data: Dataset,
    optimization: Optimization | None = None,
    *,
    seed: int = 0,
    augmentation: Sequence[Augmentation] = (),
    progress: Progress = SILENT,
) -> nn.Module:
    """Train `model` in place on the cross-entropy and return it, in evaluation mode.

    Wrappers such as `DataParallel` or `torch.compile` stay on it.

    Raises:
        DivergenceError: the loss is NaN or infinite.
        ModelError: it is no module as written in Python.
        DataError: there are no images, or labels are no classes or lie beyond the outputs.
        InputShapeError: the model does not run on the images.
    """
    check_data("model", FloatModel(model), data)
    _check_trainable(data)
    generator = make_generator(seed, "train")
    train_(
        model, data, optimization, generator=generator, augmentation=augmentation, progress=progress
    )
    return model


def harden_model(
    model: nn.Module | Candidate,
    stages: Sequence[HardeningStage],
    data: Dataset,
    *,
    scheme: Scheme | None = None,
    seed: int = 0,
    augmentation: Sequence[Augmentation] = (),
    progress: Progress = SILENT,
) -> Candidate:
    """Return the candidate after `stages`; `.quantize(data)` gives its integer network.

    `model` stays as it is; it is a float model, which `scheme` will quantize, or a candidate from
    an earlier call, which knows its own. Stages are applied in order, all randomness comes from
    `seed`.

    Raises:
        ModelError: it is no module as written in Python.
        DataError: there are no images, or labels lie beyond the model's outputs.
        InputShapeError: the model does not run on the images.
        SpecError: its parameters are no float32.
    """
    check_packages(list(stages))
    _check_trainable(data)
    done = model if isinstance(model, Candidate) else Candidate(model, scheme or Scheme())
    check_data("model", FloatModel(done.model), data)
    if stages and dtype_of(done.model) != torch.float32:
        raise SpecError(f"model: wanted float32 parameters to train, got {dtype_of(done.model)}")
    for number, stage in enumerate(stages):
        context = TrainingContext(
            train=data,
            seed=derive_seed(seed, number, stage.kind),
            augmentation=tuple(augmentation),
            progress=progress,
        )
        done = stage.apply(done, context)
    return done


def attack(
    network: IntegerNetwork | nn.Module,
    method: InputAttack,
    data: Dataset,
    *,
    task: AnyTaskLike | None = None,
    seed: int = 0,
) -> Num[Tensor, "n *features"]:
    """Return the images of `data`, perturbed by a white-box attack on `network`.

    A float model is attacked in evaluation mode; it stays as it is. `task` is what `inject` takes.

    Raises:
        InputRangeError: images lie outside [0, 1].
        ModelError: the model is no module as written in Python.
        SpecError: inputs are tokens, or the attack does not know the task.
        DataError: there are no images, or outputs and labels fit no task, or not this one.
        InputShapeError: the network does not run on the images.
    """
    check_packages(method)
    check_attack(method.kind, method, data)
    model = _measurable(network)
    check_data("network", model, data, labels=False)
    data = settle_task(data, model.predict, task, ending=_ending(network))
    check_attack(method.kind, method, data)
    generator = make_generator(seed, "attack")
    return method.run(
        model.differentiable, data.inputs(), data.labels, generator=generator, task=data.task
    )


def evaluate(
    networks: Mapping[str, IntegerNetwork | nn.Module],
    data: Dataset,
    evaluation: Evaluation | None = None,
    *,
    train: Dataset | None = None,
    task: AnyTaskLike | None = None,
    executor: Executor | None = None,
    progress: Progress = SILENT,
) -> list[Row]:
    """Return accuracy without faults, under bit errors and under attack, with intervals.

    Networks are integer ones and float models, by name; those are measured in evaluation mode and
    stay as they are. `train` are images that bounds of activations are taken from, which `Ranger`
    and the like need. `task` is what `inject` takes. Without an `executor`, this process measures.

    Raises:
        ModelError: a model is no module as written in Python.
        DataError: there are no images, or outputs and labels fit no task, or not this one.
        InputShapeError: a network does not run on the images.
        SpecError: networks are about different tasks, or a threat does not know it.
    """
    evaluation = evaluation or Evaluation()
    check_packages(evaluation, executor)
    profile = None if train is None else train.first(min(len(train), PROFILE_IMAGES))
    models = {name: _measurable(network, profile) for name, network in networks.items()}
    for name, model in models.items():
        check_data(name, model, data, labels=False)
    data = _settled(data, networks, models, task, progress)
    rows: list[Row] = []
    with evaluation.open(models.__getitem__, data, executor) as pool:
        for name, model in models.items():
            # A store for each: float modules may be alike in all that their digests see.
            keys, store = evaluation.keys(model.digest(), data), TallyStore()
            evaluation.measure(name, keys, pool=pool, store=store, progress=progress)
            rows += evaluation.rows(name, evaluation.counts(keys, store) or {})
    return rows


def _measurable(
    network: IntegerNetwork | nn.Module, profile: Dataset | None = None
) -> EvaluatedModel:
    if isinstance(network, IntegerNetwork):
        return IntegerModel(network, profile)
    return FloatModel(network)


def _settled(
    data: Dataset,
    networks: Mapping[str, IntegerNetwork | nn.Module],
    models: Mapping[str, EvaluatedModel],
    task: AnyTaskLike | None,
    progress: Progress,
) -> Dataset:
    """Return the data set with the one task of all networks."""
    found: dict[str, Dataset] = {}
    for name, network in networks.items():
        ending, watch = _ending(network), SILENT if found else progress
        predict = models[name].predict
        found[name] = settle_task(data, predict, task, ending=ending, progress=watch)
    tasks = {each.task: name for name, each in found.items()}
    if len(tasks) > 1:
        came = ", ".join(f"{own!r} for {name}" for own, name in tasks.items())
        raise SpecError(f"task: wanted one for all networks, got {came}")
    return next(iter(found.values()), data)


def _ending(network: IntegerNetwork | nn.Module) -> Ending:
    return ending_of(network.nodes) if isinstance(network, IntegerNetwork) else "unknown"


def _check_trainable(data: Dataset) -> None:
    """Refuse labels that are no classes: nothing here trains on another loss."""
    if data.labels.ndim != 1 or data.labels.is_floating_point():
        kind = str(data.labels.dtype).removeprefix("torch.")
        raise DataError(
            f"{data.name}: wanted one class an image to train on, got {kind} labels of shape "
            f"{tuple(data.labels.shape)}"
        )
