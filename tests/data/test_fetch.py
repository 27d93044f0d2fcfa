import gzip
import hashlib
import io
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bitproof.core.errors import ChecksumError, DataError, UnknownKindError, UnsafeFileError
from bitproof.data import DATA
from bitproof.data.archives import ARCHIVES, Archive
from bitproof.data.fetch import fetch, unpack

Serve = Callable[[dict[str, bytes]], Any]
"""The fixture `serve` of conftest.py."""


def idx(*shape: int) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    return gzip.compress(header + bytes(int(np.prod(shape))))


def small_mnist() -> dict[str, bytes]:
    return {
        "train-images-idx3-ubyte.gz": idx(20, 28, 28),
        "train-labels-idx1-ubyte.gz": idx(20),
        "t10k-images-idx3-ubyte.gz": idx(5, 28, 28),
        "t10k-labels-idx1-ubyte.gz": idx(5),
    }


@pytest.fixture
def small_cifar(tmp_path: Path, publish: Callable[[Path, dict[str, object]], None]) -> bytes:
    """Return an archive of CIFAR-10 with ten images in each batch."""
    folder = tmp_path / "packing" / "cifar-10-batches-py"
    folder.parent.mkdir()
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        publish(folder / name, {"data": np.zeros((10, 3072), np.uint8), "labels": [*range(10)]})
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    shutil.rmtree(folder.parent)
    return file.getvalue()


def declare(monkeypatch: pytest.MonkeyPatch, kind: str, files: dict[str, bytes]) -> None:
    """Give the archives of `kind` the checksums of `files`."""
    archives = [
        replace(archive, md5=hashlib.md5(files[archive.file]).hexdigest())
        for archive in ARCHIVES[kind]
    ]
    monkeypatch.setitem(ARCHIVES, kind, tuple(archives))


def test_fetched_mnist_loads_and_is_not_fetched_twice(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small_mnist()
    declare(monkeypatch, "mnist", files)
    server = serve(files)
    paths = fetch("mnist", tmp_path / "data", mirror=server.url)
    assert [path.name for path in paths] == list(files)
    splits = DATA.build("mnist").load(tmp_path / "data")
    assert len(splits.train) + len(splits.validation) == 20
    assert fetch("mnist", tmp_path / "data", mirror=f"{server.url}/") == paths
    assert len(server.asked) == 4


def test_a_damaged_file_on_disk_is_fetched_again(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = small_mnist()
    declare(monkeypatch, "mnist", files)
    server = serve(files)
    paths = fetch("mnist", tmp_path, mirror=server.url)
    paths[1].write_bytes(b"damaged")
    fetch("mnist", tmp_path, mirror=server.url)
    assert len(server.asked) == 5
    assert paths[1].read_bytes() == files[paths[1].name]


def test_fetched_cifar_is_unpacked_and_loads(
    tmp_path: Path, serve: Serve, small_cifar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"cifar-10-python.tar.gz": small_cifar}
    declare(monkeypatch, "cifar10", files)
    server = serve(files)
    assert fetch("cifar10", tmp_path, mirror=server.url) == [tmp_path / "cifar-10-batches-py"]
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-batches-py"]
    assert len(DATA.build("cifar10").load(tmp_path).test) == 10
    fetch("cifar10", tmp_path, mirror=server.url)
    assert len(server.asked) == 1


def test_an_archive_that_is_here_already_is_only_unpacked(
    tmp_path: Path, serve: Serve, small_cifar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"cifar-10-python.tar.gz": small_cifar}
    declare(monkeypatch, "cifar10", files)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(files["cifar-10-python.tar.gz"])
    server = serve({})
    fetch("cifar10", tmp_path, mirror=server.url)
    assert server.asked == []


def test_a_wrong_archive_is_never_unpacked(
    tmp_path: Path, serve: Serve, small_cifar: bytes
) -> None:
    server = serve({"cifar-10-python.tar.gz": small_cifar})
    with pytest.raises(ChecksumError, match="wanted md5 c58f30108f718f92721af3b95e74349a, got"):
        fetch("cifar10", tmp_path, mirror=server.url)
    assert list(tmp_path.iterdir()) == []


def test_the_next_server_is_asked_where_one_fails(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, wrong, right = serve({}), serve({"f": b"wrong"}), serve({"f": b"right"})
    md5 = hashlib.md5(b"right").hexdigest()
    bases: tuple[str, ...] = (missing.url, wrong.url, right.url)
    monkeypatch.setitem(ARCHIVES, "mnist", (Archive("f", bases, "mnist/f", md5),))
    assert fetch("mnist", tmp_path)[0].read_bytes() == b"right"
    bases = (missing.url, wrong.url)
    monkeypatch.setitem(ARCHIVES, "mnist", (Archive("f", bases, "mnist/g", md5),))
    with pytest.raises(ChecksumError, match=r"HTTP 404 .*; .*wanted md5"):
        fetch("mnist", tmp_path)
    assert [path.name for path in (tmp_path / "mnist").iterdir()] == ["f"]


def test_kinds_without_files_and_unknown_kinds_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="digits: nothing to fetch; known: cifar10, cifar100"):
        fetch("digits", tmp_path)
    with pytest.raises(UnknownKindError, match="Did you mean 'cifar10'"):
        fetch("cifar1", tmp_path)


def test_a_mirror_must_be_a_web_address(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wanted an http or https address"):
        fetch("cifar10", tmp_path, mirror="/mnt/files")


@pytest.mark.parametrize("kind", sorted(ARCHIVES))
def test_every_archive_lands_where_its_source_looks(kind: str) -> None:
    folders = [folder for layout in DATA.build(kind).layouts() for folder in layout.folders]
    for archive in ARCHIVES[kind]:
        assert any(Path(archive.target).is_relative_to(folder) for folder in folders)
        assert re.fullmatch("[0-9a-f]{32}", archive.md5)
        assert all(url.startswith(("https://", "http://")) for url in archive.urls())


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


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE]
)
def test_a_tar_with_a_device_or_a_hard_link_out_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz") as archive:
        entry = tarfile.TarInfo("set/odd")
        entry.type, entry.linkname, entry.devmajor, entry.devminor = kind, "/etc/passwd", 1, 3
        archive.addfile(entry)
    with pytest.raises(DataError, match=r"x\.tar: refuses to unpack|wanted 'set'"):
        unpack(tmp_path / "x.tar", tmp_path / "out" / "set", member="set")
    assert not list((tmp_path / "out").iterdir())


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
