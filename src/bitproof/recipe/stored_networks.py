"""Integer networks on disk, and the images that they were made for."""

from collections.abc import Sequence
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
    networks = {name: open_network(path) for name, path in find_networks([place]).items()}
    test = images_of([place], data=data, data_dir=data_dir)
    for name, network in networks.items():
        check_fit(name, network, test)
    return networks, test


def find_networks(places: Sequence[Path]) -> dict[str, Path]:
    """Return where integer networks lie, by name, in order.

    The name is that of the variant, or of the ONNX file; of several with one name, that of the run
    stands before it.

    Args:
        places: as of `open_networks`, several.

    Raises:
        RecipeError: there is no network at a place, or one network is named twice.
    """
    paths = [path.resolve() for place in places for path in _stems(place)]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise RecipeError(f"{twice}: wanted each network once")
    short = [_name(path) for path in paths]
    names = [
        f"{path.parent.parent.name}.{name}" if short.count(name) > 1 else name
        for name, path in zip(short, paths, strict=True)
    ]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        raise RecipeError(f"{name}: wanted networks of different names, got several")
    return dict(zip(names, paths, strict=True))


def images_of(places: Sequence[Path], *, data: str = "", data_dir: Path | None = None) -> Dataset:
    """Return the test images of a data set; empty: of the run of the first place.

    Raises:
        RecipeError: no data set is named, and the first place is in no run.
        BitproofError: in its kinds, for whatever is wrong with recipe or data.
    """
    if data:
        return DATA.build(data).load(data_dir).test
    run = _run_of(places[0])
    if not run.recipe.is_file():
        raise RecipeError(
            f"data: wanted a data set, such as --data digits; {places[0]} is in no run"
        )
    with looking_in(run.recipe_dir()):
        return read_recipe(run.recipe).data.load(data_dir).test


def _stem(place: Path) -> Path:
    return Path(str(place).removesuffix(".json").removesuffix(".safetensors"))


def _run_of(place: Path) -> RunDirectory:
    return RunDirectory(place if place.is_dir() else _stem(place).parent.parent)


def _name(path: Path) -> str:
    return path.stem if is_onnx(path) else path.name


def _stems(place: Path) -> list[Path]:
    """Return the networks of one place, without suffix; of a run, in the order of its variants."""
    if not place.is_dir():
        return [_stem(place)]
    run = _run_of(place)
    if not run.recipe.is_file():
        raise RecipeError(f"{place}: wanted a run directory or an integer network")
    with looking_in(run.recipe_dir()):
        stored = [run.network(variant) for variant in read_recipe(run.recipe).variants]
    stems = [path for path in stored if path.with_name(f"{path.name}.json").is_file()]
    if not stems:
        raise RecipeError(f"{place}: the run has no finished integer network")
    return stems


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
