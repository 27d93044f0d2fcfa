"""Measured chips: against nested loops, in a round trip, and refusing what is malformed."""

import hashlib
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitproof.core.errors import BitproofError, ChecksumError, DataError, SpecError
from bitproof.core.rng import draw_seed, make_generator
from bitproof.evaluation import MemoryFaults
from bitproof.faults import (
    FAULTS,
    FaultModel,
    MeasuredChip,
    SimulatedSram,
    faulty_codes,
    write_error_map,
)
from bitproof.faults.error_map import read_error_map
from bitproof.faults.sram import CHIP_2
from bitproof.quant import CodedTensor, Grid

HEAD = "row,column,direction,onset_voltage\n"
MAP = HEAD + "0,1,0->1,0.9\n2,3,1->0,0.8\n1,0,flip,0.85\n0,2,both,0.7\n"
CELLS = {
    (0, 1): ("0->1", 0.9),
    (2, 3): ("1->0", 0.8),
    (1, 0): ("flip", 0.85),
    (0, 2): ("flip", 0.7),
}


def write(folder: Path, text: str = MAP, name: str = "chip.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def chip_of(path: Path, *, voltage: float = 0.75, rows: int = 3, columns: int = 4) -> FaultModel:
    table = {"kind": "measured_chip", "path": str(path), "rows": rows, "columns": columns}
    return FAULTS.build(table | {"voltage": voltage})


def problem_of(path: Path) -> str:
    """Return the one line that refuses a file, without its name."""
    with pytest.raises(SpecError) as caught:
        chip_of(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"measured_chip.MeasuredChip: error map {path}: ")
    return text.partition(f"{path}: ")[2]


def random_codes(n: int, *, bits: int = 8) -> Tensor:
    return torch.randint(0, 1 << bits, (n,), generator=make_generator(0)).to(torch.uint8)


# What a map does.


def slow_read(codes: Tensor, bits: int, *, voltage: float, seed: int) -> list[int]:
    """Read every bit of every word from its cell."""
    cell, words = draw_seed(make_generator(seed)) % 12, []
    for code in codes.tolist():
        word = code
        for bit in range(bits):
            direction, onset = CELLS.get((cell // 4, cell % 4), ("", 0.0))
            if voltage <= onset:
                ones = {"0->1": 1, "1->0": 0, "flip": 1 - (word >> bit & 1)}
                word = word & ~(1 << bit) | ones[direction] << bit
            cell = (cell + 1) % 12
        words.append(word)
    return words


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("voltage", [0.69, 0.7, 0.75, 0.8, 0.84, 0.85, 0.9, 0.91])
def test_words_are_those_of_nested_loops(voltage: float, bits: int, tmp_path: Path) -> None:
    codes, chip = random_codes(50, bits=bits), chip_of(write(tmp_path), voltage=voltage)
    for seed in range(4):
        read = chip.corrupt(codes, bits=bits, generator=make_generator(seed))
        assert read.tolist() == slow_read(codes, bits, voltage=voltage, seed=seed)


def test_signed_words_stay_words_of_their_width(tmp_path: Path) -> None:
    codes = torch.arange(-8, 8, dtype=torch.int8)
    read = chip_of(write(tmp_path)).corrupt(codes, bits=4, generator=make_generator(0))
    low_bits = slow_read(codes & 15, 4, voltage=0.75, seed=0)
    assert read.tolist() == [word - 16 if word > 7 else word for word in low_bits]


@pytest.mark.parametrize("column_share", [0.0, 0.6])
def test_a_simulated_chip_written_as_a_map_breaks_the_same_words(
    column_share: float, tmp_path: Path
) -> None:
    chip = SimulatedSram(ber=0.2, chip=3, arrays=2, rows=50, column_share=column_share, to_one=0.7)
    write_error_map(chip, tmp_path / "chip.csv", lambda u: 1 - u)
    for ber in (0.0, 0.013, 0.1, 0.2):
        measured = chip_of(tmp_path / "chip.csv", voltage=1 - ber, rows=100, columns=64)
        assert isinstance(measured, MeasuredChip)
        stored = {"w": (random_codes(5000), 8), "b": (random_codes(99, bits=4), 4)}
        read, wanted = (
            model.corrupt_all(stored, generator=make_generator(1))
            for model in (measured, chip.at(ber))
        )
        assert all(torch.equal(read[name], wanted[name]) for name in stored)


def test_what_errs_at_one_voltage_errs_at_every_lower_one(tmp_path: Path) -> None:
    codes = random_codes(60)
    path = write(tmp_path)
    high, low = (
        chip_of(path, voltage=volt).corrupt(codes, bits=8, generator=make_generator(2)) ^ codes
        for volt in (0.85, 0.7)
    )
    assert torch.equal(high & low, high)
    assert not torch.equal(high, low)


# Files.


@pytest.mark.parametrize(
    "direction",
    [np.array(["0->1", "1->0", "flip", "both"]), np.array([1, -1, 0, 0], np.int8)],
)
def test_an_npz_file_says_the_same_as_a_csv_file(direction: np.ndarray, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "chip.npz",
        row=np.array([0, 2, 1, 0], np.uint16),
        column=np.array([1, 3, 0, 2]),
        direction=direction,
        onset_voltage=np.array([0.9, 0.8, 0.85, 0.7]),
    )
    codes = random_codes(60)
    first, second = (
        chip_of(path).corrupt(codes, bits=8, generator=make_generator(1))
        for path in (write(tmp_path), tmp_path / "chip.npz")
    )
    assert torch.equal(first, second)


def test_columns_may_come_in_any_order_with_spaces_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeffcolumn, row, onset_voltage, direction\r\n1,0,0.9, 0->1\r\n\r\n3,2,.8,1->0\r\n"
    chip = chip_of(write(tmp_path, text))
    assert isinstance(chip, MeasuredChip)
    assert chip.error_map().weak.cells.tolist() == [1, 11]
    assert chip.error_map().onset.tolist() == [0.9, 0.8]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: wanted the columns row, column, direction, onset_voltage, got nothing"),
        (
            "row,column,direction\n0,1,flip\n",
            "line 1: wanted the columns row, column, direction, onset_voltage, "
            "got row, column, direction",
        ),
        (
            "array," + HEAD,
            "line 1: wanted the columns row, column, direction, onset_voltage, "
            "got array, row, column, direction, onset_voltage",
        ),
        (HEAD, "wanted at least one cell, got none"),
        (MAP + "1,2,flip\n", "line 6: wanted 4 values, got 3"),
        (MAP + "1,2,flip,0.9,\n", "line 6: wanted 4 values, got 5"),
        (MAP + "3,0,flip,0.9\n", "line 6: row: wanted a whole number from 0 to 2, got '3'"),
        (MAP + "2,4,flip,0.9\n", "line 6: column: wanted a whole number from 0 to 3, got '4'"),
        (MAP + "-1,0,flip,0.9\n", "line 6: row: wanted a whole number from 0 to 2, got '-1'"),
        (MAP + "1.0,1,flip,0.9\n", "line 6: row: wanted a whole number from 0 to 2, got '1.0'"),
        (MAP + "٢,1,flip,0.9\n", "line 6: row: wanted a whole number from 0 to 2, got '٢'"),
        (MAP + ",1,flip,0.9\n", "line 6: row: wanted a whole number from 0 to 2, got ''"),
        (
            MAP + f"1,{'9' * 5000},flip,0.9\n",
            f"line 6: column: wanted a whole number from 0 to 3, got '{'9' * 71}...{'9' * 24}'",
        ),
        (MAP + "\n1,0,flip,0.9\n", "line 7: row 1, column 0 came before"),
        (MAP + "1,2,up,0.9\n", "line 6: no direction 'up'. Known: 0->1, 1->0, flip, both"),
        (MAP + "1,2,1,0.9\n", "line 6: no direction '1'. Known: 0->1, 1->0, flip, both"),
        (MAP + "1,2,flip,nan\n", "line 6: onset_voltage: wanted a positive number, got 'nan'"),
        (MAP + "1,2,flip,inf\n", "line 6: onset_voltage: wanted a positive number, got 'inf'"),
        (MAP + "1,2,flip,0\n", "line 6: onset_voltage: wanted a positive number, got '0'"),
        (MAP + "1,2,flip,0.8V\n", "line 6: onset_voltage: wanted a positive number, got '0.8V'"),
        (MAP + '1,2,"flip\n', "line 6: unexpected end of data"),
    ],
)
def test_a_malformed_csv_file_is_refused_in_one_line(
    text: str, problem: str, tmp_path: Path
) -> None:
    assert problem_of(write(tmp_path, text)) == problem


def test_a_csv_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chip.csv").write_bytes(b"\xff\xfe\x00")
    assert problem_of(tmp_path / "chip.csv") == "wanted text in UTF-8 (invalid start byte)"


GOOD: dict[str, Any] = {
    "row": np.array([0, 2]),
    "column": np.array([1, 3]),
    "direction": np.array([1, 0]),
    "onset_voltage": np.array([0.9, 0.8]),
}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"row": np.array([0.0, 2.0])}, "row: wanted integers or unsigned integers, got float64"),
        ({"row": np.array([True, False])}, "row: wanted integers or unsigned integers, got bool"),
        ({"row": np.array([0, 3])}, "entry 1: row: wanted a whole number from 0 to 2, got '3'"),
        ({"column": np.array([1, -3])}, "entry 1: column: wanted a whole number from 0 to 3, got"),
        ({"direction": np.array([1, 2])}, "entry 1: no direction '2'. Known: 0->1, 1->0, flip"),
        ({"direction": np.array([b"flip", b"0->1"])}, "direction: wanted integers or unsigned int"),
        ({"onset_voltage": np.array([0.9, np.nan])}, "entry 1: onset_voltage: wanted a positive"),
        ({"onset_voltage": np.array(["0.9", "1"])}, "onset_voltage: wanted integers or unsigned"),
        ({"row": np.array([0])}, "wanted four lists of one length, got shapes"),
        ({name: column[None] for name, column in GOOD.items()}, "wanted four lists of one length"),
        ({name: column[:0] for name, column in GOOD.items()}, "wanted at least one cell, got none"),
        ({"row": np.array([0, 0]), "column": np.array([1, 1])}, "entry 1: row 0, column 1 came"),
        ({"direction": np.array(["flip", None], object)}, "wanted a whole npz file: Object arrays"),
    ],
)
def test_a_malformed_npz_file_is_refused_in_one_line(
    changed: dict[str, np.ndarray], problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "chip.npz"
    np.savez(path, **(GOOD | changed))
    assert problem_of(path).startswith(problem)


def test_an_npz_file_that_lacks_an_array_or_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chip.npz"
    np.savez(path, row=GOOD["row"])
    assert problem_of(path) == ("wanted arrays row, column, direction, onset_voltage, got row")
    np.savez(path, **GOOD)
    whole = path.read_bytes()
    locked = re.sub(rb"(PK\x01\x02.{4})\0", b"\\1\x01", whole, flags=re.DOTALL)
    for content in (b"", whole[:100], whole[:-30], pickle.dumps(GOOD), locked):
        path.write_bytes(content)
        assert problem_of(path).startswith("wanted a whole npz file: ")


def test_a_file_of_another_type_or_none_is_refused(tmp_path: Path) -> None:
    assert problem_of(write(tmp_path, name="chip.txt")) == "wanted a .csv or .npz file"
    missing = "wanted a .csv or .npz file, there is none"
    assert problem_of(tmp_path / "none.csv") == missing
    assert problem_of(tmp_path) == missing


def test_a_file_is_found_here_and_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "chips").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    path = write(tmp_path / "data" / "chips")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("BITPROOF_DATA", str(tmp_path / "data"))
    first = chip_of(Path("chips/chip.csv"))
    monkeypatch.chdir(tmp_path / "data")
    monkeypatch.setenv("BITPROOF_DATA", str(tmp_path / "none"))
    assert chip_of(Path("chips/chip.csv")) == first
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"error map data folder .*none does not exist"):
        chip_of(Path("chips/chip.csv"))
    assert isinstance(first, MeasuredChip)
    assert first.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# The content identifies results.


