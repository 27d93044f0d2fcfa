"""How far integer networks are from the float networks that they were made of, for the page."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bitproof.report.multipliers import shown
from bitproof.report.page_table import PageTable, percent_text, table_of
from bitproof.report.run import Run

NAMED = 3
"""Layers named for each network of a run."""
LAYERS_SHOWN = 10
Decibels = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class LayerFacts(_Part):
    """Signal-to-noise ratios of the output of one node."""

    name: str
    op: str
    sqnr_db: Decibels
    own_sqnr_db: Decibels


class FidelityFacts(_Part):
    """What quantization did to outputs and layers."""

    images: Annotated[int, Field(gt=0)]
    sqnr_db: Decibels
    agreement: Annotated[float, Field(ge=0.0, le=1.0)]
    layers: tuple[LayerFacts, ...] = ()

    @property
    def line(self) -> str:
        """Agreement and signal-to-noise ratio in words."""
        return (
            f"integers against floats on {self.images} calibration images: "
            f"{100 * self.agreement:.1f} % same answers, {self.sqnr_db:.1f} dB"
        )

    @property
    def worst(self) -> list[LayerFacts]:
        """Layers by the error of their own, the largest first."""
        return sorted(self.layers, key=lambda layer: layer.own_sqnr_db)


def fidelity_table(run: Run) -> PageTable | None:
    """Return agreement and worst layers of the networks of a run; None where nobody compared."""
    known = ((name, run.statistics.get(name)) for name in shown(run))
    found = [(name, facts) for name, content in known if (facts := _checked(content))]
    if not found:
        return None
    return table_of(
        found,
        [
            ("network", lambda each: each[0]),
            ("same answers", lambda each: percent_text(each[1].agreement)),
            ("outputs, dB", lambda each: f"{each[1].sqnr_db:.1f}"),
            ("most error of its own, dB", lambda each: _layers_text(each[1])),
        ],
        look="wide names",
    )


def layer_table(fidelity: FidelityFacts | None) -> PageTable | None:
    """Return the layers that add most error; None where nobody compared."""
    if fidelity is None:
        return None
    return table_of(
        fidelity.worst[:LAYERS_SHOWN],
        [
            ("layer", lambda layer: layer.name),
            ("operation", lambda layer: layer.op),
            ("error of its own, dB", lambda layer: f"{layer.own_sqnr_db:.1f}"),
            ("all errors up to it, dB", lambda layer: f"{layer.sqnr_db:.1f}"),
        ],
        look="names",
    )


def _checked(content: Any) -> FidelityFacts | None:
    """Return what a run wrote down; what is something else is passed over."""
    try:
        return FidelityFacts.model_validate(content["fidelity"])
    except (ValidationError, KeyError, TypeError):
        return None


def _layers_text(fidelity: FidelityFacts) -> str:
    worst = fidelity.worst[:NAMED]
    return ", ".join(f"{layer.name} ({layer.own_sqnr_db:.1f})" for layer in worst)
