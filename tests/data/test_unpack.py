import io
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from bitproof.core.errors import DataError, UnsafeFileError
from bitproof.data.unpack import unpack


def write_tar(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


FILES = {"set/a": b"one", "set/deep/b": b"two", "other": b"three"}


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_the_wanted_folder_appears_and_nothing_else(
    tmp_path: Path, form: Literal["tar", "zip"]
) -> None:
    packed = tmp_path / f"packed.{form}"
    (write_tar if form == "tar" else write_zip)(packed, FILES)
    unpack(packed, tmp_path / "out" / "Set", member="set")
    assert (tmp_path / "out" / "Set" / "deep" / "b").read_bytes() == b"two"
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["Set", "a", "b", "deep"]


def test_a_single_file_can_be_taken_out_and_replaces_the_old_one(tmp_path: Path) -> None:
    write_zip(tmp_path / "x.zip", FILES)
    (tmp_path / "table").write_bytes(b"old")
    unpack(tmp_path / "x.zip", tmp_path / "table", member="other")
    assert (tmp_path / "table").read_bytes() == b"three"


@pytest.mark.parametrize("name", ["../evil", "set/../../evil", "/evil", "..\\evil"])
def test_no_zip_entry_leaves_the_folder(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "x.zip", {**FILES, name: b"!"})
    unpack(tmp_path / "x.zip", tmp_path / "out" / "set", member="set")
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/evil").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["set"]


def test_a_link_in_a_zip_becomes_a_plain_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        entry = zipfile.ZipInfo("set/link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc")
    unpack(tmp_path / "x.zip", tmp_path / "set", member="set")
    assert not (tmp_path / "set" / "link").is_symlink()
    assert (tmp_path / "set" / "link").read_text() == "/etc"


@pytest.mark.parametrize("name", ["../evil", "set/../../evil"])
def test_no_tar_entry_leaves_the_folder(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "x.tar", {**FILES, name: b"!"})
    with pytest.raises(UnsafeFileError, match=r"x\.tar: refuses to unpack"):
        unpack(tmp_path / "x.tar", tmp_path / "out" / "set", member="set")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_tar_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", FILES, {"set/link": "../../.."})
    with pytest.raises(UnsafeFileError, match=r"x\.tar: refuses to unpack"):
        unpack(tmp_path / "x.tar", tmp_path / "out" / "set", member="set")
    assert not (tmp_path / "out" / "set").exists()


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.9])
def test_a_truncated_archive_leaves_nothing_behind(
    tmp_path: Path, form: Literal["tar", "zip"], keep: float
) -> None:
    packed = tmp_path / f"packed.{form}"
    files = {f"set/{number}": bytes([number]) * 3_000 for number in range(50)}
    (write_tar if form == "tar" else write_zip)(packed, files)
    content = packed.read_bytes()
    packed.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    (tmp_path / "out" / "set").mkdir(parents=True)
    (tmp_path / "out" / "set" / "old").touch()
    with pytest.raises(DataError, match=f"packed.{form}: truncated, or no such archive"):
        unpack(packed, tmp_path / "out" / "set", member="set")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["set", "old"]


def test_an_archive_without_the_wanted_folder_is_refused(tmp_path: Path) -> None:
    write_zip(tmp_path / "x.zip", {"other": b""})
    with pytest.raises(DataError, match=r"x\.zip: wanted 'set' inside"):
        unpack(tmp_path / "x.zip", tmp_path / "set", member="set")
