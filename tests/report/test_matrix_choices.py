from pathlib import Path
from typing import Any

import pytest

from bitproof.report.matrix import matrix_of
from bitproof.report.matrix_choices import Fronts, choice_lines, fronts_of, headline
from bitproof.report.run import read_run
from bitproof.stats.results import Row

THREATS = {
    "flips": {"family": "memory_fault", "title": "Flips", "symbol": "BER"},
    "stuck": {"family": "compute_fault", "title": "Stuck bits", "symbol": "bits"},
    "pgd": {"family": "input_attack", "title": "PGD", "symbol": "ε"},
}
SHARES = {"m1": 0.5, "m2": 0.25}


@pytest.fixture
def judged(make_run: Any) -> Any:
    """Return a function that makes fronts of accuracies: clean, flips, stuck, pgd."""

    def make(accs: dict[str, tuple[float, ...]], *, half: float = 0.01, **facts: Any) -> Fronts:
        names = ("clean", "flips", "stuck", "pgd")
        rows = [
            Row(network, threat, level, "acc", value, value - half, value + half, 100)
            for network, values in accs.items()
            for threat, level, value in zip(names, (0.0, 0.1, 1.0, 0.3), values, strict=False)
        ]
        told = {
            "variants": list(accs),
            "threats": THREATS,
            "stages": {},
            "multipliers": {name: {"power_share": share} for name, share in SHARES.items()},
            **facts,
        }
        return fronts_of(matrix_of(read_run(make_run(rows=rows, variants=[], facts=told))))

    return make


PLAIN = {
    "baseline": (0.95, 0.30, 0.40, 0.05),
    "tough": (0.90, 0.70, 0.60, 0.10),
    "robust": (0.85, 0.20, 0.50, 0.55),
    "middle": (0.88, 0.50, 0.52, 0.45),
    "poor": (0.80, 0.20, 0.30, 0.04),
}


def test_the_front_holds_what_no_other_beats(judged: Any) -> None:
    fronts = judged(PLAIN)
    assert fronts.figures == ("clean", "fault", "attack")
    assert fronts.front == ("baseline", "tough", "robust", "middle")
    assert fronts.near == ()


def test_each_question_has_its_answer_with_numbers(judged: Any) -> None:
    lines = choice_lines(judged(PLAIN))
    assert lines == [
        "Where no threat is expected: “baseline”, 95.0 % (94.0 to 96.0) clean.",
        "Where faults matter most: “tough”, 60.0 % (59.0 to 61.0) under stuck bits at bits = 1; "
        "90.0 % clean.",
        "Where attacks matter most: “robust”, 55.0 % (54.0 to 56.0) under PGD at ε = 0.3; "
        "85.0 % clean.",
        "Where both matter: “middle”, 45.0 % (44.0 to 46.0) under PGD at ε = 0.3; 88.0 % clean.",
        "On the Pareto front of clean accuracy, worst fault and worst attack: “baseline”, "
        "“tough”, “robust”, “middle”.",
    ]


def test_what_cannot_be_told_apart_is_named(judged: Any) -> None:
    accs = PLAIN | {"twin": (0.89, 0.69, 0.595, 0.09)}
    fronts = judged(accs)
    fault = choice_lines(fronts)[1]
    assert fault.endswith("Cannot be told from it: “twin” (59.5 %).")
    assert fronts.front == ("baseline", "tough", "robust", "middle")
    assert fronts.near == ("twin",)
    assert "Cannot be told from it: “twin”." in headline(fronts)
    assert "beaten by none beyond doubt: “twin”" in choice_lines(fronts)[-1]


def test_where_all_tie_no_network_is_recommended(judged: Any) -> None:
    lines = choice_lines(judged(PLAIN, half=0.6))
    assert lines[0].startswith("Where no threat is expected: none of the 5 networks can be told")
    assert "No network can be told from it." in headline(judged(PLAIN, half=0.6))


