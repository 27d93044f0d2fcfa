"""Rules for padding: with a number, or with what is there already."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from bitproof.quant.builder import Call, Ref


def pad(call: Call, layer: Any = None) -> Ref:
    """Lower padding with zeros, another number, or what is there already."""
    if layer is not None:
        edges, value = list(layer.padding), getattr(layer, "value", 0)
        kind = type(layer).__name__.lower()
        mode = next(
            (name for name in ("reflection", "replication", "circular") if name in kind), ""
        )
    else:
        edges, value = list(call.get(1, "pad")), call.get(3, "value")
        mode = call.get(2, "mode", "constant")
    around = list(zip(edges[::2], edges[1::2], strict=True))[::-1]
    return pad_by(call, call.x, around, mode=mode or "constant", value=call.number(value or 0))


MODES = {"reflection": "reflect", "replication": "replicate"}


def pad_by(
    call: Call,
    x: Ref,
    around: Sequence[tuple[int, int]],
    *,
    mode: str = "constant",
    value: float = 0.0,
) -> Ref:
    """Append padding before and after the last axes; what is negative is cut off."""
    lead = len(x.shape) - len(around)
    if mode not in {"constant", "zeros"}:
        for dim, (before, after) in enumerate(around, lead):
            if before or after:
                places = torch.arange(x.shape[dim], dtype=torch.float32)[None, None]
                mode = MODES.get(mode, mode)
                index = functional.pad(places, (before, after), mode=mode).flatten().int().tolist()
                x = call.take(x, dim, index)
        return x
    if not any(before or after for before, after in around):
        return x
    sizes = zip(x.shape[lead:], around, strict=True)
    shape = [*x.shape[:lead], *(size + before + after for size, (before, after) in sizes)]
    edges = [edge for pair in reversed(around) for edge in pair]
    if value == 0:
        return call.step("pad", x, shape=shape, padding=edges)
    if value == -math.inf:
        return call.step("pad", x, shape=shape, padding=edges, lowest=True)
    moved = call.table(x, "shift", other=-value)
    return call.table(call.step("pad", moved, shape=shape, padding=edges), "shift", other=value)
