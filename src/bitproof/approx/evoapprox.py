"""The 8-bit multipliers of EvoApproxLib, as tables, with what their authors published.

Model:  `evoapprox8.npz` holds 64 different tables and the published figures of 99 named circuits,
        those of the releases v1.1 and v2022. Four things lead astray, and are dealt with here:

        - A name may mean two circuits: `mul8s_1KV8`, `mul8s_1KVA` and `mul8u_17C8` changed hands
          between the releases. They are taken only with their release.
        - Two names may mean one circuit: 35 names are second names of a table.
        - Many C models take their arguments as (B, A). Here the first operand is port A of the
          Verilog, whatever the order of the C model was; `Swapped` gives the other order.
        - A product with 0 may differ from 0; see `zero_operand_errors`.
Source: Mrazek et al., "EvoApprox8b: Library of Approximate Adders and Multipliers for Circuit
        Design and Benchmarking of Approximation Methods", DATE 2017, 10.23919/DATE.2017.7926993.
        Copyright 2018 EHW@FIT, Brno University of Technology; MIT-style terms.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from bitproof.approx.base import MULTIPLIERS, Multiplier, ProductTable
from bitproof.approx.stored import read_products
from bitproof.core.errors import DataError, UnknownKindError, near, shorten
from bitproof.data.layout import VARIABLE, data_root
from bitproof.data.packed import read_arrays
from bitproof.stats import Cost

FILE = "evoapprox8.npz"
ROWS = "_table_json"
"""Array that holds the published figures: bytes of JSON, one object a circuit."""
RELEASES = ("v1.1", "v2022")
REUSED = ("mul8s_1KV8", "mul8s_1KVA", "mul8u_17C8")
"""Names that mean another circuit in another release."""
TECHNOLOGY = "EvoApproxLib {release}: 45 nm PDK, Synopsys Design Compiler"


@MULTIPLIERS.register
class EvoApprox(Multiplier):
    """A multiplier of EvoApproxLib, by its name; needs `evoapprox8.npz` in the data folder.

    Example:
        >>> EvoApprox(name="mul8s_1KV8", release="v2022").release
        'v2022'
    """

    kind: Literal["evoapprox"] = "evoapprox"
    name: Annotated[str, Field(pattern=r"^mul8[su]_\w+$")]
    """Name of the circuit, such as mul8s_1L2H."""
    release: Literal["v1.1", "v2022"] | None = None
    """Release of the library; needed where a name means two circuits."""

    @model_validator(mode="after")
    def _check_release(self) -> "EvoApprox":
        if self.name in REUSED and self.release is None:
            raise ValueError(
                f"{self.name} means two circuits: wanted release {' or '.join(RELEASES)}"
            )
        return self

    def table(self, data_dir: Path | str | None = None) -> ProductTable:
        """Return the products; rows are port A of the Verilog, columns port B.

        Raises:
            UnknownKindError: there is no circuit of that name in that release.
            DataError: the file is missing or malformed.
        """
        path = library_path(data_dir)
        return read_tables(path, [self._circuit(path)])[0]

    def cost(self, data_dir: Path | str | None = None) -> Cost:
        """Return the published area, power and delay; raises as `table` does."""
        return self._circuit(library_path(data_dir)).cost

    def _circuit(self, path: Path) -> "Circuit":
        circuits = read_circuits(path)
        found = [circuit for circuit in circuits if circuit.name == self.name]
        if not found:
            known = near(self.name, (circuit.name for circuit in circuits))
            raise UnknownKindError(f"evoapprox: no circuit {shorten(self.name)}. {known}")
        for circuit in found:
            if self.release in {None, circuit.release}:
                return circuit
        raise UnknownKindError(
            f"evoapprox: no circuit {shorten(self.name)} in {self.release}. "
            f"It is in {found[0].release}."
        )


@dataclass(frozen=True)
class Circuit:
    """One named circuit: where its table is, and what was published of it.

    Example:
        >>> cost = Cost(area_um2=1.0, power_mw=1.0, delay_ns=1.0, source="")
        >>> Circuit("mul8s_x", "v1.1", "mul8s_x", "A", True, cost, {}).multiplier
        EvoApprox(kind='evoapprox', name='mul8s_x', release='v1.1')
    """

    name: str
    release: str
    key: str
    """Name of the array; circuits with equal tables share one."""
    first_argument: str
    """Port of the Verilog that the first argument of the C model, the row of the array, is."""
    signed: bool
    cost: Cost
    published: Mapping[str, float]
    """Figures by the name of their column, as printed: per cent where the name says so."""

    @property
    def title(self) -> str:
        """The name with its release."""
        return f"{self.name}@{self.release}"

    @property
    def multiplier(self) -> EvoApprox:
        """The spec that stands for the circuit."""
        return EvoApprox.model_validate({"name": self.name, "release": self.release})


def library_path(data_dir: Path | str | None) -> Path:
    """Return where the library lies.

    Raises:
        DataError: it is not in the data folder, or there is none.
    """
    root = data_root(data_dir)
    if root is None or not (root / FILE).is_file():
        place = f"not in {root}" if root else "no data folder"
        raise DataError(
            f"evoapprox: wanted {FILE}, {place}; get it with `bitproof data fetch evoapprox`, or "
            f"name its folder with --data-dir or {VARIABLE}"
        )
    return root / FILE


def read_circuits(path: Path) -> list[Circuit]:
    """Return every named circuit of the library, in the order of the file.

    Raises:
        DataError: the file is truncated or malformed.
    """
    text = read_arrays(path, [ROWS])[ROWS].tobytes()
    try:
        return [_circuit(row) for row in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: wanted the figures of circuits in {ROWS}: {error!r}") from None


def read_tables(path: Path, circuits: list[Circuit]) -> list[ProductTable]:
    """Return the tables of circuits, rows being port A of the Verilog.

    Raises:
        DataError: the file is truncated or malformed.
    """
    tables = []
    arrays = read_products(path, [circuit.key for circuit in circuits])
    for circuit, array in zip(circuits, arrays, strict=True):
        products = array if circuit.first_argument == "A" else array.T
        own = torch.from_numpy(products.astype(np.int32, order="C"))
        tables.append(ProductTable(own, circuit.signed))
    return tables


def _circuit(row: Mapping[str, Any]) -> Circuit:
    (release,) = row["releases"]
    columns = ("mae", "mae_pct", "wce", "wce_pct", "wcre_pct", "ep_pct", "mre_pct", "mse")
    return Circuit(
        name=row["circuit"],
        release=release,
        key=row["lut"],
        first_argument=row["arg0"],
        signed=row["signed"],
        cost=Cost(
            area_um2=row["area_um2"],
            power_mw=row["pwr_mw"],
            delay_ns=row["delay_ns"],
            source=TECHNOLOGY.format(release=release),
        ),
        published={column: float(row[column]) for column in columns},
    )
