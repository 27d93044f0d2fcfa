import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest

from bitproof.core.atomic import sweep
from bitproof.core.errors import StorageError
from bitproof.core.files import (
    append_line,
    atomic_path,
    sha256_of_file,
    write_bytes,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_finished_block_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")
    write_text(path, "neü\n")
    assert path.read_bytes() == "neü\n".encode()
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_inside_leaves_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(error):
        write_half(path, error())
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(StorageError, match=r"file\.txt: cannot write .*No space left on device"):
        write_half(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_what_does_not_reach_the_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = tmp_path / "file.txt"
    write_bytes(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match=r"file\.txt: cannot write \(Input/output error\)"):
            write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.txt"]


def test_a_device_without_room_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match=r"/dev/full: cannot write \(No space left on device\)"):
        append_line(Path("/dev/full"), "line")


def test_a_file_in_place_of_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match=r"taken/file.*(Not a directory|File exists)"):
        write_text(tmp_path / "taken" / "file", "x")
    with pytest.raises(StorageError, match="Not a directory"):
        append_line(tmp_path / "taken" / "file", "x")


def test_a_folder_in_place_of_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        write_text(tmp_path / "taken", "x")
    assert names(tmp_path) == ["taken"]


def test_lines_are_appended(tmp_path: Path) -> None:
    for line in ("a", "b"):
        append_line(tmp_path / "log", line)
    assert (tmp_path / "log").read_bytes() == b"a\nb\n"


def test_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_temporary_files_of_the_living_and_of_other_hosts_stay(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    living = [f"{gethostname()}.{os.getpid()}", "elsewhere.77"]
    for name in (f"{gethostname()}.{dead.pid}", *living):
        (tmp_path / f".file.txt.{name}.tmp").write_text("half")
    sweep(tmp_path)
    assert names(tmp_path) == sorted(f".file.txt.{name}.tmp" for name in living)


def test_what_a_killed_writer_leaves_is_swept(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from bitproof.core.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "file.txt")]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(names(tmp_path)) == 1
    sweep(tmp_path)
    assert names(tmp_path) == []
