"""Sums of columns over groups of rows."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from bitproof.core.errors import DataError

_LIMIT = 1 << 20
"""Largest table of possible groups in which rows are counted; above, they are sorted."""


def sums_by(
    columns: Mapping[str, np.ndarray], keys: Sequence[str], values: Sequence[str]
) -> dict[str, np.ndarray]:
    """Sum columns over the rows that agree in all keys.

    Args:
        columns: arrays of one length.
        keys: one or more columns of integers or booleans.
        values: columns to be summed: integers and booleans exactly, to int64; float64 in the
            order of rows.

    Returns:
        The keys of each group, ascending, the first key slowest; the sums; and `rows`, the number
        of rows of each group (int64).

    Raises:
        DataError: a sum could leave int64.

    Example:
        >>> table = {"bit": np.array([7, 0, 7]), "sdc": np.array([1, 0, 1])}
        >>> sums_by(table, ["bit"], ["sdc"])
        {'bit': array([0, 7]), 'sdc': array([0, 2]), 'rows': array([1, 2])}
    """
    groups, place = _group([columns[key] for key in keys])
    n_groups = len(groups[0])
    sums = {name: _sums(name, columns[name], place, n_groups) for name in values}
    rows = np.bincount(place, minlength=n_groups)
    return {**dict(zip(keys, groups, strict=True)), **sums, "rows": rows}


def _group(keys: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the distinct keys, ascending, and each row's place among them."""
    keys = [key.view(np.uint8) if key.dtype == np.bool_ else key for key in keys]
    if not len(keys[0]):
        return keys, np.zeros(0, np.int64)
    lows = [key.min() for key in keys]
    spans = [int(key.max()) - int(low) + 1 for key, low in zip(keys, lows, strict=True)]
    if prod(spans) > _LIMIT:
        return _group_sorted(keys)
    code = np.zeros(len(keys[0]), np.int64)
    for key, low, span in zip(keys, lows, spans, strict=True):
        offset = key - low if key.dtype.kind == "u" else key.astype(np.int64) - low
        code = code * span + offset.astype(np.int64)
    present = np.flatnonzero(np.bincount(code, minlength=prod(spans)))
    rank = np.zeros(prod(spans), np.int64)
    rank[present] = np.arange(len(present))
    places = np.unravel_index(present, spans)
    # Both terms may wrap around in a narrow dtype; their sum is right.
    groups = [
        place.astype(key.dtype) + low for key, low, place in zip(keys, lows, places, strict=True)
    ]
    return groups, rank[code]


def _group_sorted(keys: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Do what `_group` does, for keys of any span."""
    order = np.lexsort(keys[::-1])
    ordered = [key[order] for key in keys]
    first = np.ones(len(order), np.bool_)
    first[1:] = np.any([key[1:] != key[:-1] for key in ordered], axis=0)
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(first) - 1
    return [key[first] for key in ordered], place


def _sums(name: str, column: np.ndarray, place: np.ndarray, n_groups: int) -> np.ndarray:
    if column.dtype.kind == "f":
        return np.bincount(place, column, n_groups)
    largest = max(abs(int(column.min())), abs(int(column.max()))) if len(column) else 0
    if largest * len(column) <= 2**53:  # float64 is exact so far
        return np.bincount(place, column, n_groups).astype(np.int64)
    if largest * len(column) >= 2**63:
        raise DataError(f"column '{name}': its sums may not fit 64 bits")
    sums = np.zeros(n_groups, np.int64)
    np.add.at(sums, place, column.astype(np.int64))
    return sums
