"""Scaling factors and failure rates of networks, as `bitproof analyze` keeps them with a run."""

from collections.abc import Mapping
from statistics import fmean
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitproof.report.page_table import PageTable, table_of
from bitproof.report.run import Run
from bitproof.report.wording import figure

Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = tuple[Factor, Factor, Factor]
Signed = Annotated[float, Field(ge=-1, le=1)]
FIGURES = {
    "activation": "activation step",
    "weight": "weight step",
    "product": "product of the steps",
    "relative_flip": "flip over rms",
}
OVER = {
    "layers": "over all layers of all networks",
    "networks": "between networks, over means",
    "within": "inside each layer, between networks, mean over layers",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Layer(_Part):
    """One layer of one network."""

    layer: str
    weight: Factor
    activation: Factor
    product: Factor
    rms: Factor
    relative_flip: Factor
    flip: tuple[Factor, ...]
    distribution: Annotated[tuple[Factor, ...], Field(min_length=1)]


class Failure(_Part):
    """How often faults in what a layer reads change an answer."""

    rate: Rate
    trials: int


class Network(_Part):
    """One network."""

    name: str
    means: dict[str, Factor] = {}
    """Geometric means over layers, by figure."""
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    failures: dict[str, Failure] = {}


class Correlation(_Part):
    """How failure rates rank with one figure."""

    measured: str = "failures"
    """`failures` of layers, or a threat with its level."""
    figure: str
    over: str
    value: tuple[Signed, Signed, Signed]
    n: int


class Scaling(_Part):
    """The whole file."""

    networks: tuple[Network, ...] = ()
    correlations: tuple[Correlation, ...] = ()


def scaling_of(run: Run) -> Scaling:
    """Return what was analyzed of a run; nothing where there is no such file or it is malformed."""
    try:
        return Scaling.model_validate(run.analysis)
    except ValidationError:
        return Scaling()


def mean_cells(network: Mapping[str, Any]) -> list[str]:
    """Return name, geometric means over layers, and the mean failure rate, as text."""
    one = Network.model_validate(network)
    names = ("weight", "activation", "product", "relative_flip")
    rates = [failure.rate[1] for failure in one.failures.values()]
    failures = f"{100 * fmean(rates):.2f}" if rates else "–"
    return [one.name, *(figure(one.means.get(name, 0.0)) for name in names), failures]


def layer_cells(network: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Return product, relative flip and failure rate of each layer, as text."""
    one = Network.model_validate(network)
    return {
        layer.layer: (
            figure(layer.product),
            figure(layer.relative_flip),
            _failure(one, layer.layer),
        )
        for layer in one.layers
    }


def correlation_text(correlation: Mapping[str, Any]) -> str:
    """Return one line about a correlation."""
    one = Correlation.model_validate(correlation)
    low, value, high = one.value
    lost = "failure rate" if one.measured == "failures" else f"loss under {one.measured}"
    return (
        f"rank correlation of {lost} and {FIGURES.get(one.figure, one.figure)}, "
        f"{OVER.get(one.over, one.over)}: {value:+.2f} ({low:+.2f} to {high:+.2f}), n = {one.n}"
    )


def scaling_table(run: Run) -> PageTable | None:
    """Return the means of each network for the page; None where nothing was analyzed."""
    found = scaling_of(run).networks
    if not found:
        return None
    cells = {one.name: mean_cells(one.model_dump()) for one in found}
    titles = ("weight step", "activation step", "product", "flip over rms", "failure rate, %")
    columns = [
        (title, lambda one, place=place: cells[one.name][place])
        for place, title in enumerate(titles, start=1)
    ]
    return table_of(found, [("network", lambda one: one.name), *columns], look="wide names")


def correlation_lines(run: Run) -> list[str]:
    """Return one line for each correlation."""
    return [correlation_text(one.model_dump()) for one in scaling_of(run).correlations]


def _failure(network: Network, layer: str) -> str:
    if layer not in network.failures:
        return "–"
    low, value, high = (100 * end for end in network.failures[layer].rate)
    return f"{value:.2f} ({low:.2f} to {high:.2f})"
