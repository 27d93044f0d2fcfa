import subprocess
import sys
from pathlib import Path

import pytest

from bitproof.core.errors import ChecksumError, DataError
from bitproof.core.files import append_line, read_bytes, remove, write_bytes, write_text
from bitproof.core.manifest import MANIFEST, Manifest
from bitproof.core.sealed_json import seal_json


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Return a manifest with two files."""
    manifest = Manifest(tmp_path)
    manifest.create()
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "deep" / "b.txt", "two")
    return manifest


def test_files_are_listed_as_they_are_written(manifest: Manifest) -> None:
    assert sorted(manifest.entries()) == ["a.txt", "deep/b.txt"]
    assert manifest.differing() == {}
    assert manifest.unlisted() == []
    assert sorted(path.name for path in manifest.folder.iterdir()) == ["a.txt", MANIFEST, "deep"]


def test_each_kind_of_change_is_noticed(manifest: Manifest) -> None:
    (manifest.folder / "a.txt").write_text("onE")
    (manifest.folder / "deep" / "b.txt").unlink()
    (manifest.folder / "c.txt").write_text("new")
    assert manifest.differing() == {"a.txt": "changed", "deep/b.txt": "missing"}
    assert manifest.unlisted() == ["c.txt"]
    with pytest.raises(ChecksumError, match=r"a\.txt: changed since .* 3 bytes of sha256 7692c3ad"):
        read_bytes(manifest.folder / "a.txt")
    (manifest.folder / "a.txt").unlink()
    (manifest.folder / "a.txt").mkdir()
    assert "unreadable (Is a directory)" in manifest.differing()["a.txt"]


def test_a_file_without_a_manifest_around_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    Manifest(tmp_path).create()
    write_text(tmp_path / "a" / "b" / "c" / "far.txt", "x")
    assert Manifest(tmp_path).entries() == {}
    assert read_bytes(tmp_path / "a" / "b" / "c" / "far.txt") == b"x"


# A crash between the entry and the file leaves the file of before, which is still known.

CRASH = """
import os, sys
from pathlib import Path
from bitproof.core.files import write_text
replace = Path.replace
def crash(path, target):
    if str(target) == sys.argv[1] and sys.argv[2] == "before":
        os.kill(os.getpid(), 9)
    replace(path, target)
    if str(target) == sys.argv[1]:
        os.kill(os.getpid(), 9)
Path.replace = crash
write_text(Path(sys.argv[3]), sys.argv[4])
"""


@pytest.mark.parametrize("at", ["a.txt", MANIFEST])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_any_moment_leaves_what_is_known(
    manifest: Manifest, at: str, moment: str
) -> None:
    path = manifest.folder / "a.txt"
    for text in ("three", "four"):
        command = [sys.executable, "-c", CRASH, str(manifest.folder / at), moment]
        crashed = subprocess.run([*command, str(path), text], check=False)
        assert crashed.returncode == -9
        assert manifest.differing() == {}
        written = (at, moment) == ("a.txt", "after")
        assert read_bytes(path).decode() == (text if written else "one")
    write_text(path, "five")
    assert len(manifest.entries()["a.txt"]) <= 2
    assert read_bytes(path) == b"five"


def test_what_is_appended_to_is_listed_at_the_end(manifest: Manifest) -> None:
    log = manifest.folder / "log.jsonl"
    append_line(log, "1")
    write_bytes(manifest.folder / "part", b"1", listed=False)
    assert manifest.unlisted() == ["log.jsonl", "part"]
    manifest.finish([log, manifest.folder / "part"])
    assert manifest.complete
    assert manifest.unlisted() == []
    append_line(log, "2")
    assert manifest.differing() == {"log.jsonl": "changed"}
    manifest.forget(log)
    assert manifest.differing() == {}
    manifest.reopen()
    assert not manifest.complete


def test_what_is_removed_is_not_missed(manifest: Manifest) -> None:
    remove(manifest.folder / "a.txt")
    remove(manifest.folder / "a.txt")
    assert manifest.differing() == {}


def test_what_is_set_aside_is_kept_under_a_new_name(manifest: Manifest) -> None:
    assert manifest.set_aside("a.txt") == "aside/a-1.txt"
    write_text(manifest.folder / "a.txt", "again")
    assert manifest.set_aside("a.txt") == "aside/a-2.txt"
    assert (manifest.folder / "aside" / "a-1.txt").read_text() == "one"
    assert manifest.unlisted() == []
    assert "a.txt" not in manifest.entries()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        seal_json({}),
        seal_json({"complete": False, "files": []}),
        seal_json({"complete": False, "files": {"a.txt": [3]}}),
        seal_json({"complete": False, "files": {"a.txt": [{"size": "x", "sha256": ""}]}}),
        seal_json({"complete": False, "files": {"../a.txt": [{"size": 1, "sha256": ""}]}}),
        seal_json({"complete": False, "files": {"/a.txt": [{"size": 1, "sha256": ""}]}}),
    ],
)
def test_a_damaged_manifest_is_one_line(manifest: Manifest, text: str) -> None:
    manifest.path.write_text(text)
    for act in (
        manifest.differing,
        lambda: read_bytes(manifest.folder / "a.txt"),
        lambda: write_text(manifest.folder / "a.txt", "new"),
    ):
        with pytest.raises(DataError, match=rf"{MANIFEST}: .*take it from a copy") as caught:
            act()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert (manifest.folder / "a.txt").read_text() == "one"


def test_any_flipped_bit_of_a_manifest_is_noticed(manifest: Manifest) -> None:
    content = manifest.path.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        manifest.path.write_bytes(changed)
        try:
            assert manifest.entries().keys() == {"a.txt", "deep/b.txt"}
            assert manifest.differing() == {}  # white space
        except DataError:
            continue


def test_many_processes_list_at_once(manifest: Manifest) -> None:
    program = (
        "import sys; from pathlib import Path; from bitproof.core.files import write_text\n"
        "for n in range(20): write_text(Path(sys.argv[1]) / f'{sys.argv[2]}-{n}', str(n))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(manifest.folder), str(number)])
        for number in range(3)
    ]
    while any(writer.poll() is None for writer in writers):
        read_bytes(manifest.folder / "a.txt")
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(manifest.entries()) == 62
    assert manifest.differing() == {}


def test_a_reader_beside_a_writer_never_sees_damage(manifest: Manifest) -> None:
    program = (
        "import sys; from pathlib import Path; from bitproof.core.files import write_text\n"
        "for n in range(100): write_text(Path(sys.argv[1]), 'x' * n)\n"
    )
    path = manifest.folder / "a.txt"
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as writer:
        while writer.poll() is None:
            assert set(read_bytes(path)) <= set(b"xone")
    assert path.stat().st_size == 99
