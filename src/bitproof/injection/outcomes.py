"""What each fault of a campaign did: its place, the word before and after, and the answers.

Model:  outcomes belong to trials; where several bits break in one, each of its rows tells what the
        trial did, and `faults` how many they are. Words are those of weights and biases as a whole
        trial leaves them, before protections; other sites have other words in every image.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from bitproof.faults.table import ACTIONS, FLIP, SITES, STUCK1, FaultTable
from bitproof.injection.spec import Injection
from bitproof.injection.worker import protect
from bitproof.metrics import OUTCOMES
from bitproof.quant.grid import CodedTensor
from bitproof.quant.network import IntegerNetwork

WORST_FIRST = ("sdc5", "sdc1", "due", "sdc20", "sdc10")
"""Outcomes from the worst on: a trial is called by the first that any image had."""
HARMLESS = "harmless"
"""Outputs moved, and no outcome counts that."""
MASKED = "masked"
MOST_WORST = 20
"""Faults that a summary and its report list."""
Columns = Mapping[str, np.ndarray]


def fault_outcomes(
    faults: FaultTable,
    columns: Columns,
    network: IntegerNetwork,
    injection: Injection,
    *,
    golden: float,
) -> dict[str, np.ndarray]:
    """Return a row for each fault of the trials that were done, in the order of trials.

    Args:
        faults: what breaks, before protections.
        columns: the counts of trials, in any order.
        network: without faults.
        injection: its protections tell which faults were read.
        golden: accuracy without faults on the same images, as a fraction.

    Returns:
        `trial`, `site`, `layer`, `element`, `tap`, `bit`, `action`, `faults` (bits that break in
        the trial), `before` and `after` (the value of the word; NaN where images decide),
        `protection` (`none`, `corrected`, `detected`, `passed`), `outcome` (the worst of any
        image), `images`, the images with each outcome of the campaign, `acc` and `acc_lost`
        (accuracy under the fault, and how much lower it is, as fractions).
    """
    order = np.argsort(columns["trial"], kind="stable")
    done = {name: column[order] for name, column in columns.items()}
    rows = faults.select(np.isin(faults.trial, done["trial"]))
    of = np.searchsorted(done["trial"], rows.trial)
    before, after = _words(rows, network)
    counted = [name for name in OUTCOMES if name in done]
    acc = done["correct"] / done.get("parts", done["images"])
    return {
        "trial": rows.trial,
        "site": np.array(SITES)[rows.site],
        "layer": np.array(rows.layers or [""])[rows.layer],
        "element": rows.element,
        "tap": rows.tap,
        "bit": rows.bit.astype(np.int64),
        "action": np.array(ACTIONS)[rows.action],
        "faults": done["faults"][of],
        "before": before,
        "after": after,
        "protection": _protections(faults, injection, network, done["trial"])[of],
        "outcome": _classes(done)[of],
        "images": done["images"][of],
        **{name: done[name][of] for name in counted},
        "acc": acc[of],
        "acc_lost": np.round(golden - acc, 12)[of],
    }


def worst_faults(outcomes: Columns, count: int = MOST_WORST) -> list[dict[str, Any]]:
    """Return the rows of the faults that changed most answers, the worst first; none without harm.

    An answer that a detected fault leaves out is a changed one. Of equals, those come first that
    cost more accuracy, then those that moved more probabilities.
    """
    changed = np.zeros(len(outcomes["trial"]))
    for name in {"sdc1", "due"} & outcomes.keys():
        changed += outcomes[name]
    less = [outcomes[name] for name in ("sdc20", "acc_lost") if name in outcomes]
    found = np.lexsort([outcomes["trial"], *(-column for column in (*less, changed))])
    harmful = found[np.isin(outcomes["outcome"][found], WORST_FIRST)]
    return rows_of({name: column[harmful[:count]] for name, column in outcomes.items()})


def rows_of(columns: Columns) -> list[dict[str, Any]]:
    """Return columns as rows of plain values; NaN becomes None."""
    lists = [_plain(column) for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _plain(column: np.ndarray) -> list[Any]:
    values: list[Any] = column.tolist()
    if column.dtype.kind != "f":
        return values
    return [None if math.isnan(value) else value for value in values]


def _classes(done: Columns) -> np.ndarray:
    """Return the worst outcome that any image had, trial by trial."""
    known = [name for name in WORST_FIRST if name in done]
    hit = [done[name] > 0 for name in known]
    masked = done[MASKED] >= done["images"] if MASKED in done else np.zeros(len(hit[0]), bool)
    found: np.ndarray = np.select([*hit, masked], [*known, MASKED], HARMLESS)
    return found


def _protections(
    faults: FaultTable, injection: Injection, network: IntegerNetwork, trials: np.ndarray
) -> np.ndarray:
    """Return what protections made of the faults of some trials."""
    if not injection.protections:
        return np.full(len(trials), "none")
    left, detected = protect(faults, injection, network)
    read = np.isin(trials, left.trial)
    found: np.ndarray = np.select([detected[trials], read], ["detected", "passed"], "corrected")
    return found


def _words(
    rows: FaultTable, network: IntegerNetwork
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Return the value of each row's word before and after all faults of its trial on it."""
    before, after = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for site in ("weight", "bias"):
        for layer, name in enumerate(rows.layers):
            stored = network.tensors.get(f"{name}.{site}")
            own = np.flatnonzero((rows.site == SITES.index(site)) & (rows.layer == layer))
            if stored is not None and len(own):
                before[own], after[own] = _struck(rows.select(own), stored)
    return before, after


def _struck(
    rows: FaultTable, stored: CodedTensor
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Return the values of one tensor's words before and after the faults of each trial."""
    grid, shape = stored.grid, stored.codes.shape
    _, word = np.unique(np.stack([rows.trial, rows.element]), axis=1, return_inverse=True)
    word = word.reshape(-1)
    element = np.zeros(word.max() + 1, np.int64)
    element[word] = rows.element
    codes = stored.codes.detach().cpu().flatten().to(torch.int64).numpy()[element]
    raw = codes.copy()
    seen = np.argsort(word, kind="stable")
    starts = np.flatnonzero(np.diff(word[seen], prepend=-1))
    turn = np.empty(len(rows), np.int64)
    turn[seen] = np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))
    for number in range(int(turn.max()) + 1):  # rows on one word happen in their order
        now = np.flatnonzero(turn == number)
        mask = np.int64(1) << rows.bit[now].astype(np.int64)
        action, place = rows.action[now], word[now]
        flipped, cleared = raw[place] ^ mask, raw[place] & ~mask
        stuck = np.where(action == STUCK1, cleared | mask, cleared)
        raw[place] = np.where(action == FLIP, flipped, stuck)
    above = 64 - grid.bits
    struck = raw << above >> above if grid.signed else raw & ((1 << grid.bits) - 1)
    scale = grid.spread(grid.scale, len(shape)).expand(shape).flatten().double().cpu().numpy()
    zero = grid.spread(grid.zero_point, len(shape)).expand(shape).flatten().cpu().numpy()
    values = [(own - zero[element]) * scale[element] for own in (codes, struck)]
    return values[0][word], values[1][word]
