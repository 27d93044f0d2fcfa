"""The systolic array that layers run on: its size, its dataflow, and how long its faults last.

Model:  `dataflows` says what arrays do in each cycle, `systolic_layer` what faults make of it.
Source: METHODS D.2.
"""

from typing import Annotated, Literal

from pydantic import Field

from bitproof.core.spec import Spec
from bitproof.core.types import Count, Rounds
from bitproof.faults.dataflows import DATAFLOWS, ArraySize, Dataflow
from bitproof.faults.layer_matrices import LayerMatrices, matrices_of
from bitproof.quant.graph import Node
from bitproof.quant.network import IntegerNetwork


class SystolicArray(Spec):
    """The array that convolutions and linear layers run on.

    Example:
        >>> SystolicArray(rows=8, columns=8, dataflow="output_stationary").n_elements
        64
    """

    dataflow: Literal["weight_stationary", "output_stationary", "row_stationary"] = (
        "weight_stationary"
    )
    """What stays in the processing elements; see `faults.dataflows`."""
    rows: Annotated[int, Field(ge=1, le=4096, strict=True)] = 16
    """Processing elements below each other."""
    columns: Annotated[int, Field(ge=1, le=4096, strict=True)] = 16
    """Processing elements beside each other."""
    latency: Annotated[int, Field(ge=0, le=10**6, strict=True)] = 1
    """Cycles from operands to the product's register."""
    stream: Count | None = None
    """Outputs that stream through one set of weights, for `weight_stationary`; None: all."""
    scope: Literal["element", "pe_row", "single_mac"] = "pe_row"
    """How far a struck operand goes: to all uses of the word in a tile, to those behind the PE on
    the word's way, or to one multiplication."""
    window: Rounds = 1
    """Cycles that a transient fault strikes in."""

    @property
    def n_elements(self) -> int:
        """Number of processing elements; that of row r and column c is r columns + c."""
        return self.rows * self.columns

    def dataflow_of(self, layer: LayerMatrices) -> Dataflow:
        """Return how the array computes a layer."""
        size = ArraySize(self.rows, self.columns, self.latency, self.stream)
        return DATAFLOWS[self.dataflow](layer, size)

    def cycles(self, network: IntegerNetwork, node: Node, codes: tuple[int, ...]) -> int:
        """Return the cycles that a node takes for one image; `codes` is the shape of its input."""
        return self.dataflow_of(matrices_of(network, node, codes)).cycles
