"""What flipped bits do to the weights of each network, as runs write it down."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bitproof.report.multipliers import shown
from bitproof.report.page_table import PageTable, table_of
from bitproof.report.run import Run
from bitproof.report.wording import figure, share

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Flips(_Part):
    """Mean squared changes of a weight, in squares of its unit; bits from the lowest."""

    measured: Annotated[tuple[Positive, ...], Field(min_length=1)]
    formula: tuple[Positive, ...]
    ber: Fraction
    formula_sum: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """At the rate `ber`."""
    simulated: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The same, of random flips."""

    @model_validator(mode="after")
    def _check_bits(self) -> "Flips":
        if len(self.measured) != len(self.formula):
            raise ValueError("formula: wanted a number for each bit that was measured")
        return self


class Shares(_Part):
    """How the weights of a network lie inside their ranges."""

    range: tuple[Number, Number]
    edges: tuple[Number, ...]
    distribution: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    """Share of the weights in each bin, by size over the largest of the tensor."""
    weight_relevance: Fraction
    relative_error: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    relu_relevance: Fraction | None = None

    @model_validator(mode="after")
    def _check_bins(self) -> "Shares":
        if len(self.edges) != len(self.distribution) + 1:
            raise ValueError("edges: wanted one more than bins")
        return self


class NetworkWeights(_Part):
    """The figures of one network."""

    variant: str
    flips: Flips
    redundancy: Shares


def network_weights(run: Run) -> list[NetworkWeights]:
    """Return the figures of the networks that the page shows, in order.

    What is something else is passed over: a page tells what there is.
    """
    found = []
    known = run.statistics
    for variant in shown(run):
        content = known.get(variant)
        if isinstance(content, dict):
            found += _checked({**content, "variant": variant})
    return found


def weight_table(run: Run) -> PageTable | None:
    """Return ranges, errors and relevances for the page; None where there are none."""
    found = network_weights(run)
    if not found:
        return None
    rates = sorted({each.flips.ber for each in found})
    rate = f"BER {share(rates[0])}" if len(rates) == 1 else "the rate of the run"
    return table_of(
        found,
        [
            ("network", lambda each: each.variant),
            ("range", _range_text),
            (f"change at {rate}\nroot mean square", _change_text),
            (f"relative error\nat {rate}", _relative_text),
            ("weight relevance", lambda each: share(each.redundancy.weight_relevance)),
            ("ReLU relevance", lambda each: share(each.redundancy.relu_relevance)),
        ],
        look="wide names",
    )


def _checked(content: dict[str, Any]) -> list[NetworkWeights]:
    try:
        return [NetworkWeights.model_validate(content)]
    except ValidationError:
        return []


def _range_text(network: NetworkWeights) -> str:
    low, high = network.redundancy.range
    return f"{figure(low)} to {figure(high)}"


def _relative_text(network: NetworkWeights) -> str:
    return f"{100 * network.redundancy.relative_error:.2f} %"


def _change_text(network: NetworkWeights) -> str:
    first, drawn = (math.sqrt(n) for n in (network.flips.formula_sum, network.flips.simulated))
    return f"{figure(first)}\nsimulated {figure(drawn)}"
