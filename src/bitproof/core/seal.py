"""A SHA-256 inside the file that it is of: taken with 64 zeros in its own place."""

import hashlib

SEAL = b"file-sha256:"
"""What stands before the digest."""
BLANK_SEAL = SEAL.decode() + "0" * 64
"""What a file says until it is sealed."""


def seal(content: bytes, place: int) -> bytes:
    """Return `content` with its digest; `place` is where `BLANK_SEAL` begins in it.

    Example:
        >>> content = f"numbers {BLANK_SEAL}".encode()
        >>> sealed = seal(content, content.index(SEAL))
        >>> is_sound(sealed, 8), is_sound(sealed.replace(b"n", b"N"), 8)
        (True, False)
    """
    start = place + len(SEAL)
    digest = hashlib.sha256(content).hexdigest().encode()
    return b"".join((content[:start], digest, content[start + 64 :]))


def is_sound(content: bytes, place: int) -> bool:
    """Tell whether the digest behind the seal at `place` is that of the content."""
    view, start = memoryview(content), place + len(SEAL)
    digest = hashlib.sha256(view[:start])
    digest.update(b"0" * 64)
    digest.update(view[start + 64 :])
    return content[start : start + 64] == digest.hexdigest().encode()
