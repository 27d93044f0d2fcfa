"""A web server on this machine that behaves well or badly, as a test asks."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


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
