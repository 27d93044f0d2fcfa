"""The layers, the bits and the bits of layers of a campaign, ranked by what a fault there does.

Model:  trials of different cells are drawn independently and met by the same images, which are
        taken as given. Each rate's interval is Clopper-Pearson's at the effective number of trials,
        as high as all pairs of a table ask for (`stats.ranking`); what trials do not tell apart
        shares its ranks. Every table is a family of its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bitproof.stats import Interval
from bitproof.stats.ranking import pair_confidence, pairs_of, rank_ranges, times_as_many, told_apart

OF: Mapping[str, tuple[str, ...]] = {
    "layer": ("layer",),
    "bit": ("bit",),
    "cell": ("layer", "bit"),
}
"""What is ranked, and which fields name it."""
OUTCOME = "sdc1"
MOST_NAMED = 5
"""Places that are named where the highest rate is not told apart."""
Rate = Callable[[Sequence[int], float], Interval]
"""The rate over some cells at a confidence."""


def rank_places(
    members: Mapping[tuple[Any, ...], Sequence[int]],
    rows: Iterable[Mapping[str, Any]],
    *,
    of: str,
    rate: Rate,
    confidence: float,
) -> list[dict[str, Any]]:
    """Return one ranking for each kind of fault at each kind of site, the highest rate first.

    Args:
        members: the cells of each place, by group, site and what names the place.
        rows: the rates of the same places, in the same order.
        of: what is ranked: a key of `OF`.
        rate: gives intervals for ranks.
        confidence: how often all ranks of one table are right together.

    Returns:
        For each ranking `group`, `site`, `of`, `outcome`, `confidence`, `pairs`, and `places`, each
        with its rate as in the tables of rates and the ranks that it may have; `first` says from
        how many others the highest rate is not told apart (`untold`), which the next `others` of
        them are, and how many `times` as many trials would tell it from the next one, if rates are
        what was seen (null: not known).
    """
    families: dict[tuple[Any, ...], list[tuple[Mapping[str, Any], Sequence[int]]]] = {}
    for (key, cells), row in zip(members.items(), rows, strict=True):
        if row["trials"]:
            families.setdefault(key[:2], []).append((row, cells))
    found = []
    for (group, site), places in families.items():
        if len(places) < 2:
            continue
        level = pair_confidence(len(places), confidence)
        places.sort(key=lambda place: -place[0]["rates"][OUTCOME][1])
        intervals = [rate(cells, level) for _, cells in places]
        ranges = rank_ranges(intervals)
        above = told_apart(intervals)
        untold = [n for n in range(1, len(places)) if not above[0, n]]
        found.append(
            {
                "group": group,
                "site": site,
                "of": of,
                "outcome": OUTCOME,
                "confidence": confidence,
                "pairs": pairs_of(len(places)),
                "places": [
                    {
                        **{name: row[name] for name in OF[of]},
                        **{name: row[name] for name in ("trials", "population")},
                        "rate": row["rates"][OUTCOME],
                        "ranks": list(ranks),
                    }
                    for (row, _), ranks in zip(places, ranges, strict=True)
                ],
                "first": {
                    "untold": len(untold),
                    "others": untold[:MOST_NAMED],
                    "times": _times(intervals[0], intervals[untold[0]], level) if untold else 1.0,
                },
            }
        )
    return found


def _times(first: Interval, second: Interval, confidence: float) -> float | None:
    times = times_as_many(first, second, confidence=confidence)
    return None if times is None else float(f"{times:.2g}")
