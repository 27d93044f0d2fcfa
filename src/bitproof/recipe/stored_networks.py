"""Integer networks on disk, and the images that they were made for."""

from pathlib import Path

from bitproof.core.errors import RecipeError, SpecError, WeightsError
from bitproof.core.user_code import looking_in
from bitproof.data import DATA, Dataset
from bitproof.evaluation.tasks import ending_of, settle_task
from bitproof.exchange import is_onnx, open_network
from bitproof.metrics import Classification
from bitproof.quant import IntegerNetwork
from bitproof.quant.shapes import check_shapes
from bitproof.recipe.directory import RunDirectory
from bitproof.recipe.toml import read_recipe


def open_networks(
    place: Path, *, data: str = "", data_dir: Path | None = None
) -> tuple[dict[str, IntegerNetwork], Dataset]:
    """Return integer networks by name, and test images.

    Args:
        place: a run directory, for all of its integer networks, or one network, such as
            `runs/NAME/networks/VARIANT`, with or without suffix; or a quantized ONNX file.
        data: the data set; empty: that of the run.
        data_dir: where data sets lie; None: `BITPROOF_DATA`.

    Raises:
        RecipeError: there is no network, or no data set is named.
        WeightsError: a network file is missing or damaged.
        ExchangeError: an ONNX file has no form as an integer network.
        BitproofError: in its kinds, for whatever is wrong with recipe or data.
    """
    stem = Path(str(place).removesuffix(".json").removesuffix(".safetensors"))
    run = RunDirectory(place if place.is_dir() else stem.parent.parent)
    if place.is_dir():
        if not run.recipe.is_file():
            raise RecipeError(f"{place}: wanted a run directory or an integer network")
        with looking_in(run.recipe_dir()):
            stored = [run.network(variant) for variant in read_recipe(run.recipe).variants]
        stems = [path for path in stored if path.with_name(f"{path.name}.json").is_file()]
        if not stems:
            raise RecipeError(f"{place}: the run has no finished integer network")
    else:
        stems = [stem]
    networks = {path.stem if is_onnx(path) else path.name: open_network(path) for path in stems}
    if data:
        test = DATA.build(data).load(data_dir).test
    elif run.recipe.is_file():
        with looking_in(run.recipe_dir()):
            test = read_recipe(run.recipe).data.load(data_dir).test
    else:
        raise RecipeError(f"data: wanted a data set, such as --data digits; {place} is in no run")
    for name, network in networks.items():
        check_fit(name, network, test)
    return networks, test


def check_fit(name: str, network: IntegerNetwork, data: Dataset) -> None:
    """Check that a network takes the images of a data set, and answers with as many classes.

    Raises:
        RecipeError: it does not.
    """
    image = data.inputs(slice(0, 1))
    size = " x ".join(map(str, image.shape[1:]))
    try:
        if network.input_shape is None:  # as in files from before it was kept
            check_shapes(network, tuple(image.shape[1:]))
        answers = network(image)
    except (WeightsError, RuntimeError, ValueError, IndexError):
        raise RecipeError(
            f"{name}: wanted a network for {data.name} (images of {size}), this one takes others"
        ) from None
    if data.labels.ndim > 1 or data.labels.is_floating_point() or answers.ndim > 2:
        return  # the task will tell
    known = answers[:1].numel()
    if max(known, 2) < data.n_classes:  # one output tells two classes apart
        raise RecipeError(
            f"{name}: wanted a network for {data.name} ({data.n_classes} classes), "
            f"this one answers {known}"
        )


def check_classes(network: IntegerNetwork, data: Dataset, *, work: str) -> None:
    """Check that a network and a data set are about classes, by logits.

    Raises:
        DataError: outputs and labels fit no task.
        SpecError: they are about another task.
    """
    ending = ending_of(network.nodes)
    task = settle_task(data.to(network.device), network, ending=ending).task
    if not isinstance(task, Classification):
        raise SpecError(f"{work}: wanted a classification, got task '{task and task.kind}'")
