import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bitproof.data.inventory import published_kinds

Call = Callable[..., Any]
"""The fixture `call` of conftest.py."""


@pytest.fixture
def mini(tmp_path: Path, data_dir: Path) -> Path:
    """Return a data folder with the sample of CIFAR-10 and its checksum."""
    folder = tmp_path / "sets" / "mini"
    folder.mkdir(parents=True)
    content = (data_dir / "mini" / "cifar10-mini.npz").read_bytes()
    (folder / "cifar10-mini.npz").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  cifar10-mini.npz\n")
    return folder.parent


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Return the address of a web server, and the folder that it shows."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_list_tells_every_set(call: Call) -> None:
    outcome = call("data", "list")
    assert (outcome.code, outcome.err) == (0, "")
    for kind in published_kinds():
        assert f"│ {kind} " in outcome.out
    assert "bitproof data fetch gtsrb" in outcome.out
    assert "There is no data folder; name it with --data-dir or BITPROOF_DATA." in outcome.out


def test_list_finds_what_lies_in_the_folder(
    call: Call, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_option = call("data", "list", "--data-dir", mini)
    (row,) = [line for line in by_option.out.splitlines() if line.startswith("│ cifar10 ")]
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("cifar10", "packed sample", "2,000", "1,000", str(mini / "mini")),
    ]
    monkeypatch.setenv("BITPROOF_DATA", str(mini))
    assert call("data", "list").out == by_option.out


def test_a_missing_folder_is_one_line(call: Call, tmp_path: Path) -> None:
    assert call("data", "list", "--data-dir", "no") == (
        2,
        "",
        f"bitproof: data folder {tmp_path}/no does not exist (--data-dir, BITPROOF_DATA)\n",
    )


def test_right_files_are_verified(call: Call, mini: Path) -> None:
    outcome = call("data", "verify", "cifar10", "--data-dir", mini)
    assert (outcome.code, outcome.err) == (0, "")
    assert "sha256 is right" in outcome.out
    assert "loads: 2000 training and 1000 test images" in outcome.out


def test_a_wrong_checksum_fails(call: Call, mini: Path) -> None:
    (mini / "mini" / "SHA256SUMS").write_text(f"{'0' * 64}  cifar10-mini.npz\n")
    outcome = call("data", "verify", "cifar10", "--data-dir", mini)
    assert outcome.code == 2
    (line,) = outcome.problems
    assert line.startswith(f"bitproof: {mini}/mini/cifar10-mini.npz: wanted sha256 0000")
    assert "wrong" in outcome.out


def test_a_truncated_file_fails(call: Call, mini: Path) -> None:
    file = mini / "mini" / "cifar10-mini.npz"
    file.write_bytes(file.read_bytes()[:-1000])
    outcome = call("data", "verify", "cifar10", "--data-dir", mini)
    assert outcome.code == 2
    assert [line.split(":")[1].strip() for line in outcome.problems] == [str(file), "cifar10"]


def test_missing_files_fail(call: Call) -> None:
    outcome = call("data", "verify", "mnist")
    assert outcome.code == 2
    (line,) = outcome.problems
    assert line.startswith("bitproof: mnist: mnist: not found")
    assert "bitproof data fetch mnist" in line


@pytest.mark.parametrize("command", ["verify", "fetch"])
def test_an_unknown_set_names_the_nearest(command: str, call: Call) -> None:
    outcome = call("data", command, "cifra10")
    assert outcome.code == 2
    assert outcome.problems == ["bitproof: data: no kind 'cifra10'. Did you mean 'cifar10'?"]


def test_nothing_to_fetch_is_one_line(call: Call) -> None:
    outcome = call("data", "fetch", "digits")
    assert outcome.code == 2
    assert outcome.problems[0].startswith("bitproof: digits: nothing to fetch; known: cifar10,")


def test_files_go_to_the_folder_that_was_named(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def fetch(kind: str, folder: Path, *, progress: object, mirror: str | None) -> list[Path]:
        seen.append((kind, folder, mirror))
        return [folder / "file"]

    monkeypatch.setattr("bitproof.data.fetch.fetch", fetch)
    here = call("data", "fetch", "mnist")
    assert here.out.splitlines() == [
        "No --data-dir, and BITPROOF_DATA is not set: files go to ./data.",
        "data/file: in place",
    ]
    there = call("data", "fetch", "mnist", "--data-dir", "x", "--mirror", "http://y/z")
    assert there.out.splitlines() == ["x/file: in place"]
    monkeypatch.setenv("BITPROOF_DATA", str(tmp_path / "v"))
    call("data", "fetch", "mnist")
    assert seen == [
        ("mnist", Path("data"), None),
        ("mnist", Path("x"), "http://y/z"),
        ("mnist", tmp_path / "v", None),
    ]


def test_a_wrong_file_from_the_net_is_one_line(call: Call, site: tuple[str, Path]) -> None:
    url, folder = site
    (folder / "train-images-idx3-ubyte.gz").write_bytes(bytes(9_912_422))
    outcome = call("data", "fetch", "mnist", "--data-dir", "x", "--mirror", url)
    assert outcome.code == 2
    (line,) = outcome.problems
    assert "f68b3c2dcbeaaa9fbdd348bbdeb94873" in line
    assert not list(Path("x").rglob("*idx3*"))


def test_a_file_that_no_server_has_is_one_line(call: Call, site: tuple[str, Path]) -> None:
    outcome = call("data", "fetch", "mnist", "--data-dir", "x", "--mirror", site[0])
    assert outcome.code == 2
    (line,) = outcome.problems
    assert line.startswith(f"bitproof: {site[0]}/train-images-idx3-ubyte.gz: ")
    assert "404" in line


def test_an_interrupted_download_says_how_to_go_on(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object, **__: object) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr("bitproof.data.fetch.fetch", fetch)
    outcome = call("data", "fetch", "mnist")
    assert (outcome.code, outcome.problems) == (
        130,
        ["bitproof: interrupted; what came is kept, the same command goes on"],
    )
