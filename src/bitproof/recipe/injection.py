"""A fault-injection campaign as a recipe: on a model that is quantized, or on a network."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bitproof.core.directory import read_json
from bitproof.core.errors import RecipeError, shorten
from bitproof.core.lock import Shard
from bitproof.core.packages import check_packages
from bitproof.core.progress import SILENT, Progress
from bitproof.core.user_code import looking_in
from bitproof.data import Dataset, Splits
from bitproof.evaluation import Executor
from bitproof.evaluation.tasks import AnyTaskLike
from bitproof.exchange import is_onnx, open_network
from bitproof.faults import read_fault_list
from bitproof.harden import Candidate
from bitproof.injection import Injection, carry_out_campaign, prepare_campaign
from bitproof.metrics import AnyTask, read_task
from bitproof.quant import IntegerNetwork
from bitproof.recipe.building import build, untrained, weights_of
from bitproof.recipe.recipe import Name, NetworkRecipe
from bitproof.recipe.stored_networks import check_fit
from bitproof.report import write_campaign_report, write_campaign_tables


class InjectionRecipe(NetworkRecipe):
    """Everything that decides the result of a campaign, and nothing else."""

    name: Name = "inject"
    """Short name, for directories: letters, digits, `_`, `.`, `+`, `-`."""
    fault_list: str = ""
    """Replay the faults of this CSV file instead of drawing."""
    task: AnyTask | None = None
    """How answers are judged: a kind, or a table with its parameters. None: as outputs and labels
    ask for."""
    injection: Injection = Injection()
    """What is faulty, how often, and how it is counted."""


def inject_recipe(
    recipe: InjectionRecipe,
    out: Path,
    *,
    executor: Executor | None = None,
    shard: Shard | None = None,
    device: str = "cpu",
    data_dir: Path | None = None,
    recipe_dir: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
    consent: Callable[[Splits, IntegerNetwork], None] | None = None,
) -> Path | None:
    """Carry out a campaign and return the path of its report; None while shards are missing.

    `shard=(k, n)` does the k-th of n shares, counted from 1. Without an `executor`, this process
    computes; files in the recipe are relative to `recipe_dir`, data sets lie in `data_dir`
    (None: `BITPROOF_DATA`), and `resume` goes on with the campaign in `out`. `consent` sees
    data and network when nothing is written; what it raises ends the campaign.

    Raises:
        BitproofError: in its kinds, for whatever is wrong with recipe, data, weights or disk.
    """
    check_packages(recipe, executor)
    with looking_in(recipe_dir):
        splits = recipe.data.load(data_dir)
        notes = [f"{splits.test.name}: {note}" for note in splits.notes]
        for note in notes:
            progress.say(note)
        network, told = _network(recipe, splits, data_dir, recipe_dir)
        for kind, words in told.items():
            progress.say(f"{kind}: {words}")
        if consent is not None:
            consent(splits, network)
        faults = None
        if recipe.fault_list:
            path = find_file(recipe.fault_list, recipe_dir)
            names = [node.name for node in network.nodes]
            faults = read_fault_list(path, layers=names, progress=progress)
        model = recipe.network or (recipe.model.kind if recipe.model else "")
        facts: dict[str, Any] = {
            **{"title": recipe.title or recipe.name, "model": model, "data": splits.test.name},
            **({"weights": told["weights"]} if "weights" in told else {}),
        }
        if warnings := [*notes, *([told["warning"]] if "warning" in told else [])]:
            facts["warnings"] = warnings
        prepare_campaign(
            out,
            network,
            recipe.injection,
            splits.test.with_task(recipe.task or splits.test.task),
            train=splits.train,
            faults=faults,
            resume=resume or shard is not None,
            facts=facts,
            progress=progress,
        )
        summary = carry_out_campaign(
            out, executor=executor, shard=shard, device=device, progress=progress
        )
    return None if summary is None else report_campaign(out)


def report_campaign(folder: Path) -> Path:
    """Write tables and report of a finished campaign anew; return the path of the report."""
    write_campaign_tables(folder)
    return write_campaign_report(folder)


def inject(
    network: IntegerNetwork,
    data: Dataset,
    injection: Injection | None = None,
    *,
    out: Path | str | None = None,
    train: Dataset | None = None,
    task: AnyTaskLike | None = None,
    executor: Executor | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Mapping[str, Any]:
    """Inject faults into a network, and return the summary of what they did.

    `network` stays as it is. With `out`, campaign directory and report are kept, and `resume` goes
    on with them. `train` are images that bounds of activations are taken from, which `Ranger` and
    the like need. `task` says how answers are judged: a task, its kind, or a function from outputs
    and labels to one bool an image; None: as the data set says, or outputs and labels ask for.
    Without an `executor`, this process computes.

    Returns:
        The table of `summary.json`: `totals`, `layers`, `bits`, `cells` ..., rates as
        `[low, value, high]`.

    Example:
        >>> import torch
        >>> from bitproof.quant import quantize
        >>> images = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))
        >>> labels = torch.arange(64) % 2
        >>> data = Dataset.from_arrays(images.reshape(64, 1, 2, 2), labels)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> network = quantize(model, data.inputs())
        >>> inject(network, data, Injection(trials=20))["totals"][0]["trials"]
        20
    """
    injection = injection or Injection()
    check_packages(injection, executor)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "campaign" if out is None else Path(out)
        facts = {"title": "fault injection", "data": data.name}
        judged = data if task is None else data.with_task(read_task(task))
        prepare_campaign(
            folder,
            network,
            injection,
            judged,
            train=train,
            resume=resume,
            facts=facts,
            progress=progress,
        )
        summary = carry_out_campaign(folder, executor=executor, progress=progress)
        assert summary is not None
        if out is not None:
            report_campaign(folder)
        return read_json(summary)


def _network(
    recipe: InjectionRecipe, splits: Splits, data_dir: Path | None, recipe_dir: Path | None
) -> tuple[IntegerNetwork, dict[str, str]]:
    """Return the network, and what there is to say of its weights."""
    if recipe.model is None:
        network = open_network(find_network(recipe.network, recipe_dir))
        check_fit(recipe.network, network, splits.test)
        return network, {}
    weights = weights_of(recipe.weights, recipe.model, recipe_dir=recipe_dir, data_dir=data_dir)
    taken: list[str] = []
    model = build(
        recipe.model, splits.train, seed=recipe.seed, weights=weights, tell=taken.append
    ).eval()
    told = {}
    if weights is not None:
        told["weights"] = ", ".join([weights.name, *taken])
    elif warning := untrained(model, recipe.model, splits.train, seed=recipe.seed):
        told["warning"] = warning
    return Candidate(model, recipe.quantization).quantize(splits.train), told


def find_network(name: str, folder: Path | None) -> Path:
    """Return where an integer network is that a recipe names; without suffix, but for ONNX files.

    Raises:
        RecipeError: it lies neither in `folder` nor in the working directory.
    """
    return find_file(name, folder, suffix="" if is_onnx(name) else ".json")


def find_file(name: str, folder: Path | None, suffix: str = "") -> Path:
    """Return a path that a recipe names, beside the recipe or in the working directory."""
    stem = name.removesuffix(".json").removesuffix(".safetensors") if suffix else name
    for place in (folder, Path()):
        if place is not None and (place / f"{stem}{suffix}").is_file():
            return place / stem
    raise RecipeError(f"wanted a file {shorten(stem + suffix)}, there is none")
