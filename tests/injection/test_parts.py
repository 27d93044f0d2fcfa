import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.core.errors import DataError, StorageError
from bitproof.faults.table import FaultTable
from bitproof.injection import parts as parts_module
from bitproof.injection import sealed
from bitproof.injection.parts import Parts
from bitproof.injection.sealed import write_fault_table

N_CHUNKS = 250
DTYPES = ["i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f8"]
Columns = dict[str, np.ndarray]


def result(chunk: int) -> Columns:
    generator = np.random.default_rng(chunk)
    return {
        "trial": np.arange(chunk * 50, chunk * 50 + 50, dtype=np.int32),
        "bit": generator.integers(0, 8, 50, np.uint8),
        "margin": generator.standard_normal(50),
    }


def same(a: Columns | None, b: Columns) -> bool:
    return a is not None and [(n, c.dtype, c.tobytes()) for n, c in a.items()] == [
        (n, c.dtype, c.tobytes()) for n, c in b.items()
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path / "parts", "mine")


# --- what is written is what is read


@st.composite
def tables(draw: st.DrawFn) -> Columns:
    n = draw(st.integers(0, 40))
    names = draw(st.lists(st.text("abcé .\"'", min_size=1), min_size=1, max_size=4, unique=True))
    columns = {}
    for name in names:
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        size = n * dtype.itemsize
        columns[name] = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype)
    return columns


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 10**6))
def test_every_bit_of_every_column_comes_back(columns: Columns, chunk: int) -> None:
    with TemporaryDirectory() as folder:
        parts = Parts(Path(folder), "mine")
        parts.write(chunk, columns)
        assert same(parts.read(chunk), columns)
        assert parts.finished(chunk + 1) == {chunk}
        assert parts.messages == []


def test_extreme_integers_and_odd_floats_come_back(parts: Parts) -> None:
    nans = np.array([0x7FF8000000000001, 0xFFF8000000000002, 1 << 63, 0], np.uint64)
    columns = {"nan": nans.view(np.float64)}
    for dtype in map(np.dtype, DTYPES[:-1]):
        limits = np.iinfo(dtype)
        columns[dtype.name] = np.array([limits.min, limits.max, 0, 1], dtype)
    parts.write(0, columns)
    assert same(parts.read(0), columns)


def test_equal_columns_give_equal_files(tmp_path: Path) -> None:
    columns = result(3)
    swapped = {
        name: column.astype(column.dtype.newbyteorder(">")) for name, column in columns.items()
    }
    strided = {name: np.repeat(column, 2)[::2] for name, column in columns.items()}
    for number, table in enumerate((columns, swapped, strided)):
        Parts(tmp_path / str(number), "mine").write(3, table)
    files = {(tmp_path / str(number) / "part-00003.parquet").read_bytes() for number in range(3)}
    assert len(files) == 1


def test_a_part_never_changes(parts: Parts) -> None:
    parts.write(0, result(0))
    before = parts.path(0).stat()
    parts.write(0, result(0))
    after = parts.path(0).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(DataError, match="another result of this chunk"):
        parts.write(0, result(1))
    assert parts.path(0).stat().st_mtime_ns == before.st_mtime_ns


def test_all_parts_follow_the_order_of_chunks(parts: Parts) -> None:
    for chunk in (2, 0, 1):
        parts.write(chunk, result(chunk))
    whole = parts.read_all(3)
    assert whole["trial"].tolist() == list(range(150))
    assert whole["bit"].dtype == np.uint8
    assert parts.read_all(0) == {}


def test_missing_chunks_are_named(parts: Parts) -> None:
    for chunk in (0, 2, 6):
        parts.write(chunk, result(chunk))
    with pytest.raises(DataError, match=r"5 of 8 chunks are missing \(1, 3-5, 7\); .*--resume"):
        parts.read_all(8)
    for chunk in range(9, 40, 2):
        parts.write(chunk, result(chunk))
    with pytest.raises(DataError, match=r"\(1, 3-5, 7-8, 10, 12, .*, 22, \.\.\.\)"):
        parts.read_all(40)


def test_chunks_with_other_columns_are_refused(parts: Parts) -> None:
    parts.write(0, result(0))
    parts.write(1, {"bit": result(1)["bit"]})
    with pytest.raises(DataError, match=r"part-00001.parquet: has other columns than part-00000"):
        parts.read_all(2)


def test_a_folder_that_is_not_there_holds_nothing(parts: Parts) -> None:
    assert parts.finished(5) == set()
    assert parts.read(0) is None


