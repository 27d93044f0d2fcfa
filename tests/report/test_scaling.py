"""Scaling factors and the three-way front on pages: what is drawn, and what is passed over."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitproof.report.front_charts import front_figures
from bitproof.report.run import ANALYSIS, Run, read_run
from bitproof.report.scaling import correlation_lines, scaling_of, scaling_table
from bitproof.report.scaling_charts import scaling_figures
from tests.report.conftest import MakeRun

LAYER = {
    **{"layer": "conv1", "weight": 0.01, "activation": 0.02, "product": 2e-4, "rms": 0.5},
    **{"relative_flip": 1.5, "flip": [4e-4, 1.6e-3], "distribution": [0.5, 0.5]},
}
MEANS = {key: LAYER[key] for key in ("weight", "activation", "product", "relative_flip")}
FAILURES = {"conv1": {"rate": [0.01, 0.02, 0.04], "trials": 100}}


def analyzed(run_dir: Path, content: Any) -> Run:
    (run_dir / ANALYSIS).write_text(json.dumps(content))
    return read_run(run_dir)


def two_networks(*, failures: bool) -> dict[str, Any]:
    return {
        "networks": [
            {
                "name": name,
                "means": MEANS,
                "layers": [LAYER],
                "failures": FAILURES if failures else {},
            }
            for name in ("baseline", "s1")
        ],
        "correlations": [
            {"figure": "product", "over": "layers", "value": [0.1, 0.5, 0.8], "n": 8},
            {"measured": "flips 0.01", "figure": "weight", "over": "networks"}
            | {"value": [-0.2, 0.3, 0.9], "n": 4},
        ],
    }


@pytest.mark.parametrize("failures", [True, False])
def test_factors_are_drawn_and_told(run_dir: Path, failures: bool) -> None:
    run = analyzed(run_dir, two_networks(failures=failures))
    table = scaling_table(run)
    assert table is not None
    assert [row[0].text for row in table.rows] == ["baseline", "s1"]
    assert table.rows[0][3].text == "0.0002"
    assert table.rows[0][-1].text == ("2.00" if failures else "–")
    assert len(scaling_figures(run)) == (4 if failures else 3)
    first, second = correlation_lines(run)
    assert "failure rate and product of the steps" in first
    assert "+0.50 (+0.10 to +0.80), n = 8" in first
    assert "loss under flips 0.01 and weight step" in second


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"networks": 3},
        {"networks": [{"name": "a", "layers": []}]},
        {"networks": [{"name": "a", "layers": [{**LAYER, "product": -1}]}]},
        {"correlations": [{"figure": "product", "over": "layers", "value": [0, 2, 3], "n": 1}]},
    ],
)
def test_what_is_something_else_is_passed_over(run_dir: Path, content: Any) -> None:
    run = analyzed(run_dir, content)
    assert not scaling_of(run).networks
    assert scaling_table(run) is None
    assert not scaling_figures(run)


def test_the_front_names_what_nothing_beats(make_run: MakeRun) -> None:
    run = read_run(make_run())
    (figure,) = front_figures(run)
    spots = json.loads(figure.spec)["data"]["values"]
    assert {spot["name"] for spot in spots} == set(run.variants) - {"float"}
    for spot in spots:
        better = [
            other
            for other in spots
            if other is not spot
            and all(other[key] >= spot[key] for key in ("clean", "fault", "attack"))
            and any(other[key] > spot[key] for key in ("clean", "fault", "attack"))
        ]
        assert spot["front"] is (not better)
        assert spot["label"] == (spot["name"] if spot["front"] else "")


def test_no_front_of_two_networks(make_run: MakeRun) -> None:
    assert not front_figures(read_run(make_run(variants=["baseline", "s1"])))
