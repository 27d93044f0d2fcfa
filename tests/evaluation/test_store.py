import json
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import DataError, StorageError
from bitproof.evaluation import TallyStore
from bitproof.metrics import Tally
from bitproof.report.tallies import read_tallies

KEYS = [f"{trial:064x}" for trial in (2, 0, 1)]


def filled(path: Path | None) -> TallyStore:
    store = TallyStore(path)
    for key in KEYS:
        store.add(key, Tally(int(key, 16), 10), variant="s1+s2", level=1e-3 / 3)
    return store


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_count_stands_under_its_key(on_disk: bool, tmp_path: Path) -> None:
    store = filled(tmp_path / "tallies.jsonl" if on_disk else None)
    assert store.get(KEYS[0]) == Tally(2, 10)
    assert store.get("f" * 64) is None


def test_a_store_is_read_again(tmp_path: Path) -> None:
    filled(tmp_path / "tallies.jsonl")
    again = TallyStore(tmp_path / "tallies.jsonl")
    assert [again.get(key) for key in KEYS] == [Tally(int(key, 16), 10) for key in KEYS]


@pytest.mark.parametrize("torn", ['{"correct":1', "{", '{"correct":1,"level":0.0,"threat":"x"}'])
def test_a_torn_last_line_is_dropped(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "tallies.jsonl"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole + torn.encode())
    store = TallyStore(path)
    assert path.read_bytes() == whole + torn.encode()  # another process may be writing it
    store.add("f" * 64, Tally(1, 1))
    assert path.read_bytes().startswith(whole + b'{"check":"')
    assert TallyStore(path).get("f" * 64) == Tally(1, 1)


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b"3", b"nonsense", b'{"variant":"a"}', b"\xff\xfe"]
)
def test_a_damaged_line_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tallies.jsonl"
    filled(path)
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(DataError, match=r"tallies\.jsonl: line 4 is not a measurement"):
        TallyStore(path)


def test_a_count_that_cannot_be_written_is_not_kept(tmp_path: Path) -> None:
    store = TallyStore(tmp_path / "nowhere" / "tallies.jsonl")
    with pytest.raises(StorageError, match="cannot write"):
        store.add(KEYS[0], Tally(1, 1))
    assert store.get(KEYS[0]) is None


def test_which_answers_were_right_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tallies.jsonl"
    right = bytes([1, 0, 0, 0, 0, 0, 0, 1, 1])
    store = TallyStore(path)
    store.add(KEYS[0], Tally(3, 9, right=right))
    store.add(KEYS[1], Tally(3, 9))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("right") for line in lines] == ["gYA=", None]
    again = [TallyStore(path).get(key) for key in KEYS[:2]]
    assert [one and one.right for one in again] == [right, None]


@pytest.mark.parametrize("right", ["gYA", "gQ==", "gcA=", "AYA=", 5, ["gYA="]])
def test_right_answers_that_do_not_fit_their_count_are_damage(right: Any, tmp_path: Path) -> None:
    path = tmp_path / "tallies.jsonl"
    names = {"variant": "v", "threat": "clean", "level": 0.0, "trial": 0}
    path.write_text(json.dumps({**names, "key": "a", "correct": 3, "total": 9, "right": right}))
    path.write_text(path.read_text() + "\n")
    for read in (TallyStore, read_tallies):
        with pytest.raises(DataError, match=r"tallies\.jsonl: line 1 is not a measurement"):
            read(path)