# --- damaged and foreign files


def check_set_aside(parts: Parts, damaged: bytes, reason: str) -> None:
    """Damage chunk 1 of 3; it must be found, named, kept, and done again."""
    sound = parts.path(1).read_bytes()
    parts.path(1).write_bytes(damaged)
    del parts.messages[:]
    assert parts.finished(3) == {0, 2}
    (message,) = parts.messages
    assert message.startswith("part-00001.parquet: set aside as aside/part-00001-")
    assert reason in message
    aside = parts.folder / message.split()[4]
    assert aside.read_bytes() == damaged
    aside.unlink()
    parts.write(1, result(1))
    assert parts.path(1).read_bytes() == sound


@pytest.fixture
def three(parts: Parts) -> Parts:
    for chunk in range(3):
        parts.write(chunk, result(chunk))
    return parts


def test_flipped_bits_are_found(three: Parts) -> None:
    sound = three.path(1).read_bytes()
    places = random.Random(0).sample(range(len(sound) * 8), 80)
    for place in [0, *places, len(sound) * 8 - 1]:
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        check_set_aside(three, bytes(damaged), "cut short or altered")


@pytest.mark.slow
def test_every_flipped_bit_is_found(three: Parts) -> None:
    sound = three.path(1).read_bytes()
    for place in range(len(sound) * 8):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        three.path(1).write_bytes(damaged)
        assert three.read(1) is None, place
        (three.folder / "aside" / "part-00001-1.parquet").unlink()


def test_cut_files_are_found(three: Parts) -> None:
    sound = three.path(1).read_bytes()
    for length in [*range(0, len(sound), 41), len(sound) - 1]:
        check_set_aside(three, sound[:length], "cut short or altered")
    check_set_aside(three, sound + b"\0", "cut short or altered")
    check_set_aside(three, bytes(len(sound)), "cut short or altered")
    assert three.read_all(3)["trial"].tolist() == list(range(150))


def test_parts_of_another_campaign_are_found(three: Parts, tmp_path: Path) -> None:
    foreign = Parts(tmp_path / "foreign", "theirs")
    foreign.write(1, result(1))
    check_set_aside(three, foreign.path(1).read_bytes(), "fingerprint theirs, wanted mine")
    check_set_aside(three, three.path(2).read_bytes(), "part 2, wanted 1")
    write_fault_table(FaultTable.from_rows([]), tmp_path / "table")
    check_set_aside(three, (tmp_path / "table").read_bytes(), "part faults, wanted 1")


def test_parts_of_another_schema_are_found(
    three: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = Parts(tmp_path / "newer", "mine")
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "SCHEMA", 2)
        newer.write(1, result(1))
    check_set_aside(three, newer.path(1).read_bytes(), "schema 2, wanted 1")


def test_chunks_that_the_campaign_does_not_have_are_set_aside(three: Parts) -> None:
    assert three.finished(2) == {0, 1}
    assert "the campaign has only 2 chunks" in three.messages[0]


def test_damaged_files_do_not_replace_each_other(three: Parts) -> None:
    for content in (b"one", b"two", b"three"):
        three.path(1).write_bytes(content)
        assert three.read(1) is None
    assert sorted(contents(three.folder / "aside").values()) == [b"one", b"three", b"two"]


def test_a_folder_in_place_of_a_part_is_set_aside(parts: Parts) -> None:
    parts.path(0).mkdir(parents=True)
    assert parts.finished(1) == set()
    assert "Is a directory" in parts.messages[0]
    parts.write(0, result(0))
    assert parts.finished(1) == {0}


