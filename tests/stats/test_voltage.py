import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.errors import DataError, SpecError
from bitproof.stats import PUBLISHED, VoltageTable, read_voltage_table

RATES = st.floats(2e-6, 0.205)
GOOD = ["voltage,ber,energy", "0.8,1e-2,0.64", "0.9,1e-4,0.81", "1,0,1"]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "own.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_points_of_the_table_are_met_exactly() -> None:
    for voltage, ber, energy in zip(
        PUBLISHED.voltages, PUBLISHED.bers, PUBLISHED.energies, strict=True
    ):
        assert PUBLISHED.ber_at(voltage) == pytest.approx(ber)
        assert PUBLISHED.voltage_at(ber) == pytest.approx(voltage)
        assert PUBLISHED.energy_at(voltage) == pytest.approx(energy)


def test_the_published_energy_is_that_of_the_squared_voltage() -> None:
    assert PUBLISHED.energy_at(0.8333) == pytest.approx(0.694, abs=1e-3)
    for voltage in (0.75, 0.8, 0.8333, 0.9, 0.98):
        assert PUBLISHED.energy_at(voltage) == pytest.approx(voltage**2, abs=2e-3)


@pytest.mark.parametrize(("ber", "saved"), [(0.01, 0.30), (0.001, 0.22)])
def test_savings_are_about_those_that_the_paper_states(ber: float, saved: float) -> None:
    energy = PUBLISHED.energy_at(PUBLISHED.voltage_at(ber))
    assert 1 - energy == pytest.approx(saved, abs=0.01)


def test_the_logarithm_of_the_rate_is_linear_between_two_points() -> None:
    middle = (0.833 + 0.875) / 2
    assert PUBLISHED.ber_at(middle) == pytest.approx(math.sqrt(0.0113 * 0.0013))
    share = math.log10(0.01 / 0.0113) / math.log10(0.0013 / 0.0113)
    assert PUBLISHED.voltage_at(0.01) == pytest.approx(0.833 + share * 0.042)


def test_between_the_last_error_and_none_the_worse_end_counts() -> None:
    assert PUBLISHED.ber_at(0.959) == PUBLISHED.ber_at(0.9999) == 2e-6
    assert PUBLISHED.ber_at(1.0) == 0
    assert PUBLISHED.voltage_at(1.9e-6) == PUBLISHED.voltage_at(0.0) == 1.0


@settings(max_examples=100, deadline=None)
@given(ber=RATES, other=RATES)
def test_rates_and_voltages_are_inverse_and_fall_with_each_other(ber: float, other: float) -> None:
    assert PUBLISHED.ber_at(PUBLISHED.voltage_at(ber)) == pytest.approx(ber)
    low, high = sorted((ber, other))
    assert PUBLISHED.voltage_at(low) >= PUBLISHED.voltage_at(high) - 1e-12


@pytest.mark.parametrize("voltage", [0.7499, 1.0001, math.nan, -1.0])
def test_a_voltage_outside_the_table_is_refused(voltage: float) -> None:
    for ask in (PUBLISHED.ber_at, PUBLISHED.energy_at):
        with pytest.raises(SpecError, match=r"voltage: wanted 0\.75 to 1"):
            ask(voltage)


@pytest.mark.parametrize("ber", [0.21, -1e-9, math.nan])
def test_a_rate_outside_the_table_is_refused(ber: float) -> None:
    with pytest.raises(SpecError, match=r"ber: wanted a rate from 0 to 0\.205"):
        PUBLISHED.voltage_at(ber)


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    table = read_voltage_table(write(tmp_path, *GOOD, ""))
    assert table == VoltageTable(
        voltages=(0.8, 0.9, 1.0),
        bers=(0.01, 1e-4, 0.0),
        energies=(0.64, 0.81, 1.0),
        source=str(tmp_path / "own.csv"),
    )
    assert table.ber_at(0.85) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("number", "line", "problem"),
    [
        (0, "voltage,ber", "line 1: wanted the columns voltage,ber,energy, got voltage,ber"),
        (1, "0.8,1e-2", "line 2: wanted 3 cells, got 2"),
        (1, "0.8,nan,0.64", "line 2: ber: wanted a number, got 'nan'"),
        (2, "0.9,1e-4,much", "line 3: energy: wanted a number, got 'much'"),
        (1, "0.95,1e-2,0.64", "voltages: wanted numbers above 0 that rise to 1"),
        (1, "0.8,1e-5,0.64", "bers: wanted rates that fall to 0 at the last voltage"),
        (1, "0.8,1,0.64", "bers: wanted fractions up to 0.5, not per cent, got 1"),
        (1, "0.8,1e-2,0.9", "energies: wanted numbers above 0 that rise to 1"),
        (3, "1,1e-6,1", "bers: wanted rates that fall to 0 at the last voltage"),
        (3, "1.1,0,1", "voltages: wanted numbers above 0 that rise to 1"),
    ],
)
def test_a_malformed_table_is_refused_in_one_line(
    number: int, line: str, problem: str, tmp_path: Path
) -> None:
    lines = [line if i == number else good for i, good in enumerate(GOOD)]
    with pytest.raises(DataError) as caught:
        read_voltage_table(write(tmp_path, *lines))
    assert str(caught.value).startswith(f"{tmp_path / 'own.csv'}")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", [[], GOOD[:1], [GOOD[0], GOOD[3]]])
def test_a_table_of_no_error_is_refused(lines: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"wanted|at least 2"):
        read_voltage_table(write(tmp_path, *lines))


def test_a_missing_table_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_voltage_table(tmp_path / "nothing.csv")
