"""Bring one file over HTTP: whole and right, or not at all."""

import errno
import hashlib
import http.client
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib import error as url_error
from urllib import request
from urllib.parse import urlsplit

from bitproof.core.errors import ChecksumError, DataError, StorageError
from bitproof.core.progress import SILENT, Progress

CHUNK = 1 << 20
"""Bytes read at a time; progress counts these."""
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which the same question may succeed."""
BREAKS = (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM}


class _BrokenOffError(Exception):
    """The connection ended early; what came is kept, and the rest can be asked for."""


@dataclass(frozen=True)
class Downloader:
    """Download with resumption: what came is kept in `NAME.part`, and asked on from there.

    Example:
        >>> Downloader().tries
        5
    """

    tries: int = 5
    """Connections that may break off, before giving up."""
    pause_s: float = 1.0
    """Pause before the second try, in seconds; it doubles each time."""
    timeout_s: float = 30.0
    """Longest silence of the server, in seconds."""
    progress: Progress = SILENT

    def get(self, url: str, path: Path, *, md5: str | None = None, size: int | None = None) -> Path:
        """Download `url` to `path`, which appears only once it is whole and right.

        Args:
            url: an http or https address.
            path: the file to write.
            md5: wanted checksum, where it is known.
            size: wanted length in bytes, where it is known.

        Raises:
            ChecksumError: another file came; it has been removed, so the next try starts clean.
            DataError: the address is no http(s), the server refuses, or it kept breaking off.
            StorageError: the disk is full, or the folder cannot be written.
        """
        if not _is_web_address(url):
            raise DataError(f"{url}: wanted an http or https address")
        part = path.with_name(path.name + ".part")
        with storage_errors(part):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._persist(url, part, size)
            _check(part, url, md5=md5, size=size)
            part.replace(path)
        return path

    def _persist(self, url: str, part: Path, size: int | None) -> None:
        """Try until the file is whole, each time from where the last try ended."""
        for number in range(self.tries):
            try:
                self._continue(url, part, size)
            except _BrokenOffError as error:
                reason = str(error)
                if number + 1 < self.tries:
                    self.progress.say(f"{url}: {reason}; trying again")
                    time.sleep(self.pause_s * 2**number)
            else:
                return
        raise DataError(f"{url}: gave up after {self.tries} tries: {reason}; run again to continue")

    def _continue(self, url: str, part: Path, size: int | None) -> None:
        start = part.stat().st_size if part.exists() else 0
        if start and start == size:
            return
        try:
            with self._open(url, start) as response:
                start, total = _place(response, part, start)
                if size is not None and total is not None and total != size:
                    part.unlink(missing_ok=True)
                    raise ChecksumError(f"{url}: wanted {size} bytes, the server offers {total}")
                with part.open("ab" if start else "wb") as file:
                    for chunk in self._watch(response, part, start=start, total=total or size):
                        file.write(chunk)
                    came = file.tell()
        except url_error.HTTPError as error:
            with error:
                _judge(error, url, part, start)
            return
        except (url_error.URLError, http.client.InvalidURL) as error:
            reason = f"cannot be reached ({getattr(error, 'reason', error)})"
            if start and isinstance(error, url_error.URLError):
                raise _BrokenOffError(reason) from None
            raise DataError(f"{url}: {reason}") from None
        except BREAKS as error:
            raise _BrokenOffError(f"the connection failed ({error!r})") from None
        if total is not None and came != total:
            raise _BrokenOffError(f"broken off at {came} of {total} bytes")

    def _open(self, url: str, start: int) -> http.client.HTTPResponse:
        """Ask for the file from byte `start` on, over http(s) only, redirects included."""
        opener = request.OpenerDirector()
        for handler in (
            request.ProxyHandler(),
            request.HTTPHandler(),
            request.HTTPSHandler(),
            request.HTTPRedirectHandler(),
            request.HTTPDefaultErrorHandler(),
            request.HTTPErrorProcessor(),
            request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        headers = {"User-Agent": "bitproof"} | ({"Range": f"bytes={start}-"} if start else {})
        response = opener.open(request.Request(url, headers=headers), timeout=self.timeout_s)
        assert isinstance(response, http.client.HTTPResponse)
        return response

    def _watch(
        self, response: http.client.HTTPResponse, part: Path, *, start: int, total: int | None
    ) -> Iterator[bytes]:
        """Yield the body in chunks, shown as MiB done of MiB in all."""
        chunks = iter(lambda: response.read(CHUNK), b"")
        left = -(-((total or start) - start) // CHUNK)
        label = f"{part.name.removesuffix('.part')} [MiB]"
        return self.progress.track(chunks, label=label, total=left)


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no number as port, half an IPv6 address
        return False


def _place(response: http.client.HTTPResponse, part: Path, start: int) -> tuple[int, int | None]:
    """Return where the body begins in the file, and how long the file is, if the server says."""
    if start and response.status == http.client.PARTIAL_CONTENT:
        told = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if told is None or int(told[1]) != start:
            part.unlink(missing_ok=True)
            raise _BrokenOffError("the server sent another range than asked for; starting over")
        return start, int(told[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _judge(error: url_error.HTTPError, url: str, part: Path, start: int) -> None:
    """Return if the part turns out to be the whole file; raise what the answer means if not."""
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return
        part.unlink(missing_ok=True)
        raise _BrokenOffError("what came before does not fit the file; starting over")
    if error.code in BUSY:
        raise _BrokenOffError(f"HTTP {error.code} {error.reason}")
    raise DataError(f"{url}: HTTP {error.code} {error.reason}")


def _check(part: Path, url: str, *, md5: str | None, size: int | None) -> None:
    """Remove a wrong file, and say what was wanted and what came."""
    came = part.stat().st_size
    wrong = f"{size} bytes, got {came}" if size is not None and came != size else ""
    if md5 is not None and not wrong:
        got = md5_of_file(part)
        wrong = f"md5 {md5}, got {got}" if got != md5 else ""
    if wrong:
        part.unlink()
        raise ChecksumError(f"{url}: wanted {wrong}; the file was removed")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Say it as a `StorageError` where the disk is full or a place cannot be written.

    Raises:
        StorageError: so it was.
    """
    try:
        yield
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise StorageError(f"{path}: cannot write ({error.strerror})") from error
        raise


def md5_of_file(path: Path) -> str:
    """Return the MD5 of a file's content: against accidents, not against forgery."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
