import errno
import hashlib
import os
from pathlib import Path

import pytest

from bitproof.core.errors import StorageError
from bitproof.core.files import append_line, atomic_path, sha256_of_file, write_text


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
