"""Yes or no of many things in a row, as bytes of one each, and packed as text for JSON."""

import base64

import numpy as np


def pack_flags(flags: bytes) -> str:
    """Return flags, each a byte 0 or 1, as base64 of eight to a byte; the first is the highest bit.

    Example:
        >>> pack_flags(bytes([1, 0, 0, 0, 0, 0, 0, 1, 1]))
        'gYA='
    """
    return base64.b64encode(np.packbits(np.frombuffer(flags, np.uint8)).tobytes()).decode()


def unpack_flags(text: str, count: int) -> bytes:
    """Return `count` flags, each a byte 0 or 1.

    Raises:
        ValueError: the text is no base64, or holds another number of flags.

    Example:
        >>> list(unpack_flags("gYA=", 9))
        [1, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    flags = np.unpackbits(packed)
    if len(packed) != -(-count // 8) or flags[count:].any():
        raise ValueError(f"wanted {count} flags, got {len(packed)} bytes")
    return flags[:count].tobytes()


def unpack_right(text: str | None, correct: int, total: int) -> bytes | None:
    """Return which of `total` answers were right, None where that was not kept.

    Raises:
        ValueError: the text is no base64, or does not fit the counts.

    Example:
        >>> list(unpack_right("gYA=", 3, 9) or b"")
        [1, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    if text is None:
        return None
    right = unpack_flags(text, total)
    if sum(right) != correct:
        raise ValueError(f"wanted {correct} right answers, got {sum(right)}")
    return right