def test_the_checksum_is_filled_in_and_changes_the_digest_with_the_content(tmp_path: Path) -> None:
    first = chip_of(write(tmp_path))
    assert first.model_dump()["sha256"] == hashlib.sha256(MAP.encode()).hexdigest()
    again = FAULTS.build(first.model_dump(mode="json"))
    assert (again, again.digest(), hash(again)) == (first, first.digest(), hash(first))
    second = chip_of(write(tmp_path, MAP + "1,1,flip,0.9\n"))
    assert second.digest() != first.digest()


def test_a_file_that_is_not_the_one_of_the_checksum_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    table = {"kind": "measured_chip", "path": str(path), "rows": 3, "columns": 4, "voltage": 0.8}
    with pytest.raises(SpecError, match=f"wanted sha256 {'0' * 64}, got {'[0-9a-f]' * 64}$"):
        FAULTS.build(table | {"sha256": "0" * 64})
    with pytest.raises(SpecError, match="sha256: string should match pattern"):
        FAULTS.build(table | {"sha256": "abc"})


def test_a_worker_reads_the_map_itself_and_refuses_another(tmp_path: Path) -> None:
    path, codes = write(tmp_path), random_codes(20)
    chip = pickle.loads(pickle.dumps(chip_of(path)))
    here = chip.corrupt(codes, bits=8, generator=make_generator(0))
    read_error_map.cache_clear()  # as in another process
    assert torch.equal(chip.corrupt(codes, bits=8, generator=make_generator(0)), here)
    read_error_map.cache_clear()
    write(tmp_path, MAP + "1,1,flip,0.9\n")
    with pytest.raises(ChecksumError, match="wanted sha256"):
        chip.corrupt(codes, bits=8, generator=make_generator(0))
    path.unlink()
    with pytest.raises(DataError, match="there is none"):
        chip.corrupt(codes, bits=8, generator=make_generator(0))


