import json
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.directory import (
    ResumableDirectory,
    differences,
    read_json,
    read_sealed,
    write_sealed,
)
from bitproof.core.errors import DataError, ResumeError, StorageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def directory(tmp_path: Path) -> ResumableDirectory:
    return ResumableDirectory(tmp_path / "deep" / "run")


def test_a_directory_in_which_nothing_was_written_is_gone(directory: ResumableDirectory) -> None:
    with pytest.raises(KeyError), directory.claimed():
        raise KeyError
    assert not directory.path.exists()


def test_what_was_there_or_written_stays_without_the_lock(directory: ResumableDirectory) -> None:
    directory.path.mkdir(parents=True)
    with directory.claimed():
        pass
    with directory.claimed():
        directory.note(a=1)
    assert [path.name for path in directory.path.iterdir()] == ["run.json"]


def test_it_is_held_by_one_at_a_time_again_and_again(directory: ResumableDirectory) -> None:
    for _ in range(2):
        with directory.claimed(), pytest.raises(ResumeError, match="in use by pid"):
            directory.claimed().__enter__()


def test_what_killed_processes_left_is_swept(directory: ResumableDirectory) -> None:
    left = directory.path / "networks" / f".a.json.{gethostname()}.999999999.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    with directory.claimed():
        assert not left.exists()


def test_a_crash_before_the_first_fact_is_no_damage(directory: ResumableDirectory) -> None:
    directory.manifest.create()
    directory.manifest.announce(directory.path / "run.json", directory.manifest.path)
    directory.take_stock(print)
    directory.note(a=1)
    directory.take_stock(print)
    (directory.path / "run.json").write_text("{}")
    with pytest.raises(ResumeError, match=r"run\.json: changed, and says which run this is"):
        directory.take_stock(print)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="wanted a run directory, this is a file"):
        ResumableDirectory(tmp_path / "file").claimed().__enter__()


def test_facts_are_merged_key_by_key(directory: ResumableDirectory) -> None:
    assert directory.facts() == {}
    directory.note(durations={"a": 1}, state="begun")
    assert directory.note(durations={"b": 2}, state="done") == directory.facts()
    assert directory.facts() == {"durations": {"a": 1, "b": 2}, "state": "done"}


def test_each_difference_is_named(directory: ResumableDirectory) -> None:
    directory.check_same({"a": 1}, {"a": 1}, "no")
    with pytest.raises(ResumeError, match=r"run: cannot go on. a: 1 before, 2 now; b: nothing be"):
        directory.check_same({"a": 1}, {"a": 2, "b": 3}, "cannot go on")


def test_a_sealed_file_comes_back_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_sealed(path, {"trials": 3})
    assert read_sealed(path) == {"trials": 3}
    path.write_text(path.read_text().replace("3", "4", 1))
    with pytest.raises(DataError, match="damaged or edited"):
        read_sealed(path)


def test_damage_is_told_as_the_error_that_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("", "[]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ResumeError, match=r"x\.json: damaged"):
            read_json(path)
        with pytest.raises(DataError, match=r"x\.json: damaged"):
            read_json(path, DataError)
    path.write_text(json.dumps({"a": 1}))
    assert read_json(path) == {"a": 1}


def test_differences_name_every_field() -> None:
    old = {"seed": 0, "data": {"kind": "a", "size": 1}, "only": [1]}
    new = {"seed": 0, "data": {"kind": "b", "size": 1}, "more": {"x": 1}}
    assert differences(old, new) == [
        "data.kind: a before, b now",
        "only: [1] before, nothing now",
        "more: nothing before, {'x': 1} now",
    ]


def test_long_values_are_cut_and_kept_on_one_line() -> None:
    (line,) = differences({"a": "x\ny" * 100}, {"a": ["\ud800", {"b": None}]})
    assert len(line) < 200
    assert "\n" not in line
    assert line.encode()


@settings(max_examples=50)
@given(*[st.dictionaries(st.text(max_size=3), JSON, max_size=4)] * 2)
def test_tables_without_differences_are_equal(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert differences(old, old) == []
    assert differences(old, new) or old == new
