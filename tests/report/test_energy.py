import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitproof.core.errors import DataError, SpecError
from bitproof.report import write_report
from bitproof.report.drawing import run_figures
from bitproof.report.energy import energy_table, energy_text, points_of_page
from bitproof.report.fault_counts import (
    FaultCounts,
    Unmeasured,
    clean_count,
    fault_counts,
    rate_threats,
    word_bits,
)
from bitproof.report.operating_points import EnergyQuestion, OperatingPoint, operating_points
from bitproof.report.run import read_run, read_unfinished_run
from bitproof.report.tallies import read_tallies
from bitproof.stats.voltage import PUBLISHED, VoltageTable

MakeRun = Callable[..., Path]
Look = Callable[[Path], Any]
LEVELS = (1e-4, 1e-3, 1e-2)
CLEAN = {"float": 95, "baseline": 90, "s1": 92, "s2": 90}
"""Right answers of 100."""
CURVES = {"float": (20, 5, 5), "baseline": (90, 88, 60), "s1": (92, 92, 92), "s2": (80, 70, 60)}
RECIPE = """
[quantization.weight]
bits = 8

[[evaluation.threats]]
kind = "clean"

[[evaluation.threats]]
kind = "memory_faults"
name = ""
fault = { kind = "random_flips", ber = 0.01 }
levels = [1e-4, 1e-3, 1e-2]
chips = 3

[[evaluation.threats]]
kind = "memory_faults"
name = "flips_secded"
fault = { kind = "random_flips", ber = 0.01 }
levels = [1e-4, 1e-3, 1e-2]
chips = 3
protections = [{ kind = "secded", data_bits = 64 }]

[[evaluation.threats]]
kind = "adversarial_examples"
"""
FLIPS = {"family": "memory_fault", "title": "Random bit flips", "symbol": "BER"}
THREATS = {
    "clean": {"family": "none", "title": "Clean"},
    "random_flips": FLIPS,
    "flips_secded": FLIPS,
    "linf_pgd": {"family": "input_attack", "title": "PGD", "symbol": "ε"},
}


def entry(variant: str, threat: str, level: float, trial: int, correct: int) -> dict[str, Any]:
    return {"variant": variant, "threat": threat, "level": level, "trial": trial} | {
        "correct": correct,
        "total": 100,
        "key": "k",
    }


def entries(threat: str = "random_flips") -> list[dict[str, Any]]:
    """Return all counts under one threat; the chips differ by a right answer."""
    return [
        entry(variant, threat, level, chip, curve[i] + chip - 1 if i else curve[i])
        for variant, curve in CURVES.items()
        for i, level in enumerate(LEVELS)
        for chip in range(3)
    ]


def clean_entries() -> list[dict[str, Any]]:
    return [entry(variant, "clean", 0.0, 0, correct) for variant, correct in CLEAN.items()]