def test_without_intervals_nothing_can_be_told_apart(judged: Any, make_run: Any) -> None:
    rows = [Row(name, "clean", 0.0, "acc", value) for name, value in (("a", 0.9), ("b", 0.5))]
    fronts = fronts_of(matrix_of(read_run(make_run(rows=rows, variants=["a", "b"]))))
    assert "none of the 2 networks can be told" in choice_lines(fronts)[0]


POWERED = PLAIN | {
    "m1": (0.945, 0.30, 0.40, 0.05),
    "tough+m1": (0.941, 0.65, 0.60, 0.10),
    "m2": (0.70, 0.20, 0.30, 0.04),
}


def test_power_is_a_figure_of_the_front_where_it_is_known(judged: Any) -> None:
    fronts = judged(POWERED)
    assert fronts.figures[-1] == "power"
    assert {"m1", "tough+m1", "m2"} <= set(fronts.front)
    line = next(line for line in choice_lines(fronts) if "power matters" in line)
    # Both lose less than a point; of equal power, the better worst cases come first.
    assert line.startswith("Where power matters: “tough+m1”, 50.0 % of the power of exact")
    assert line.endswith("against “baseline”). Equal power: “m1”.")


def test_where_every_multiplier_costs_more_than_a_point_the_cheapest_loss_is_named(
    judged: Any,
) -> None:
    accs = PLAIN | {"m1": (0.90, 0.3, 0.4, 0.05), "m2": (0.70, 0.2, 0.3, 0.04)}
    line = next(line for line in choice_lines(judged(accs)) if "power matters" in line)
    assert line.startswith("Where power matters: “m1”, 50.0 %")
    assert "all lose more than a point" in line


def test_without_the_baseline_the_best_clean_accuracy_is_what_power_may_cost(
    judged: Any,
) -> None:
    accs = {"m2": (0.80, 0.2, 0.3, 0.04), "m1": (0.95, 0.3, 0.4, 0.05)}
    line = next(line for line in choice_lines(judged(accs)) if "power matters" in line)
    assert line.startswith("Where power matters: “m1”, 50.0 %")
    assert line.endswith("against “m1”).")


def test_power_that_is_not_known_is_not_guessed(judged: Any) -> None:
    accs = PLAIN | {"m1": (0.94, 0.3, 0.4, 0.05)}
    fronts = judged(accs, multipliers={"m1": {"label": "of unknown power"}})
    assert fronts.figures == ("clean", "fault", "attack")
    assert "Power is no part of this: not known for “m1”." in choice_lines(fronts)
    some = judged(POWERED, multipliers={"m1": {"power_share": 0.5}, "m2": {}})
    assert some.figures == ("clean", "fault", "attack")


def test_exact_networks_alone_say_nothing_of_power(judged: Any) -> None:
    assert not any("ower" in line for line in choice_lines(judged(PLAIN)))


def test_a_single_network_needs_no_choice(judged: Any) -> None:
    fronts = judged({"baseline": PLAIN["baseline"]})
    assert choice_lines(fronts) == []
    assert headline(fronts).startswith(
        "Under faults (2 counted), the worst case of “baseline”: 30.0 % (29.0 to 31.0) under flips"
    )


def test_a_network_that_lacks_a_figure_is_not_on_the_front(judged: Any) -> None:
    fronts = judged(PLAIN | {"new": (0.99,)})
    # No threat was met by all: no worst case counts, and clean accuracy alone is left.
    assert fronts.figures == ("clean",)
    assert fronts.front == ("new",)


def test_an_empty_run_has_a_headline(judged: Any) -> None:
    assert headline(judged({})) == "This run has no results yet."


def test_names_of_threats_may_be_written_in_another_way(judged: Any, tmp_path: Path) -> None:
    lines = choice_lines(judged(PLAIN), lambda column: column.threat.upper())
    assert "under STUCK; 90.0 % clean" in lines[1]
