import math
from pathlib import Path
from typing import Any

import pytest

from bitproof.report.records import Critical, layer_bars, stage_records
from bitproof.report.run import read_run


def test_a_stage_that_variants_share_is_told_once(run_dir: Path) -> None:
    run = read_run(run_dir)
    found = stage_records(run.records, run.variants)
    assert [(each.stage, each.variants) for each in found] == [
        ("s1", ("s1", "s1+s2", "s2+s1", "s1+s2+s3")),
        ("s2", ("s2", "s1+s2", "s2+s1", "s1+s2+s3")),
        ("s3", ("s1+s2+s3",)),
    ]
    assert [each.critical is not None for each in found] == [False, True, False]
    assert [each.alpha is not None for each in found] == [False, False, True]
    assert [each.loss is not None for each in found] == [True, True, False]


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        {"stages": None},
        {"stages": ["s1"]},
        {"stages": [{"stage": "s1"}]},
        {"stages": [{"stage": "s1", "record": "none"}]},
        {"stages": [{"stage": "s1", "record": {"loss": ["high"], "critical": {"layers": 3}}}]},
        {"stages": [{"stage": "s1", "record": {"alpha": {"conv": 0.5}, "gap": math.nan}}]},
    ],
)
def test_what_looks_like_no_record_is_passed_over(record: Any) -> None:
    for found in stage_records({"s1": record}, ()):
        assert (found.critical, found.alpha, found.loss) == (None, None, None)


def test_bars_fall_and_mark_the_last_choice() -> None:
    critical = Critical(
        layers=("a", "b", "c", "d"),
        scores=((9.0, 1.0, 1.0, 1.0), (1.0, 4.0, math.inf, 2.0)),
        top=(("a", "b"), ("b", "d")),
    )
    bars = layer_bars(critical)
    assert bars == [
        ("b", 4.0, True, 2),
        ("d", 2.0, True, 1),
        ("a", 1.0, False, 1),
    ]


@pytest.mark.parametrize("scores", [(), ((),), ((math.nan, math.inf),)])
def test_without_scores_there_are_no_bars(scores: tuple[tuple[float, ...], ...]) -> None:
    assert layer_bars(Critical(layers=("a", "b"), scores=scores, top=())) == []
