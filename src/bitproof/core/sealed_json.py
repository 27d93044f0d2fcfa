"""JSON objects that carry the SHA-256 of their content, so that damage and edits are noticed."""

import hashlib
import json
from typing import Any

from bitproof.core.spec import canonical_json

LAYOUT = 1
"""Version of sealed objects."""


def seal_json(content: dict[str, Any]) -> str:
    """Return a JSON object with its digest; the keys `layout` and `sha256` are added.

    Example:
        >>> unseal_json(seal_json({"a": 1}))
        {'a': 1}
    """
    return json.dumps({"layout": LAYOUT, **content, "sha256": _digest(content)}, indent=1) + "\n"


def unseal_json(text: str | bytes) -> dict[str, Any]:
    """Return what was sealed.

    Raises:
        ValueError: it is damaged, edited, or of another layout; the message tells which.
    """
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("wanted a JSON object")
        layout, digest = content.pop("layout", None), content.pop("sha256", None)
        sound = digest == _digest(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"damaged, cannot go on ({error})") from None
    if not sound:
        raise ValueError("damaged or edited (its sha256 does not match)")
    if layout != LAYOUT:
        raise ValueError(f"layout {layout}, wanted {LAYOUT}")
    return content


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
