"""A web server that behaves well or badly, as a test asks; pickles as Python 2 wrote them."""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from bitproof.data.cifar import PUBLISHED


@dataclass
class Server:
    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    """Whether requests for a part of a file are honoured."""
    breaks: list[int] = field(default_factory=list)
    """For each coming answer: cut the connection after so many bytes of its body."""
    extra_length: int = 0
    """Added to the true Content-Length."""
    statuses: list[int] = field(default_factory=list)
    """For each coming answer: this error instead of the file."""
    send_length: bool = True
    range_shift: int = 0
    """Bytes between the range that is asked for and the one that is sent."""
    redirect: str = ""
    asked: list[str | None] = field(default_factory=list)
    """The Range header of every request so far."""


def handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            content = server.files.get(self.path.lstrip("/"))
            if server.redirect:
                self.send_response(302)
                self.send_header("Location", server.redirect)
                self.end_headers()
                return
            if server.statuses or content is None:
                self.send_error(server.statuses.pop(0) if server.statuses else 404)
                return
            start = 0
            if asked and server.ranges:
                found = re.fullmatch(r"bytes=(\d+)-", asked)
                assert found is not None
                start = int(found[1]) + server.range_shift
            if start >= len(content) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content[start:]
            self.send_response(206 if start else 200)
            if start:
                end = len(content) + server.extra_length
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            if server.send_length:
                self.send_header("Content-Length", str(len(body) + server.extra_length))
            self.end_headers()
            self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class Listener(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing where a client hangs up."""


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], Server]]:
    """Return a function that starts a server of some files on a free port."""
    running: list[tuple[ThreadingHTTPServer, Thread]] = []

    def start(files: dict[str, bytes]) -> Server:
        server = Server(files)
        listener = Listener(("127.0.0.1", 0), handler_of(server))
        server.url = f"http://127.0.0.1:{listener.server_address[1]}"
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((listener, thread))
        return server

    yield start
    for listener, thread in running:
        listener.shutdown()
        listener.server_close()
        thread.join()


def pickle_as_python_2(batch: dict[str, object]) -> bytes:
    """Return a dict of texts, lists and arrays of bytes as CIFAR's authors pickled it."""
    memo = count(1)

    def put() -> bytes:
        at = next(memo)
        return b"q" + bytes([at]) if at < 256 else b"r" + at.to_bytes(4, "little")

    def simple(value: str | int) -> bytes:
        if isinstance(value, str):
            return b"U" + bytes([len(value)]) + value.encode("latin1") + put()
        return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")

    def array(values: np.ndarray) -> bytes:
        made = b"cnumpy.core.multiarray\n_reconstruct\n" + put() + b"cnumpy\nndarray\n" + put()
        made += b"K\x00\x85U\x01b\x87R" + put() + b"(K\x01" + b"".join(map(simple, values.shape))
        made += b"\x86cnumpy\ndtype\n" + put() + b"U\x02u1K\x00K\x01\x87R" + put()
        made += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        return made + b"T" + values.size.to_bytes(4, "little") + values.tobytes() + b"tb"

    content = [b"\x80\x02}", put(), b"("]
    for key, value in batch.items():
        content.append(simple(key))
        if isinstance(value, np.ndarray):
            content.append(array(value))
        elif isinstance(value, list):
            content += [b"]", put()]
            for at in range(0, len(value), 1_000):
                content += [b"(", *map(simple, value[at : at + 1_000]), b"e"]
        else:
            assert isinstance(value, str)
            content.append(simple(value))
    return b"".join([*content, b"u."])


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, dict[str, object]], None]:
    """Return a function that writes a batch of CIFAR, and takes its MD5 for the published one."""

    def write(path: Path, batch: dict[str, object]) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content := pickle_as_python_2(batch))
        monkeypatch.setitem(PUBLISHED, path.name, hashlib.md5(content).hexdigest())

    return write
