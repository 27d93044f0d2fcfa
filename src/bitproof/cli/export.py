"""`bitproof export`: a network for other runtimes, and whether they give the same logits."""

from pathlib import Path

import torch
import typer

from bitproof.cli.outcome import report_problems
from bitproof.core.errors import RecipeError
from bitproof.core.rng import make_generator
from bitproof.exchange import Agreement, check_onnx, export_onnx, open_network
from bitproof.exchange.onnx_library import onnx_runtime
from bitproof.quant import IntegerNetwork
from bitproof.recipe.directory import RunDirectory
from bitproof.recipe.stored_networks import open_networks

MOST_NAMES = 4
"""Of nodes that are printed behind what was rewritten."""


def run_export(
    place: Path,
    out: Path,
    *,
    form: str,
    weights: str,
    verify: int,
    data: str,
    data_dir: Path | None,
) -> None:
    """Write a network as ONNX; say what was rewritten, and whether its logits are the same."""
    with report_problems():
        network, images, source = _open(place, verify, data, data_dir)
        found = export_onnx(network, out, form=form, weights=weights)
        typer.echo(
            f"{out}: {found.nodes} nodes, {found.size:,} bytes, {form} form of the network "
            f"{found.digest[:12]}"
        )
        for text, names in found.rewritten.items():
            shown = ", ".join(names[:MOST_NAMES])
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            typer.echo(f"rewritten: {text} ({shown}{more})")
        if images is None:
            typer.echo("not compared with ONNX Runtime: --verify 1000 does that")
            return
        agreement = check_onnx(network, out, images)
        typer.echo(describe(agreement, source))
        if not agreement.exact and form != "portable":
            raise typer.Exit(1)


def describe(found: Agreement, source: str) -> str:
    """Return one line about how a file agrees with its network."""
    share = f"{100 * found.identical / found.images:.2f} %"
    line = (
        f"ONNX Runtime on {found.images} {source}: logits equal in every bit on {found.identical} "
        f"({share}), same first class on {found.same_top1}"
    )
    if found.exact:
        return line
    steps = "" if found.largest_steps is None else f", {found.largest_steps:.3g} steps"
    return (
        f"{line}; {found.different} of {found.numbers} outputs differ, by {found.largest:.3g} at "
        f"most{steps}"
    )


def _open(
    place: Path, verify: int, data: str, data_dir: Path | None
) -> tuple[IntegerNetwork, torch.Tensor | None, str]:
    """Return one network, and images to compare with and what they are, where that is asked for."""
    stem = Path(str(place).removesuffix(".json").removesuffix(".safetensors"))
    stem = _only_network(place) if place.is_dir() else stem
    if not verify:
        return open_network(stem), None, ""
    onnx_runtime()  # or say at once that it is not there
    if not data and not RunDirectory(stem.parent.parent).recipe.is_file():
        network = open_network(stem)
        return network, _random_images(network, verify), "random inputs"
    networks, test = open_networks(stem, data=data, data_dir=data_dir)
    (network,) = networks.values()
    return network, test.inputs(slice(0, verify)), f"test images of {test.name}"


def _only_network(place: Path) -> Path:
    """Return the one network of a run."""
    stems = sorted(path.with_suffix("") for path in (place / "networks").glob("*.json"))
    if len(stems) == 1:
        return stems[0]
    if not stems:
        raise RecipeError(f"{place}: wanted a run directory with integer networks, or one of them")
    names = ", ".join(path.name for path in stems)
    raise RecipeError(f"{place}: wanted one network, got {names}; name one, such as {stems[0]}")


def _random_images(network: IntegerNetwork, n: int) -> torch.Tensor | None:
    shape, generator = network.input_shape, make_generator(0, "export")
    if shape is None:
        return None
    if network.tokens is not None:
        return torch.randint(network.tokens, (n, *shape), generator=generator)
    return torch.rand(n, *shape, generator=generator)
