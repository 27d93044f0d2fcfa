import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.report.drawing import run_figures
from bitproof.report.run import read_run
from bitproof.report.run_charts import Style, accuracy_figures, level_chart, rates, value_range
from bitproof.stats.intervals import Interval
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]
LOOKS = {"a": Style("#000"), "b": Style("#111", on_top=1)}


def points(*levels: float, half: float | None = 0.05) -> list[dict[str, Any]]:
    """Return accuracies of one half, with intervals or without."""
    interval = None if half is None else Interval(0.5 - half, 0.5, 0.5 + half)
    return [{"level": each, "at": f"<{each:g}>", **rates(0.5, interval)} for each in levels]


def chart(lines: dict[str, list[dict[str, Any]]], *, logarithmic: bool = True) -> Any:
    return level_chart(lines, LOOKS, level_title="BER & more", logarithmic=logarithmic)


def rows_of(spec: Any) -> Any:
    return spec["data"]["values"]


def test_every_level_of_every_network_is_a_row(run_dir: Path) -> None:
    run = read_run(run_dir)
    found = {each.name: json.loads(each.spec) for each in run_figures(run)}
    flips = found["accuracy-random-flips"]
    assert len(rows_of(flips)) == 6 * (6 + 1)
    names = flips["encoding"]["color"]["scale"]["domain"]
    assert names == [name for name in run.variants if name != "float"]
    assert rows_of(flips)[-1]["name"] == "s1+s2+s3"  # on top
    assert len(rows_of(found["accuracy-linf-pgd"])) == 7 * (4 + 1)
    s2 = run.find("s2", "random_flips", 1e-3)
    assert s2 is not None
    row = next(r for r in rows_of(flips) if r["name"] == "s2" and r["level"] == 1e-3)
    assert row["value"] == pytest.approx(100 * s2.value)
    assert row["low"] == pytest.approx(100 * (s2.ci_low or 0))


def test_figures_tell_faults_from_attacks_by_what_the_run_says(run_dir: Path) -> None:
    found = {each.name: json.loads(each.spec) for each in run_figures(read_run(run_dir))}
    axes = [found[f"accuracy-{name}"]["encoding"]["x"] for name in ("random-flips", "linf-pgd")]
    assert [axis["scale"]["type"] for axis in axes] == ["log", "linear"]
    assert [axis["title"] for axis in axes] == ["bit error rate (BER)", "ε"]


def test_level_zero_stands_apart_on_a_logarithmic_axis() -> None:
    spec = chart({"a": points(0.0, 1e-3, 1e-2)})
    first, *rest = rows_of(spec)
    assert 0 < first["level"] < 1e-3 / 2
    assert first["part"] not in {row["part"] for row in rest}
    assert (
        f'datum.value == {first["level"]!r} ? "<0>"' in spec["encoding"]["x"]["axis"]["labelExpr"]
    )


def test_level_zero_is_a_level_like_others_on_a_linear_axis() -> None:
    rows = rows_of(chart({"a": points(0.0, 0.1)}, logarithmic=False))
    assert [row["level"] for row in rows] == [0.0, 0.1]
    assert len({row["part"] for row in rows}) == 1


@pytest.mark.parametrize("levels", [(), (0.0,), (1e-3,)])
def test_few_levels_give_a_chart(levels: tuple[float, ...]) -> None:
    assert len(rows_of(chart({"a": points(*levels), "b": points(*levels, half=None)}))) == 2 * len(
        levels
    )


def test_limits_hold_all_ends_and_spread_by_twenty_points() -> None:
    for ends in ([], [0.0], [100.0], [50.0], [31.0, 99.0], [30.0, 60.0]):
        low, high = value_range(ends)
        assert 0 <= low <= high - 20 <= 80
        assert all(low <= end <= high for end in ends)


def test_losses_that_are_not_finite_leave_a_gap(make_run: MakeRun) -> None:
    folder = make_run(variants=["baseline"])
    stage = {"stage": "s1", "record": {"loss": [1.0, float("nan"), 0.5]}}
    (folder / "records" / "s1.json").write_text(json.dumps({"stages": [stage]}))
    (found,) = [each for each in run_figures(read_run(folder)) if each.section == "training"]
    assert [row["loss"] for row in rows_of(json.loads(found.spec))] == [1.0, None, 0.5]


def test_threats_of_one_name_but_for_signs_have_figures_of_their_own(make_run: MakeRun) -> None:
    rows = [Row("baseline", name, 0.1, "acc", 0.5) for name in ("a b", "a_b", "../a-b")]
    names = [each.name for each in run_figures(read_run(make_run(rows=rows, variants=[])))]
    assert names == ["accuracy-a-b", "accuracy-a-b-2", "accuracy-a-b-3"]


def test_a_threat_on_networks_that_are_left_out_has_no_figure(make_run: MakeRun) -> None:
    names = [f"m{i}" for i in range(9)]
    rows = [Row(name, "clean", 0.0, "acc", 0.1 * i) for i, name in enumerate(names)]
    rows.append(Row("m0", "linf_pgd", 0.1, "acc", 0.0))
    facts = {"variants": names, "multipliers": {name: {} for name in names}}
    folder = make_run(rows=rows, variants=[], facts=facts)
    assert run_figures(read_run(folder)) == []


def test_a_threat_without_levels_has_no_curve(make_run: MakeRun) -> None:
    rows = [
        Row(name, threat, 0.0, "acc", 0.8, 0.7, 0.9, 20)
        for name in ("baseline", "s1")
        for threat in ("clean", "registers")
    ]
    assert accuracy_figures(read_run(make_run(rows=rows, variants=["baseline", "s1"]))) == []