def test_a_map_is_read_once_in_a_process(tmp_path: Path) -> None:
    read_error_map.cache_clear()
    chip = chip_of(write(tmp_path))
    for voltage in (0.7, 0.8, 0.9):
        chip.at(voltage).corrupt(random_codes(5), bits=8, generator=make_generator(0))
    assert read_error_map.cache_info().misses == 1


# Writing.


@pytest.mark.parametrize(
    ("chip", "name", "problem"),
    [
        (SimulatedSram(ber=0.1), "chip.npz", "wanted a name that ends in .csv"),
        (SimulatedSram(ber=0.1, persistence=0.5), "chip.csv", "persistence: wanted 1 for an error"),
    ],
)
def test_what_a_map_cannot_say_is_refused(
    chip: SimulatedSram, name: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=problem):
        write_error_map(chip, tmp_path / name, lambda u: 1 - u)


def test_onset_voltages_that_are_none_are_refused(tmp_path: Path) -> None:
    for onset in (np.zeros_like, lambda u: u * np.nan, lambda u: u[1:], lambda u: u / 0.0 + np.inf):
        with np.errstate(all="ignore"), pytest.raises(BitproofError, match="onset: wanted a posit"):
            write_error_map(SimulatedSram(ber=0.001), tmp_path / "chip.csv", onset)
    assert not (tmp_path / "chip.csv").exists()


