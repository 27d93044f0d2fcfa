"""Bring one file over HTTP: whole and right, or not at all."""

import errno
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from bitproof.core.errors import ChecksumError, DataError, StorageError
from bitproof.core.files import sha256_of_file
from bitproof.core.progress import SILENT, Progress

CHUNK = 1 << 20
"""Bytes read at a time; progress counts these."""
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which the same question may succeed."""
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM}


class _BrokenOffError(Exception):
    """The connection ended early; what came is kept, and the rest can be asked for."""


def download(
    url: str,
    path: Path,
    *,
    md5: str = "",
    sha256: str = "",
    progress: Progress = SILENT,
    tries: int = 5,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> None:
    """Download `url` to `path`, which appears only once it is whole and right.

    What came is kept in `NAME.part`, and asked on from there, in this run or a later one. After
    `tries` connections that broke off, it gives up; the pause between them doubles each time.
    `timeout_s` is the longest silence of the server. Its checksum is `md5`, or begins as `sha256`;
    with neither, whoever asked checks what is in the file.

    Raises:
        ChecksumError: another file came; it has been removed, so the next run starts clean.
        DataError: the address is no http(s), the server refuses, or it kept breaking off.
        StorageError: the disk is full, or the folder cannot be written.
    """
    if not re.match("https?://[^/]", url):
        raise DataError(f"{url}: wanted an http or https address")
    part = path.with_name(f"{path.name}.part")
    with storage_errors(part):
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(tries):
            try:
                _continue(url, part, progress=progress, timeout_s=timeout_s)
                break
            except _BrokenOffError as error:
                reason = str(error)
            if number + 1 < tries:
                progress.say(f"{url}: {reason}; trying again")
                time.sleep(pause_s * 2**number)
        else:
            raise DataError(f"{url}: gave up after {tries} tries: {reason}; run again to continue")
        if problem := _wrong_sum(part, md5, sha256):
            part.unlink()
            raise ChecksumError(f"{url}: {problem}; the file was removed")
        part.replace(path)


def _wrong_sum(path: Path, md5: str, sha256: str) -> str:
    """Return which checksum is another than was wanted; nothing if all are right."""
    if md5 and (came := md5_of_file(path)) != md5:
        return f"wanted md5 {md5}, got {came}"
    if sha256 and not (came := sha256_of_file(path)).startswith(sha256):
        return f"wanted sha256 {sha256}, got {came}"
    return ""


def _continue(url: str, part: Path, *, progress: Progress, timeout_s: float) -> None:
    """Ask for what is missing, and append it; `_BrokenOffError` if asking again may help."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "bitproof"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(Request(url, headers=headers), timeout=timeout_s) as response:
            start = start if response.status == HTTPStatus.PARTIAL_CONTENT else 0
            length = int(response.headers.get("Content-Length", 0))
            chunks = iter(partial(response.read, CHUNK), b"")
            with part.open("ab" if start else "wb") as file:
                label, left = f"{part.stem} [MiB]", -(-length // CHUNK)
                for chunk in progress.track(chunks, label=label, total=left):
                    file.write(chunk)
                came = file.tell()
    except HTTPError as error:
        with error:
            if error.code in BUSY:
                raise _BrokenOffError(f"HTTP {error.code} {error.reason}") from None
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise DataError(f"{url}: HTTP {error.code} {error.reason}") from None
        return  # nothing is left to ask for; the checksum tells whether this is the file
    except (URLError, InvalidURL, ValueError) as error:
        reason = f"cannot be reached ({getattr(error, 'reason', error)})"
        raise (_BrokenOffError(reason) if start else DataError(f"{url}: {reason}")) from None
    except (HTTPException, ConnectionError, TimeoutError) as error:
        raise _BrokenOffError(f"the connection failed ({error!r})") from None
    if came < start + length:
        raise _BrokenOffError(f"broken off at {came} of {start + length} bytes")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise a `StorageError` where the disk is full or a place cannot be written."""
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
