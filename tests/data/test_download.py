import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bitproof.core.errors import ChecksumError, DataError, StorageError
from bitproof.data.download import CHUNK, download

T = TypeVar("T")
Serve = Callable[[dict[str, bytes]], Any]
"""The fixture `serve` of conftest.py."""

CONTENT = os.urandom(3 * CHUNK + 1234)
MD5 = hashlib.md5(CONTENT).hexdigest()
quick = partial(download, md5=MD5, tries=3, pause_s=0.001, timeout_s=5.0)


def test_a_file_comes_whole(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    path = tmp_path / "new" / "x.bin"
    quick(f"{server.url}/x.bin", path)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert server.asked == [None]


def test_what_broke_off_is_asked_on_from_where_it_ended(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.breaks = [CHUNK + 7, CHUNK]
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={CHUNK + 7}-", f"bytes={2 * CHUNK + 7}-"]


def test_a_later_run_continues_too(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.breaks = [100, 100, 100]
    with pytest.raises(DataError, match=r"gave up after 3 tries: broken off at 300 of .* bytes"):
        quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin.part"]
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert server.asked[-1] == "bytes=300-"
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.ranges, server.breaks = False, [CHUNK]
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={CHUNK}-"]


def test_a_part_that_is_whole_already_is_taken(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert server.asked == [f"bytes={len(CONTENT)}-"]  # answered: 416, and the length
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [b"of another file", CONTENT + b"more"], ids=["other", "longer"])
def test_a_wrong_file_is_removed_so_the_next_try_starts_clean(
    tmp_path: Path, serve: Serve, stale: bytes
) -> None:
    server = serve({"x.bin": CONTENT})
    (tmp_path / "x.bin.part").write_bytes(stale)
    with pytest.raises(ChecksumError, match=f"wanted md5 {MD5}, got [0-9a-f]{{32}}; .* removed"):
        quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_wrong_file_never_replaces_a_right_one(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": b"wrong"})
    (tmp_path / "x.bin").write_bytes(CONTENT)
    with pytest.raises(ChecksumError):
        quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_promise_of_more_than_comes_is_an_error(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.extra_length, server.ranges = 10, False
    with pytest.raises(DataError, match=r"x\.bin: gave up after 3 tries: broken off at"):
        quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert not (tmp_path / "x.bin").exists()


def test_a_false_promise_is_corrected_by_asking_for_the_rest(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.extra_length = 10
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_promise_of_less_than_there_is_fails_the_checksum(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.extra_length = -10
    with pytest.raises(ChecksumError, match="wanted md5"):
        quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []


def test_where_the_server_tells_no_length_the_checksum_decides(
    tmp_path: Path, serve: Serve
) -> None:
    server = serve({"x.bin": CONTENT})
    server.send_length = False
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    server.breaks = [50]
    with pytest.raises(ChecksumError, match="wanted md5"):
        quick(f"{server.url}/x.bin", tmp_path / "y.bin")


def test_a_missing_file_is_told_at_once(tmp_path: Path, serve: Serve) -> None:
    server = serve({})
    with pytest.raises(DataError, match=r"/x\.bin: HTTP 404 Not Found"):
        quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert len(server.asked) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.statuses = [503, 429]
    quick(f"{server.url}/x.bin", tmp_path / "x.bin")
    assert len(server.asked) == 3
    server.statuses = [500] * 3
    with pytest.raises(DataError, match="gave up after 3 tries: HTTP 500"):
        quick(f"{server.url}/x.bin", tmp_path / "y.bin")


def test_a_server_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(DataError, match=r"cannot be reached \(.*refused"):
            download(f"http://127.0.0.1:{port}/x", tmp_path / "x", md5=MD5, pause_s=60.0)


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(DataError, match=r"gave up after 2 tries: .*(?i:timed out|timeout)"):
            quick(url, tmp_path / "x", tries=2, timeout_s=0.05)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "/etc/passwd", "data:,x"])
def test_only_http_addresses_are_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="wanted an http or https address"):
        quick(url, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:port/x", "http://[::1/x", "http:///x", "http://127.0.0.1/a b"]
)
def test_a_misspelt_address_is_told_at_once(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=r"address|cannot be reached"):
        download(url, tmp_path / "x", md5=MD5, pause_s=60.0)


def test_no_redirect_reads_a_local_file(tmp_path: Path, serve: Serve) -> None:
    server = serve({})
    server.redirect = "file:///etc/passwd"
    with pytest.raises(DataError, match="HTTP 302"):
        quick(f"{server.url}/x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_another_server_is_followed(tmp_path: Path, serve: Serve) -> None:
    front, back = serve({}), serve({"x.bin": CONTENT})
    front.redirect = f"{back.url}/x.bin"
    quick(f"{front.url}/x.bin", tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


class Watcher:
    """Notes what it is shown."""

    def __init__(self) -> None:
        self.totals: list[tuple[str, int, int]] = []
        self.said: list[str] = []

    def track(self, items: Iterable[T], *, label: str, total: int) -> Iterator[T]:
        done = 0
        for item in items:
            done += 1
            yield item
        self.totals.append((label, done, total))

    def say(self, text: str) -> None:
        self.said.append(text)


def test_progress_counts_mebibytes_and_what_is_left(tmp_path: Path, serve: Serve) -> None:
    server = serve({"x.bin": CONTENT})
    server.breaks = [2 * CHUNK]
    watcher = Watcher()
    quick(f"{server.url}/x.bin", tmp_path / "x.bin", progress=watcher)
    assert watcher.totals == [("x.bin [MiB]", 2, 4), ("x.bin [MiB]", 2, 2)]
    assert len(watcher.said) == 1
    assert "broken off at" in watcher.said[0]


def test_a_folder_that_cannot_be_written_is_a_storage_error(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve({"x.bin": CONTENT})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=r"x\.bin\.part: cannot write \(Permission denied\)"):
        quick(f"{server.url}/x.bin", tmp_path / "x.bin")