@pytest.fixture
def make_measured(make_run: MakeRun) -> MakeRun:
    """Return a function that writes a run with the given lines in its log."""

    def write(lines: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
        told = {"threats": THREATS, **changes.pop("facts", {})}
        folder = make_run(
            variants=list(CLEAN), facts=told, **{"recipe": RECIPE, "rows": [], **changes}
        )
        for variant, bits in (("s1", 8), ("s2", 4)):
            record = {"stages": [], "scheme": {"weight": {"kind": "affine", "bits": bits}}}
            (folder / "records" / f"{variant}.json").write_text(json.dumps(record))
        kept = clean_entries() + entries() if lines is None else lines
        (folder / "tallies.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in kept))
        return folder

    return write


def ask(folder: Path, **question: Any) -> dict[str, OperatingPoint]:
    """Return the answers under random flips by network."""
    run = read_unfinished_run(folder)
    threats = [each for each in rate_threats(run) if each.title == "random_flips"]
    found = operating_points(run, EnergyQuestion(**question), threats)
    return {each.variant: each for each in found if isinstance(each, OperatingPoint)}


def test_rates_are_told_by_recipe_and_labels(make_measured: MakeRun) -> None:
    threats = rate_threats(read_unfinished_run(make_measured()))
    assert [each.title for each in threats] == ["random_flips", "flips_secded"]
    assert [len(each.protections) for each in threats] == [0, 1]
    assert threats[0].levels == LEVELS


def test_counts_are_by_chip_and_level(make_measured: MakeRun) -> None:
    run = read_unfinished_run(make_measured())
    flips, _ = rate_threats(run)
    found = fault_counts(run, "baseline", flips)
    assert isinstance(found, FaultCounts)
    assert np.array_equal(found.accs, [[0.9, 0.87, 0.59], [0.9, 0.88, 0.6], [0.9, 0.89, 0.61]])
    assert (found.bits, found.images) == (8, 100)
    clean = clean_count(run, "s1")
    assert clean is not None
    assert clean.acc == 0.92


def test_the_limit_is_that_of_the_curve(make_measured: MakeRun) -> None:
    point = ask(make_measured())["baseline"]
    # 90, 88 and 60 %: a loss of one point lies half-way from 1e-4 to 1e-3, in decades.
    assert point.rate.ber.value == pytest.approx(10**-3.5)
    voltage = PUBLISHED.voltage_at(10**-3.5)
    assert point.voltage.value == pytest.approx(voltage)
    assert point.saved.value == pytest.approx(1 - PUBLISHED.energy_at(voltage))
    assert point.voltage.low < voltage < point.voltage.high


def test_the_answer_is_one_line(make_measured: MakeRun) -> None:
    found = {name: energy_text(point) for name, point in ask(make_measured()).items()}
    assert found["baseline"].startswith("0.893 V/Vmin (0.8")
    assert "energy saved (" in found["baseline"]
    assert found["baseline"].endswith("accuracy 89.0 % at BER 0.032 %, loss 1.0 points at most")
    assert found["s1"] == (
        "at most 0.835 V/Vmin (0.835 to 0.835), at least 30.2 % energy saved (30.2 to 30.2), "
        "accuracy 92.0 % at BER 1 %, the highest measured, loss 0.0 points"
    )
    assert found["s2"] == (
        "above 0.908 V/Vmin, less than 17.6 % energy saved: "
        "loss 10.0 points already at BER 0.01 %, the lowest measured"
    )


def test_losses_may_count_from_another_network(make_measured: MakeRun) -> None:
    folder = make_measured()
    found = ask(folder, against="s1")
    assert energy_text(found["baseline"]) == (
        "at no voltage: clean accuracy 90.0 %, 2.0 points below that of s1"
    )
    generous = ask(folder, against="s1", max_drop=0.04)["baseline"]
    assert generous.rate.ber.value == pytest.approx(
        ask(folder, max_drop=0.02)["baseline"].rate.ber.value
    )
    with pytest.raises(SpecError, match="against: no network 's3'"):
        ask(folder, against="s3")


def test_narrow_words_count_by_their_bits_only_if_asked(make_measured: MakeRun) -> None:
    folder = make_measured()
    for name, bits in (("float", 32), ("baseline", 8), ("s2", 4)):
        assert word_bits(read_unfinished_run(folder), name) == bits
        assert ask(folder)[name].cost.storage == 1
        assert ask(folder, weight_traffic=True)[name].cost.storage == bits / 8


def test_a_width_that_nobody_recorded_is_asked_for_in_vain(make_measured: MakeRun) -> None:
    folder = make_measured()
    (folder / "records" / "s2.json").unlink()
    assert "s2" in ask(folder)
    with pytest.raises(DataError, match="s2: the width of its words is not recorded"):
        ask(folder, weight_traffic=True)


def test_check_bits_are_charged_and_their_words_counted(make_measured: MakeRun) -> None:
    run = read_unfinished_run(make_measured(clean_entries() + entries("flips_secded")))
    _, secded = rate_threats(run)
    question = EnergyQuestion(decoder=0.02)
    point = operating_points(run, question, [secded])[2]
    assert isinstance(point, OperatingPoint)
    assert point.variant == "s1"
    energy = PUBLISHED.energy_at(PUBLISHED.voltage_at(1e-2))
    assert point.saved.value == pytest.approx(1 - 1.125 * energy - 0.02)
    assert energy_text(point).endswith(", 16.2 % of code words beyond repair")


@pytest.mark.parametrize(
    ("protections", "storage"),
    [
        ('{ kind = "parity" }', 9 / 8),
        ('{ kind = "signatures", words = 64, bits = 2 }', 1 + 2 / (64 * 8)),
        ('{ kind = "triple_modular" }', 3.0),
        ('{ kind = "ranger" }, { kind = "secded", data_bits = 64 }', 9 / 8),
        ('{ kind = "secded", data_bits = 32 }', 39 / 32),
    ],
)
def test_what_protections_store_is_charged(
    protections: str, storage: float, make_measured: MakeRun
) -> None:
    recipe = RECIPE.replace('{ kind = "secded", data_bits = 64 }', protections)
    folder = make_measured(clean_entries() + entries("flips_secded"), recipe=recipe)
    run = read_unfinished_run(folder)
    point = operating_points(run, EnergyQuestion(decoder=0.1), rate_threats(run)[1:])[1]
    assert isinstance(point, OperatingPoint)
    assert point.cost.storage == pytest.approx(storage)
    assert point.cost.decoder == 0.1


@pytest.mark.parametrize(
    ("protection", "problem"),
    [
        ('{ kind = "secdet" }', "what 'secdet' stores is not known. Did you mean 'secded'?"),
        ('{ kind = "secded" }', "wanted all fields of 'secded', without 'data_bits'"),
    ],
)
def test_a_protection_of_unknown_cost_is_refused(
    protection: str, problem: str, make_measured: MakeRun
) -> None:
    recipe = RECIPE.replace('{ kind = "secded", data_bits = 64 }', protection)
    folder = make_measured(clean_entries() + entries("flips_secded"), recipe=recipe)
    run = read_unfinished_run(folder)
    with pytest.raises(DataError) as caught:
        operating_points(run, EnergyQuestion(), rate_threats(run)[1:])
    assert problem in str(caught.value)
    assert points_of_page(run) == []


def test_missing_counts_are_told(make_measured: MakeRun) -> None:
    lines = [each for each in entries() if each["variant"] != "s2"]
    run = read_unfinished_run(make_measured(clean_entries()[1:] + lines[:-2]))
    (flips, _) = rate_threats(run)
    found = operating_points(run, EnergyQuestion(), [flips])
    missing = {each.variant: each.reason for each in found if isinstance(each, Unmeasured)}
    assert missing == {
        "float": "the clean accuracy is missing",
        "s1": "2 of 9 counts are missing",
        "s2": "9 of 9 counts are missing",
    }


def test_equal_networks_share_their_counts(make_measured: MakeRun) -> None:
    lines = [each for each in clean_entries() + entries() if each["variant"] != "s2"]
    facts = {"networks": {"s1": "aa", "s2": "aa", "baseline": "bb"}}
    found = ask(make_measured(lines, facts=facts))
    assert found["s2"].rate == found["s1"].rate


def test_rates_beyond_the_table_are_left_out(make_measured: MakeRun) -> None:
    table = VoltageTable(voltages=(0.9, 1.0), bers=(2e-3, 0.0), energies=(0.8, 1.0))
    point = ask(make_measured(), table=table)["s1"]
    assert (point.levels, point.rate.ber.value) == (LEVELS[:2], 1e-3)
    assert "the highest measured that the table has" in energy_text(point)
    small = VoltageTable(voltages=(0.9, 1.0), bers=(1e-5, 0.0), energies=(0.8, 1.0))
    with pytest.raises(DataError, match="wanted a rate of at most 1e-05"):
        ask(make_measured(), table=small)


def test_other_images_for_the_clean_network_widen_the_interval(make_measured: MakeRun) -> None:
    narrow = ask(make_measured())["baseline"].rate.ber
    more = [each | {"correct": 100 * each["correct"], "total": 10_000} for each in clean_entries()]
    wide = ask(make_measured(more + entries()))["baseline"].rate.ber
    assert wide.value == pytest.approx(narrow.value)
    assert wide.low < narrow.low


def test_a_question_without_sense_is_refused() -> None:
    for drop in (-0.1, 1.1, float("nan")):
        with pytest.raises(SpecError, match="max_drop: wanted a fraction"):
            EnergyQuestion(max_drop=drop)
    with pytest.raises(SpecError, match="decoder: wanted an energy"):
        EnergyQuestion(decoder=-1.0)


def test_an_answer_is_plain_values(make_measured: MakeRun) -> None:
    told = ask(make_measured())["baseline"].to_dict()
    assert json.loads(json.dumps(told)) == told
    assert (told["chips"], told["images"], told["verdict"]) == (3, 100, "found")
    assert set(told["ber"]) == {"low", "value", "high"}


def test_a_torn_last_line_is_no_count(make_measured: MakeRun) -> None:
    path = make_measured() / "tallies.jsonl"
    whole = read_tallies(path)
    path.write_text(path.read_text() + '{"variant": "s1", "thr')
    assert read_tallies(path) == whole


@pytest.mark.parametrize("line", ["rubbish", "{}", "[]", '{"variant": 1}'])
def test_a_line_that_is_no_count_is_refused(line: str, make_measured: MakeRun) -> None:
    path = make_measured() / "tallies.jsonl"
    path.write_text(f"{path.read_text()}{line}\n")
    number = len(path.read_text().splitlines())
    with pytest.raises(DataError, match=f"line {number} is not a measurement"):
        read_run(path.parent)


def test_more_right_answers_than_images_are_no_count(make_measured: MakeRun) -> None:
    with pytest.raises(DataError, match="line 1 is not a measurement"):
        read_run(make_measured([entry("s1", "clean", 0.0, 0, 101)]))


@pytest.mark.parametrize("recipe", ["= nothing", "[evaluation]\nthreats = 3", "evaluation = 1"])
def test_a_recipe_that_is_none_is_refused(recipe: str, make_measured: MakeRun) -> None:
    folder = make_measured(recipe=recipe)
    with pytest.raises(DataError, match=r"recipe\.toml: wanted the recipe of a run"):
        rate_threats(read_run(folder))
    assert energy_table(read_run(folder)) is None


def test_the_page_and_its_figure_tell_the_answers(make_measured: MakeRun, look: Look) -> None:
    folder = make_measured()
    text = look(write_report(folder)).words
    assert "How low the voltage may go" in text
    assert "at most 0.835" in text
    assert "above 0.908" in text
    (figure,) = [each for each in run_figures(read_run(folder)) if each.section == "energy"]
    spec = json.loads(figure.spec)
    rows = [row for row in spec["data"]["values"] if row["name"] == "baseline"]
    assert [row["value"] for row in rows] == pytest.approx([60.0, 88.0, 90.0, 90.0])
    assert [row["energy"] for row in rows] == sorted(row["energy"] for row in rows)
    assert rows[-1]["energy"] == 1
    narrow = [row for row in spec["data"]["values"] if row["name"] == "s2"]
    assert narrow[-1]["energy"] == 0.5  # words of four bits
    diamonds = spec["layer"][-1]["data"]["values"]
    assert [row["name"] for row in diamonds] == ["baseline", "s1"]
    assert diamonds[0]["value"] == pytest.approx(89.0)


def test_a_code_stands_in_the_same_figure(make_measured: MakeRun) -> None:
    folder = make_measured(clean_entries() + entries() + entries("flips_secded"))
    (figure,) = [each for each in run_figures(read_run(folder)) if each.section == "energy"]
    rows = json.loads(figure.spec)["data"]["values"]
    assert {row["name"] for row in rows} >= {"s1 random_flips", "s1 flips_secded"}
    assert max(row["energy"] for row in rows) == pytest.approx(1.125)


def test_a_run_without_rates_has_no_energy(run_dir: Path, look: Look) -> None:
    run = read_run(run_dir)
    assert points_of_page(run) == []
    assert not [each for each in run_figures(run) if each.section == "energy"]
    assert "How low the voltage may go" not in look(write_report(run_dir)).text