def test_want_of_file_handles_is_no_damage(three: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(StorageError, match=r"cannot read .*Too many open files"):
            three.finished(3)
    assert three.finished(3) == {0, 1, 2}


def test_a_part_that_was_mended_meanwhile_stays(
    three: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = tmp_path / "mended"
    mended.write_bytes(three.path(1).read_bytes())

    def mend_and_fail(content: bytes) -> Any:
        mended.replace(three.path(1))
        raise DataError("cut short or altered")

    with monkeypatch.context() as patch:
        patch.setattr(parts_module, "decode", mend_and_fail)
        assert three.read(1) is None
    assert three.finished(3) == {0, 1, 2}
    assert three.messages == []


def test_other_files_are_left_alone(three: Parts) -> None:
    for name in ("notes.txt", "part-1.parquet", "part-000001.parquet", "part-00001.parquet.bak"):
        (three.folder / name).write_text("mine")
    assert three.finished(3) == {0, 1, 2}
    assert len(contents(three.folder)) == 7


# --- killed processes, full disks

WRITER = """
import os, sys, types
from pathlib import Path
import numpy as np
import bitproof
for name in ("injection", "faults"):  # without their other modules, which import torch
    module = sys.modules[f"bitproof.{name}"] = types.ModuleType(name)
    module.__path__ = [f"{bitproof.__path__[0]}/{name}"]
from bitproof.injection.parts import Parts

def result(chunk):
    generator = np.random.default_rng(chunk)
    return {
        "trial": np.arange(chunk * 50, chunk * 50 + 50, dtype=np.int32),
        "bit": generator.integers(0, 8, 50, np.uint8),
        "margin": generator.standard_normal(50),
    }

n_chunks = int(sys.argv[2])
while sys.stdin.readline():
    pid = os.fork()
    if not pid:
        parts = Parts(Path(sys.argv[1]), "mine")
        for chunk in sorted(set(range(n_chunks)) - parts.finished(n_chunks)):
            parts.write(chunk, result(chunk))
        os._exit(bool(parts.messages))
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture
def writer(parts: Parts) -> Iterator["subprocess.Popen[str]"]:
    """Yield a process that, for each line, starts one that writes all chunks; tells pid, status."""
    command = [sys.executable, "-c", WRITER, str(parts.folder), str(N_CHUNKS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        yield process
        assert process.stdin
        process.stdin.close()


def wait_for_parts(folder: Path, n: int) -> None:
    for _ in range(20_000):
        if len(list(folder.glob("part-*.parquet"))) >= n:
            return
        time.sleep(0.0005)


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_writer_killed_again_and_again_loses_nothing(
    times: int, parts: Parts, writer: "subprocess.Popen[str]"
) -> None:
    assert writer.stdin
    assert writer.stdout
    moments = random.Random(0)
    seen: dict[str, bytes] = {}
    for _ in range(times):
        print(file=writer.stdin)
        pid = int(writer.stdout.readline())
        wait_for_parts(parts.folder, len(seen) + moments.randrange(6))
        time.sleep(moments.uniform(0, 0.002))
        os.kill(pid, 9)
        assert int(writer.stdout.readline()) == 9, "it ended before it was killed"
        present = contents(parts.folder) if parts.folder.exists() else {}
        done = {name: data for name, data in present.items() if not name.endswith(".tmp")}
        assert seen.items() <= done.items()
        seen = done
        assert len(parts.finished(N_CHUNKS)) == len(done)
        assert not list(parts.folder.glob(".*")), "what a killed process left is removed"
    assert 0 < len(seen) < N_CHUNKS
    print(file=writer.stdin)
    writer.stdout.readline()
    assert int(writer.stdout.readline()) == 0
    assert parts.messages == []
    assert seen.items() <= contents(parts.folder).items()
    assert parts.read_all(N_CHUNKS)["trial"].tolist() == list(range(50 * N_CHUNKS))
    assert all(same(parts.read(chunk), result(chunk)) for chunk in range(N_CHUNKS))


def test_an_error_of_the_disk_leaves_earlier_parts(
    three: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = contents(three.folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match=r"part-00003.*No space left on device") as caught:
            three.write(3, result(3))
    assert "\n" not in str(caught.value)
    assert contents(three.folder) == before
    three.write(3, result(3))
    assert three.finished(4) == {0, 1, 2, 3}


def test_a_full_disk_leaves_earlier_parts(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        (disk / "filler").write_bytes(bytes(100_000))
        parts = Parts(disk / "parts", "mine")
        noise = np.random.default_rng(0).bytes(30_000)
        columns = {"noise": np.frombuffer(noise, np.uint8)}
        chunk = 0
        while len(parts.finished(20)) == chunk < 20:
            try:
                parts.write(chunk, columns)
            except StorageError as error:
                problem = str(error)
                break
            chunk += 1
        assert 0 < chunk < 20
        assert problem.endswith("cannot write (No space left on device)")
        assert sorted(contents(disk / "parts")) == [parts.path(i).name for i in range(chunk)]
        assert parts.finished(20) == set(range(chunk))
        (disk / "filler").unlink()
        parts.write(chunk, columns)
        assert parts.finished(20) == set(range(chunk + 1))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("")
    with pytest.raises(StorageError, match=r"part-00000.*(Not a directory|File exists)"):
        Parts(tmp_path / "parts", "mine").write(0, result(0))
