"""What a list of faults makes of single bits and of whole words, and the list that words tell.

Model:  rows on one bit happen in their order. What they come to is known whatever is stored: the
        bit is kept, inverted, or made 0 or 1.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8
from torch import Tensor, from_numpy

from bitproof.faults.table import FLIP, SITES, STUCK1, FaultTable

Words = Mapping[str, tuple[Integer[Tensor, "..."], int]]
"""Stored words by `layer.site`, such as `conv1.weight`, each with its width in bits."""


def group_starts(*keys: Integer[np.ndarray, " r"]) -> Int64[np.ndarray, " g"]:
    """Return where runs of rows with equal keys begin.

    Example:
        >>> group_starts(np.array([4, 4, 7]), np.array([0, 1, 1]))
        array([0, 1, 2])
    """
    begins = np.zeros(len(keys[0]), bool)
    begins[:1] = True
    for key in keys:
        begins[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(begins)


def settle(
    actions: UInt8[np.ndarray, " r"], starts: Int64[np.ndarray, " g"]
) -> tuple[Bool[np.ndarray, " g"], Bool[np.ndarray, " g"]]:
    """Return what a stored 0 and a stored 1 read as, after each run of actions on one bit.

    Example:
        >>> from bitproof.faults.table import STUCK0
        >>> at0, at1 = settle(np.array([FLIP, STUCK0, FLIP], np.uint8), np.array([0, 1]))
        >>> at0.tolist(), at1.tolist()
        ([True, True], [False, True])
    """
    if not len(starts):
        return np.zeros(0, bool), np.zeros(0, bool)
    flip = actions == FLIP
    last_stuck = np.maximum.reduceat(np.where(flip, -1, np.arange(len(actions))), starts)
    # Only the last stuck row and the flips after it count.
    first = np.maximum(last_stuck, starts)
    last = np.append(starts[1:], len(actions)) - 1
    flips = np.cumsum(flip)
    odd = (flips[last] - flips[first] + flip[first]) % 2 == 1
    stuck, one = last_stuck >= 0, actions[first] == STUCK1
    return (stuck & one) ^ odd, (~stuck | one) ^ odd


def changed_bits(stored: Words, read: Mapping[str, Integer[Tensor, "..."]]) -> FaultTable:
    """Return the flips, in one trial, that make the words that are read of those that are stored.

    Example:
        >>> import torch
        >>> words = torch.tensor([1, 2], dtype=torch.uint8)
        >>> changed_bits({"conv1.weight": (words, 8)}, {"conv1.weight": words ^ 6}).rows()[:2]
        [(0, 'weight', 'conv1', 0, -1, 1, 'flip'), (0, 'weight', 'conv1', 0, -1, 2, 'flip')]
    """
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in read))
    found: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    for name, codes in read.items():
        layer, _, site = name.rpartition(".")
        clean, bits = stored[name]
        change = (codes ^ clean).cpu().flatten().numpy()
        element = np.flatnonzero(change)
        source, bit = np.nonzero(change[element, None] >> np.arange(bits, dtype=change.dtype) & 1)
        found.append((SITES.index(site), layers.index(layer), element[source], bit))
    counts = [len(bit) for *_, bit in found]
    return FaultTable.build(
        layers,
        1,
        trial=np.zeros(sum(counts), np.int64),
        site=np.repeat(np.array([site for site, *_ in found], np.uint8), counts),
        layer=np.repeat(np.array([layer for _, layer, *_ in found], np.int32), counts),
        element=np.concatenate([np.empty(0, np.int64), *(element for _, _, element, _ in found)]),
        tap=np.full(sum(counts), -1, np.int32),
        bit=np.concatenate([np.empty(0, np.int64), *(bit for *_, bit in found)]),
        action=np.full(sum(counts), FLIP, np.uint8),
    )


def read_words(stored: Words, faults: FaultTable) -> dict[str, Integer[Tensor, "..."]]:
    """Return stored words as they are read behind the faults of one trial, which names no others.

    Tensors without faults are shared.

    Example:
        >>> import torch
        >>> words = torch.tensor([-2, 1], dtype=torch.int8)
        >>> rows = [(0, "weight", "a", 1, -1, 3, "flip"), (0, "weight", "a", 0, -1, 0, "stuck1")]
        >>> read_words({"a.weight": (words, 4)}, FaultTable.from_rows(rows))
        {'a.weight': tensor([-1, -7], dtype=torch.int8)}
    """
    read = {name: codes for name, (codes, _) in stored.items()}
    for name, own in _by_tensor(faults):
        codes, bits = stored[name]
        flat = codes.detach().cpu().flatten().numpy().copy()
        raw = flat.view(f"u{flat.itemsize}")
        element, bit = own.element, own.bit
        if (own.action != FLIP).any():
            key = element * 64 + bit
            order = np.argsort(key, kind="stable")
            starts = group_starts(key[order])
            element, bit = np.divmod(key[order[starts]], 64)
            held = raw[element] >> bit.astype(raw.dtype) & 1
            at0, at1 = settle(own.action[order], starts)
            wrong = np.where(held, ~at1, at0)
            element, bit = element[wrong], bit[wrong]
        np.bitwise_xor.at(raw, element, raw.dtype.type(1) << bit.astype(raw.dtype))
        if codes.dtype.is_signed:
            above = 8 * flat.itemsize - bits  # a changed sign bit changes all bits above it
            flat = flat << above >> above
        read[name] = from_numpy(flat).view(codes.shape).to(codes.device)
    return read


def _by_tensor(faults: FaultTable) -> Iterator[tuple[str, FaultTable]]:
    """Yield the faults of each tensor, in their order, with its name."""
    pair = faults.site.astype(np.int64) * len(faults.layers) + faults.layer
    order = np.argsort(pair, kind="stable")
    starts = group_starts(pair[order])
    for rows in np.split(order, starts[1:]) if len(starts) else ():
        own = faults.select(rows)
        yield f"{own.layers[own.layer[0]]}.{SITES[own.site[0]]}", own
