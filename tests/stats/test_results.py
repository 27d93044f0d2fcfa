from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitproof.core.errors import DataError
from bitproof.stats.results import COLUMNS, Row, read_results, write_results

HEADER = ",".join(COLUMNS)
NAMES = st.text("s1+,;\"'\n <é漢=", min_size=1, max_size=8)
TENTHS = st.integers(0, 10**9).map(lambda count: count / 1e9)
ROWS = st.builds(
    lambda variant, threat, level, values, n: Row(
        variant, threat, level, "acc", values[1], values[0], values[2], n
    ),
    NAMES,
    NAMES,
    st.none() | TENTHS,
    st.tuples(TENTHS, TENTHS, TENTHS).map(sorted),
    st.none() | st.integers(0, 10**9),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(ROWS, max_size=5, unique_by=lambda row: (row.variant, row.threat, row.level)))
def test_what_is_written_is_read_again(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write_results(rows, path)
    assert read_results(path) == rows


def test_the_bytes_are_fixed(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    rows = [
        Row("none", "linf_pgd", 8 / 255, "acc", 1 / 3, 0.1 + 0.2, 0.4, 540),
        Row("s1+s2", "random_flips", None, "auc_fr", -0.0, n=50),
    ]
    write_results(rows, path)
    assert path.read_bytes().decode() == (
        f"{HEADER}\n"
        "none,linf_pgd,0.03137254902,acc,0.3333333333,0.3,0.4,540,fraction\n"
        "s1+s2,random_flips,,auc_fr,0,,,50,fraction\n"
    )


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    write_results([Row("none", "random_flips", 1e-5 / 3, "acc", 2 / 3, 0.6, 0.7, 50)], first)
    write_results(read_results(first), second)
    assert first.read_bytes() == second.read_bytes()


def test_numbers_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with pytest.raises(DataError, match="finite"):
        write_results([Row("none", "none", 0.0, "acc", float("nan"))], path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("none,none,0,acc,0.9", "line 2: wanted 9 cells, got 5"),
        ("none,none,0,acc,high,,,5,fraction", "line 2: value: .*number.*'high'"),
        ("none,none,0,acc,nan,,,5,fraction", "line 2: value: .*finite number.*'nan'"),
        ("none,none,0,acc,,,,5,fraction", "line 2: value: .*number, got None"),
        ("none,none,0,acc,96.5,,,5,fraction", "line 2: wanted an accuracy from 0 to 1, got 96.5"),
        ("none,none,0,acc,0.9,0.95,0.8,5,fraction", "line 2: wanted ci_low <= ci_high"),
        ("none,none,0,acc,0.9,0.8,,5,fraction", "line 2: wanted ci_low <= ci_high, or both empty"),
        (
            "none,none,-1,acc,0.9,,,5,fraction",
            "line 2: level: .*or equal to 0, got '-1'",
        ),
        ("none,none,0,acc,0.9,,,5.5,fraction", "line 2: n: .*integer.*'5.5'"),
        (",none,0,acc,0.9,,,5,fraction", "line 2: variant: "),
        ('"none,none,0,acc', "line 2: unexpected end of data"),
    ],
)
def test_a_malformed_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(DataError, match=message):
        read_results(path)


def test_a_repeated_row_names_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER}\na,none,0,acc,0.9,,,,fraction\na,none,0.0,acc,0.8,,,,fraction\n")
    with pytest.raises(DataError, match="line 3: wanted a new row, got line 2 again"):
        read_results(path)


@pytest.mark.parametrize(
    "content", [b"", b"variant,acc\n", b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n\x00"]
)
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"results\.csv.*wanted"):
        read_results(path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: wanted the result table"):
        read_results(tmp_path / "nowhere.csv")
