"""What every protection promises, the registry of their kinds, and how rows on one bit add up.

Model:  a protection is hardware between the bits that break and the network that reads them. Given
        the list of what breaks, it returns the list of what is read, so that an engine which
        replays lists needs to know nothing of protections. Its own parts never break.
"""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8

from bitproof.core.registry import Registry
from bitproof.core.spec import Spec
from bitproof.faults.table import COLUMNS, FLIP, STUCK1, FaultTable
from bitproof.quant.network import IntegerNetwork


@dataclass(frozen=True, eq=False)
class Repaired:
    """What a protection leaves of a list of faults."""

    table: FaultTable
    """What the network reads: rows that matter no more are gone, rows that the hardware causes by
    its own mistakes come last in their trial."""
    detected: Bool[np.ndarray, " t"]
    """For each trial: something was found broken and could not be mended (DUE)."""


class Protection(Spec):
    """Hardware that detects, corrects or bounds what broken bits do."""

    kind: str

    @abstractmethod
    def repair(self, table: FaultTable, network: IntegerNetwork) -> Repaired:
        """Return what is read in the place of what breaks.

        Rows on one bit of one trial happen in their order; those at sites that the protection does
        not cover come back unchanged. `network` holds the words as they were stored: a stuck bit
        changes a word only if it differs from them.

        Raises:
            FaultListError: a row at a covered site names a word or bit that `network` lacks.
            SpecError: the words of `network` do not fit the protection.
        """


PROTECTIONS: Registry[Protection] = Registry("protections")


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


def replace_rows(
    table: FaultTable,
    dropped: Bool[np.ndarray, " f"],
    sources: Int64[np.ndarray, " a"],
    **changes: Integer[np.ndarray, " a"],
) -> FaultTable:
    """Return a table without the dropped rows and with others, which come last in their trial.

    `sources` names a row of `table` for each new one, from which it takes the columns that
    `changes` lacks.
    """
    columns = {}
    for name in COLUMNS:
        column = getattr(table, name)
        columns[name] = np.concatenate([column[~dropped], changes.get(name, column[sources])])
    return FaultTable.build(table.layers, table.n_trials, **columns)
