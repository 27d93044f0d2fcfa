"""Rankings in words."""

from collections.abc import Callable
from pathlib import Path

from bitproof.report.campaign_summary import FirstPlace, RankedPlace, Ranking, read_summary
from bitproof.report.ranking import ranking_line
from bitproof.stats.intervals import Interval


def ranking(rates: tuple[float, float], times: float | None) -> Ranking:
    places = tuple(
        RankedPlace(
            layer="",
            bit=bit,
            ranks=(1, 2),
            trials=10,
            population=10**6,
            rate=Interval(0.0, rate, 0.5),
        )
        for bit, rate in enumerate(rates)
    )
    first = FirstPlace(others=(1,), untold=1, times=times)
    return Ranking(
        group=0,
        site="weight",
        of="bit",
        outcome="sdc1",
        confidence=0.95,
        pairs=1,
        places=places,
        first=first,
    )


def test_trials_that_would_tell_are_a_plain_number(
    make_campaign: Callable[..., Path],
) -> None:
    known = read_summary(make_campaign())
    line = ranking_line(known, ranking((0.02, 0.01), 263.0))
    assert "about 260 times as many would tell it from bit 1" in line


def test_nothing_seen_is_not_nothing_there(make_campaign: Callable[..., Path]) -> None:
    known = read_summary(make_campaign())
    line = ranking_line(known, ranking((0.0, 0.0), None))
    assert line.endswith("no SDC-1 in 20 trials, so no bit is known to be worse than another.")
