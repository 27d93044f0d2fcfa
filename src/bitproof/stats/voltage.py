"""How often bits fail at a supply voltage, and what an access to the memory costs there.

Model:  voltages are in units of V_min, the lowest voltage without bit errors; energies in units of
        an access there. Between two points of a table, log10 of the bit error rate is linear in
        the voltage, and so is the energy: the chord of a convex curve such as V² lies above it, so
        that no saving is overstated. Between the last rate above 0 and V_min nothing is known but
        the two ends, and the worse one is taken: of the rate, the one of the lower voltage; of
        the voltage, V_min. Nothing is extrapolated.
Source: METHODS E.6, from Stutz et al., "Bit Error Robustness for Energy-Efficient DNN
        Accelerators", MLSys 2021: 32 SRAM arrays of 512 x 64 cells in 14 nm.
"""

import csv
import io
import math
from bisect import bisect_left, bisect_right
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from bitproof.core.errors import DataError, SpecError, shorten
from bitproof.core.spec import Spec, describe_problem, problems_of
from bitproof.core.types import Finite

COLUMNS = ("voltage", "ber", "energy")
Points = Annotated[tuple[Finite, ...], Field(min_length=2)]


class VoltageTable(Spec):
    """Bit error rates and energies at rising voltages, the last of which is free of errors.

    Example:
        >>> points = {"voltages": (0.8, 0.9, 1), "bers": (0.01, 0.0001, 0)}
        >>> table = VoltageTable(**points, energies=(0.6, 0.8, 1))
        >>> round(table.ber_at(0.85), 9), round(table.energy_at(0.85), 9)
        (0.001, 0.7)
    """

    voltages: Points
    """Supply voltages, rising to 1, in units of the lowest one without bit errors."""
    bers: Points
    """Bit error rates there, as fractions, falling to 0."""
    energies: Points
    """Energy of an access there, rising to 1, in units of one at the voltage 1."""
    source: str = ""
    """Who measured it, of what."""

    @field_validator("voltages", "energies")
    @classmethod
    def _check_rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if values[0] <= 0 or values[-1] != 1 or any(a >= b for a, b in pairwise(values)):
            raise ValueError(f"wanted numbers above 0 that rise to 1, got {shorten(list(values))}")
        return values

    @field_validator("bers")
    @classmethod
    def _check_falling(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if max(values) > 0.5:
            raise ValueError(f"wanted fractions up to 0.5, not per cent, got {max(values):g}")
        if values[-1] != 0 or any(a <= b for a, b in pairwise(values)):
            raise ValueError(
                f"wanted rates that fall to 0 at the last voltage, got {shorten(list(values))}"
            )
        return values

    @field_validator("bers", "energies")
    @classmethod
    def _check_length(cls, values: tuple[float, ...], info: object) -> tuple[float, ...]:
        wanted = len(getattr(info, "data", {}).get("voltages", values))
        if len(values) != wanted:
            raise ValueError(f"wanted {wanted} numbers, one for each voltage, got {len(values)}")
        return values

    @property
    def highest_ber(self) -> float:
        """The bit error rate at the lowest voltage of the table."""
        return self.bers[0]

    def ber_at(self, voltage: float) -> float:
        """Return the bit error rate at a voltage; above the last error, that of this error.

        Raises:
            SpecError: the voltage lies outside the table.

        Example:
            >>> f"{PUBLISHED.ber_at(0.854):.5f}", PUBLISHED.ber_at(0.98), PUBLISHED.ber_at(1.0)
            ('0.00383', 2e-06, 0.0)
        """
        i, share = self._place(voltage)
        low, high = self.bers[i], self.bers[i + 1]
        if share == 1:
            return high
        return low * (high / low) ** share if high else low

    def voltage_at(self, ber: float) -> float:
        """Return the lowest voltage of the table at which no more bits fail; 1 below all its rates.

        Raises:
            SpecError: the rate is no fraction, or higher than all of the table.

        Example:
            >>> round(PUBLISHED.voltage_at(0.01), 4), PUBLISHED.voltage_at(1e-7)
            (0.8354, 1.0)
        """
        if not 0 <= ber <= self.highest_ber:
            raise SpecError(f"ber: wanted a rate from 0 to {self.highest_ber:g}, got {ber:g}")
        n_higher = bisect_right([-each for each in self.bers], -ber)
        if n_higher == len(self.bers) or (
            ber < self.bers[n_higher - 1] and not self.bers[n_higher]
        ):
            return self.voltages[-1]
        low, high = self.bers[n_higher - 1], self.bers[n_higher]
        share = math.log(ber / low) / math.log(high / low) if high else 0.0
        return self._between(self.voltages, n_higher - 1, share)

    def energy_at(self, voltage: float) -> float:
        """Return the energy of an access at a voltage, in units of one at the voltage 1.

        Raises:
            SpecError: the voltage lies outside the table.

        Example:
            >>> round(PUBLISHED.energy_at(0.833), 4), round(PUBLISHED.energy_at(0.979), 4)
            (0.694, 0.959)
        """
        return self._between(self.energies, *self._place(voltage))

    def _place(self, voltage: float) -> tuple[int, float]:
        """Return the point at or below a voltage, never the last, and the way to the next one."""
        if not self.voltages[0] <= voltage <= self.voltages[-1]:
            raise SpecError(
                f"voltage: wanted {self.voltages[0]:g} to 1, in units of the lowest one without "
                f"errors, got {voltage:g}"
            )
        i = max(bisect_left(self.voltages, voltage) - 1, 0)
        low, high = self.voltages[i], self.voltages[i + 1]
        return i, (voltage - low) / (high - low)

    @staticmethod
    def _between(values: tuple[float, ...], i: int, share: float) -> float:
        """Return the value at a share of the way from point `i` to the next; exact at both ends."""
        return (1 - share) * values[i] + share * values[i + 1]


PUBLISHED = VoltageTable(
    voltages=(0.750, 0.792, 0.833, 0.875, 0.917, 0.958, 1.0),
    bers=(0.205, 0.054, 0.0113, 1.3e-3, 5e-5, 2e-6, 0.0),
    energies=(0.561, 0.627, 0.694, 0.766, 0.840, 0.918, 1.0),
    source="32 SRAM arrays of 512 x 64 cells, 14 nm, digitized from arXiv 2006.13977",
)
"""The table of METHODS E.6: axes as stated, values digitized. The rates 5e-5 and 2e-6 are good to
a factor of two, the highest lies between 0.20 and 0.21."""


def read_voltage_table(path: Path) -> VoltageTable:
    r"""Return the table in a CSV file with the columns `voltage,ber,energy`.

    Raises:
        DataError: the file is missing or malformed; the message names the line or the column.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "own.csv"
        ...     _ = path.write_text("voltage,ber,energy\n0.8,1e-2,0.64\n1,0,1\n")
        ...     read_voltage_table(path).bers
        (0.01, 0.0)
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: wanted a table of voltages, there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: wanted a table in UTF-8, got {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if header != list(COLUMNS):
            wanted, came = ",".join(COLUMNS), ",".join(header) or "nothing"
            raise DataError(f"wanted the columns {wanted}, got {came}")
        rows += [_numbers(cells) for cells in reader if cells]
    except (DataError, csv.Error) as error:
        raise DataError(f"{path}, line {max(reader.line_num, 1)}: {error}") from None
    voltages, bers, energies = zip(*rows, strict=True) if rows else ((), (), ())
    try:
        return VoltageTable(voltages=voltages, bers=bers, energies=energies, source=str(path))
    except ValidationError as error:
        problem = describe_problem(problems_of(error)[0], VoltageTable)
    raise DataError(f"{path}: {problem}")


def _numbers(cells: list[str]) -> list[float]:
    """Return the numbers of one line."""
    if len(cells) != len(COLUMNS):
        raise DataError(f"wanted {len(COLUMNS)} cells, got {len(cells)}")
    numbers = []
    for name, cell in zip(COLUMNS, cells, strict=True):
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(f"{name}: wanted a number, got {shorten(cell)}")
        numbers.append(number)
    return numbers
