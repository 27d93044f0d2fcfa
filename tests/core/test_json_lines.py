from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import DataError
from bitproof.core.json_lines import JsonLines


def number(entry: dict[str, Any]) -> int:
    return int(entry["n"])


def test_a_torn_last_line_goes_with_the_next_one_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"n":1}\n{"n":2}\n{"n')
    log = JsonLines(path)
    assert log.read(number) == [1, 2]
    assert path.read_text().endswith('{"n')  # reading writes nothing
    log.append({"n": 3})
    log.append({"n": 4})
    assert JsonLines(path).read(number) == [1, 2, 3, 4]


def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert JsonLines(tmp_path / "log.jsonl").read(number) == []


@pytest.mark.parametrize("line", ["{", "[]", "null", '{"m":1}', '{"n":"one"}', "\udcff"])
def test_lines_that_are_none_are_told_by_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(f'{{"n":1}}\n{line}\n'.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"log\.jsonl: line 2 is not a measurement"):
        JsonLines(path).read(number)
