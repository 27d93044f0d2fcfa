"""Rules for fixed masks: scores that a softmax does not see, numbers put in places."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bitproof.core.errors import TraceError
from bitproof.quant.builder import Call, Ref

FAR_BELOW = -1e4
"""Put in the place of a score, or added to it, this hides it from a softmax."""
BELOW = -90.0
"""Added to some scores of every row, this does: the exponential is then below 1e-39."""


def hidden_by(summand: Tensor) -> Tensor | None:
    """Return which scores a fixed summand hides from a softmax; None: it is no mask.

    Example:
        >>> hidden_by(torch.tensor([[0.0, -100.0], [0.0, 0.0]]))
        tensor([[False,  True],
                [False, False]])
        >>> hidden_by(torch.tensor([[-103.9], [-116.8]])) is None
        True
    """
    if bool((summand <= FAR_BELOW).any()):
        return summand <= FAR_BELOW
    hidden = summand <= BELOW
    is_mask = summand.ndim > 1 and bool(hidden.any()) and not bool(hidden.all(-1).any())
    return hidden if is_mask else None


def by_image(call: Call, x: Ref, value: Tensor) -> tuple[Ref, Tensor, Callable[[Ref], Ref]]:
    """Return `x` and fixed values so that these are the same for every image.

    Values may differ within what one image has on the first axis, such as the masks of windows; it
    is then split in two, which the function that is returned takes back.
    """
    n, whole = x.shape[0], tuple(x.shape)
    if value.ndim != len(whole) or value.shape[0] != n or not isinstance(call.shape[0], list):
        return x, value, lambda result: result
    first = value[: n // 2]
    if not torch.equal(first, value[n // 2 :]):
        raise TraceError(
            f"{call.path}: wanted the same values for every input, got others for each"
        )
    if bool((first == first[:1]).all()):
        return x, first[:1], lambda result: result
    apart = call.reshape(x, (2, n // 2, *whole[1:]))
    return apart, first[None], lambda result: call.reshape(result, whole)


def hide(call: Call, x: Ref, mask: Tensor) -> Ref:
    """Append what a softmax takes for minus infinity where `mask` is true."""
    if not bool(mask.any()):
        return x
    x, mask, restored = by_image(call, x, mask)
    attrs = {"sizes": list(mask.shape), "bits": packed(mask)}
    return restored(call.step("mask", x, shape=x.shape, **attrs))


def packed(mask: Tensor) -> str:
    """Return a mask as hexadecimal digits.

    Example:
        >>> packed(torch.tensor([True, False, False, False, True]))
        '88'
    """
    flat = mask.flatten().tolist()
    flat += [False] * (-len(flat) % 8)
    digits = "".join("1" if bit else "0" for bit in flat)
    return f"{int(digits, 2):0{len(digits) // 4}x}" if digits else ""


def where(call: Call) -> Ref:
    """Lower a choice by a fixed mask."""
    mask, a, b = (
        call.get(place, name) for place, name in enumerate(("condition", "input", "other"))
    )
    if not isinstance(mask, Ref) or mask.value is None:
        raise TraceError(f"{call.path}: no rule for a choice that depends on the input")
    if isinstance(a, Ref) and a.value is None:
        return masked(call, a, ~mask.value.bool(), b)
    return masked(call, b, mask.value.bool(), a)


def masked_fill(call: Call) -> Ref:
    """Lower a number put where a fixed mask says so."""
    mask, value = call.get(1, "mask"), call.get(2, "value")
    if not isinstance(mask, Ref) or mask.value is None:
        raise TraceError(f"{call.path}: no rule for a mask that depends on the input")
    return masked(call, call.x, mask.value.bool(), value)


def masked(call: Call, x: Any, mask: Tensor, value: Any) -> Ref:
    """Append `value` in the place of `x` where `mask` is true."""
    if not isinstance(x, Ref):
        raise TraceError(f"{call.path}: no rule for a choice between numbers")
    if not isinstance(value, Ref):
        fill = torch.tensor(call.number(value))
    elif value.value is not None:
        fill = value.value.float()
    else:
        keep = call.builder.constant((~mask).float(), path=f"{call.path}.mask")
        other = call.builder.constant(mask.float(), path=f"{call.path}.mask")
        return call.emit("add", call.emit("mul", x, keep), call.emit("mul", value, other))
    if bool((fill <= FAR_BELOW).all()):
        return hide(call, x, mask)
    if not bool(mask.any()):
        return x
    x, mask, restored = by_image(call, x, mask)
    fill = by_image(call, x, fill)[1]
    keep = call.builder.constant((~mask).float(), path=f"{call.path}.mask")
    shape = torch.broadcast_shapes(x.shape, mask.shape)  # type: ignore[no-untyped-call]
    kept, added = call.step("mul", x, keep, shape=shape), mask * fill
    if not bool((added != 0).any()):
        return restored(kept)
    stored = call.builder.constant(added, path=f"{call.path}.fill")
    return restored(call.step("add", kept, stored, shape=shape))