# As a component.


def test_labels_tell_chip_and_unit(tmp_path: Path) -> None:
    chip = chip_of(write(tmp_path, name="sram_a.csv"))
    assert chip.label.at(0.833) == "Measured chip sram_a at V/Vmin = 0.833"
    volts = FAULTS.build(chip.model_dump() | {"unit": "V"})
    assert volts.label.at(0.6) == "Measured chip sram_a at V = 0.6"


def test_a_threat_sweeps_the_voltage(tmp_path: Path) -> None:
    threat = MemoryFaults(fault=chip_of(write(tmp_path)), levels=(0.7, 0.85, 1.0), chips=2)
    assert threat.label.symbol == "V/Vmin"
    assert [threat.fault.at(level).model_dump()["voltage"] for level in threat.levels] == [
        *threat.levels
    ]
    with pytest.raises(SpecError, match="voltage: should be greater than 0"):
        threat.fault.at(0.0)


def test_stages_read_faulty_codes(tmp_path: Path) -> None:
    grid = Grid(torch.tensor(1.0), torch.tensor(0, dtype=torch.int32), 8, signed=False)
    codes = random_codes(40)
    fault = chip_of(write(tmp_path))
    read = faulty_codes({"w": CodedTensor(codes, grid)}, fault, generator=make_generator(1))
    assert torch.equal(read["w"], fault.corrupt(codes, bits=8, generator=make_generator(1)))
    assert not torch.equal(read["w"], codes)


def test_a_preset_can_be_written_and_measured(tmp_path: Path) -> None:
    chip = CHIP_2.at(0.0108)
    assert isinstance(chip, SimulatedSram)
    write_error_map(chip, tmp_path / "chip2.csv", lambda u: 1 - 0.1 * u)
    measured = chip_of(tmp_path / "chip2.csv", voltage=0.5, rows=32 * 512, columns=64)
    codes = random_codes(3000)
    first, second = (
        model.corrupt(codes, bits=8, generator=make_generator(3)) for model in (chip, measured)
    )
    assert torch.equal(first, second)
