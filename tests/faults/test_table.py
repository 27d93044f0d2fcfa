"""Lists of faults: columns, CSV files, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitproof.core.errors import FaultListError, StorageError
from bitproof.core.progress import Silent
from bitproof.faults.table import (
    ACTIONS,
    COLUMNS,
    MOST_TRIALS,
    SITES,
    FaultTable,
    read_fault_list,
    write_fault_list,
)

LAYERS = ("input", "layer1.0.conv", 'odd, "name"', "fc")
HEADER = ",".join(COLUMNS)
Row = tuple[int, str, str, int, int, int, str]

rows_of = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.sampled_from(SITES),
        st.sampled_from(LAYERS),
        st.integers(0, 2**40),
        st.integers(-1, 2**31 - 1),
        st.integers(0, 63),
        st.sampled_from(ACTIONS),
    ),
    min_size=1,
    max_size=20,
)
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "faults.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    with pytest.raises(FaultListError) as caught:
        read_fault_list(path, layers=LAYERS)
    return str(caught.value)


@given(rows_of)
def test_rows_come_back_in_the_order_of_trials(rows: list[Row]) -> None:
    table = FaultTable.from_rows(rows, layers=LAYERS)
    assert table.rows() == sorted(rows, key=lambda row: row[0])
    assert len(table) == len(rows)
    assert table.n_trials == max(row[0] for row in rows) + 1


@given(rows_of)
def test_the_faults_of_the_trials_are_all_faults(rows: list[Row]) -> None:
    table = FaultTable.from_rows(rows, layers=LAYERS, n_trials=60)
    assert table.n_trials == 60
    parts = [table.of_trial(trial).rows() for trial in range(60)]
    assert [row for part in parts for row in part] == table.rows()
    assert all(row[0] == trial for trial, part in enumerate(parts) for row in part)
    assert table.of_trial(60).rows() == []


def test_layers_are_counted_as_they_come_if_none_are_given() -> None:
    rows: list[Row] = [(0, "weight", "b", 0, -1, 0, "flip"), (0, "weight", "a", 0, -1, 0, "flip")]
    table = FaultTable.from_rows(rows)
    assert table.layers == ("b", "a")
    assert table.select(np.array([False, True])).rows() == rows[1:]


@shared
@given(rows=rows_of)
def test_a_list_survives_its_file_but_for_gaps_between_trials(
    rows: list[Row], tmp_path: Path
) -> None:
    path = tmp_path / "faults.csv"
    places = {trial: place for place, trial in enumerate(sorted({row[0] for row in rows}))}
    rows = [(places[row[0]], *row[1:]) for row in rows]
    table = FaultTable.from_rows(rows, layers=LAYERS)
    write_fault_list(table, path)
    again = read_fault_list(path, layers=LAYERS)
    assert again.rows() == table.rows()
    assert (again.n_trials, again.layers) == (table.n_trials, table.layers)
    for name in COLUMNS:
        assert getattr(again, name).dtype == getattr(table, name).dtype


def test_empty_lines_and_carriage_returns_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "faults.csv"
    path.write_bytes(f"{HEADER}\r\n\r\n2,weight,fc,1,-1,3,stuck1\r\n\r\n".encode())
    table = read_fault_list(path, layers=LAYERS)
    assert table.rows() == [(0, "weight", "fc", 1, -1, 3, "stuck1")]


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_trials_are_those_that_have_a_line_and_it_is_said(tmp_path: Path) -> None:
    lines = (f"{trial},weight,fc,{trial},-1,3,flip" for trial in (20000, 7, 20000))
    path, heard = write(tmp_path, *lines), Heard()
    table = read_fault_list(path, layers=LAYERS, progress=heard)
    assert table.n_trials == 2
    assert [row[0] for row in table.rows()] == [0, 1, 1]
    assert [row[3] for row in table.rows()] == [7, 20000, 20000]
    assert heard.lines == [
        f"{path}: 2 trials have faults, with numbers up to 20000; they are numbered anew, 0 to 1"
    ]


def test_nothing_is_said_of_trials_without_gaps(tmp_path: Path) -> None:
    heard = Heard()
    path = write(tmp_path, "1,weight,fc,1,-1,3,flip", "0,weight,fc,2,-1,3,flip")
    assert read_fault_list(path, layers=LAYERS, progress=heard).n_trials == 2
    assert heard.lines == []


def test_a_list_with_only_a_header_is_refused(tmp_path: Path) -> None:
    assert "wanted at least one fault, got only the header" in complaint(write(tmp_path))


def test_the_largest_numbers_are_read(tmp_path: Path) -> None:
    line = f"{MOST_TRIALS - 1},product,fc,{2**40},{2**31 - 1},63,flip"
    table = read_fault_list(write(tmp_path, line), layers=LAYERS)
    assert table.rows() == [(0, "product", "fc", 2**40, 2**31 - 1, 63, "flip")]
    assert table.n_trials == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0,weight,fc,1,-1,3", "line 3: wanted 7 cells, got 6"),
        ("0,weight,fc,1,-1,3,flip,", "line 3: wanted 7 cells, got 8"),
        ("0,weigth,fc,1,-1,3,flip", "line 3: no site 'weigth'. Did you mean 'weight'?"),
        (
            "0,weight,layer1.conv,1,-1,3,flip",
            "no layer 'layer1.conv'. Did you mean 'layer1.0.conv'",
        ),
        ("0,weight,fc,1,-1,3,flop", "line 3: no action 'flop'. Did you mean 'flip'?"),
        ("-1,weight,fc,1,-1,3,flip", "trial: wanted a whole number from 0 to 49999999, got '-1'"),
        (f"{MOST_TRIALS},weight,fc,1,-1,3,flip", "trial: wanted a whole number"),
        (
            "0,weight,fc,1.0,-1,3,flip",
            "element: wanted a whole number from 0 to 1099511627776, got '1.0'",
        ),
        (f"0,weight,fc,{2**40 + 1},-1,3,flip", "element: wanted a whole number"),
        (f"0,weight,fc,{'9' * 5000},-1,3,flip", "element: wanted a whole number"),
        ("0,weight,fc,1,-2,3,flip", "tap: wanted a whole number from -1 to 2147483647, got '-2'"),
        ("0,weight,fc,1,,3,flip", "tap: wanted a whole number from -1 to 2147483647, got ''"),
        ("0,weight,fc,1,-1,64,flip", "bit: wanted a whole number from 0 to 63, got '64'"),
        ("0,weight,fc,1,-1,--3,flip", "bit: wanted"),
        ("0,weight,fc,1,-1,٣,flip", "bit: wanted"),
        ("0,weight,fc,1,-1,0x3,flip", "bit: wanted"),
        ("0,weight,fc,1,-1, 3,flip", "bit: wanted"),
        ('0,weight,"fc"x,1,-1,3,flip', "line 3: "),
        ('0,weight,"fc,1,-1,3,flip', "line 3: "),
    ],
)
def test_a_line_that_is_no_fault_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, "0,weight,fc,1,-1,3,flip", line)
    said = complaint(path)
    assert said.startswith(f"{path}: line 3: ")
    assert message in said
    assert len(said) < len(str(path)) + 300


@pytest.mark.parametrize("text", ["", "\n", "trial,site\n", HEADER.upper(), "x" * 200_000])
def test_other_columns_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "faults.csv"
    path.write_text(text, encoding="utf-8")
    said = complaint(path)
    assert said.startswith(f"{path}: line ")
    assert len(said) < len(str(path)) + 300


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "missing.csv")
    assert "Is a directory" in complaint(tmp_path)
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot read the fault list" in complaint(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write_fault_list(FaultTable.from_rows([], layers=LAYERS), tmp_path / "file" / "x.csv")


def spoil(text: str, draw: st.DataObject) -> str:
    """Return a list with a few characters replaced, dropped or doubled."""
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(text)))
        more = draw.draw(
            st.sampled_from([",", '"', "\n", "-", "9" * 30, "\0", "\r", "é", "", "flip", "\x85"])
            | st.text(max_size=4)
        )
        text = text[:at] + more + text[at + draw.draw(st.integers(0, 3)) :]
    return text


@settings(shared, max_examples=150)
@given(rows=rows_of, data=st.data())
def test_whatever_a_file_holds_it_is_read_or_refused(
    rows: list[Row], data: st.DataObject, tmp_path: Path
) -> None:
    path = tmp_path / "faults.csv"
    write_fault_list(FaultTable.from_rows(rows, layers=LAYERS), path)
    text = spoil(path.read_text(encoding="utf-8"), data)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        table = read_fault_list(path, layers=LAYERS)
    except FaultListError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 - a good list is no failure
    else:
        assert table.rows() == FaultTable.from_rows(table.rows(), layers=LAYERS).rows()


@shared
@given(content=st.binary(max_size=300))
def test_bytes_are_no_list(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "faults.csv"
    for text in (content, f"{HEADER}\n".encode() + b"0,weight,fc," + content + b",\n"):
        path.write_bytes(text)
        assert complaint(path).startswith(f"{path}: ")
