import json
import math
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.report import result_table, write_report
from bitproof.report.drawing import run_figures
from bitproof.report.multipliers import (
    Approximation,
    approximations,
    commonest_exact,
    conditions,
    cost_table,
    front,
    ranks,
    shown,
    spearman,
)
from bitproof.report.run import Run, read_run
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]
BERS = (1e-4, 1e-3, 1e-2)
EPSILONS = (2 / 255, 8 / 255)
SOURCE = "EvoApproxLib v2022: 45 nm PDK, Synopsys Design Compiler"
EXACT = "mul8s_exact"
NASTY = "<script>alert(1)</script>"


def made_up_multipliers(n: int) -> dict[str, dict[str, Any]]:
    """Return an exact multiplier and others that err more the cheaper they are.

    Every third is unsigned; the last two have no published cost, one of them no key for it.
    """
    found: dict[str, dict[str, Any]] = {}
    for i in range(n):
        share = i / (n - 1)
        power = 0.425 * (1 - 0.9 * share) * (1 + 0.08 * math.sin(7 * i))
        costs: dict[str, Any] = {"power_mw": power, "area_um2": 1800 * power, "delay_ns": 1.4}
        costs["source"] = SOURCE
        if i >= n - 2:
            costs = dict.fromkeys(costs) if i == n - 2 else {}
        name = EXACT if i == 0 else f"mul8s_1K{i:02d}"
        errs = {"med": 2 * math.exp(6 * share), "nmed": 0.0033, "mred": 0.027, "wce": 255}
        errs |= {"ep": 0.74, "bias": -12.3, "mse": 5000.0}
        found[name] = {"label": f"evo:{name}", "signed": i % 3 != 2, **costs}
        found[name] |= dict.fromkeys(errs, 0) if i == 0 else errs
    return found


def made_up_rows(variants: Sequence[str], multipliers: Sequence[str]) -> list[Row]:
    """Return rows in which cheap multipliers cost accuracy, and retraining returns 80 % of it."""
    rows = []
    for variant in variants:
        stages = variant.split("+")
        place = max((multipliers.index(s) for s in stages if s in multipliers), default=0)
        loss = 0.75 * (place / len(multipliers)) ** 3 * (0.2 if "retrain" in stages else 1.0)
        clean = 0.965 - loss
        rows.append(row(variant, "clean", 0.0, clean))
        rows += [
            row(variant, "random_flips", ber, clean / (1 + (ber / 2e-3) ** 1.5))
            for ber in (BERS if variant != "float" else ())
        ]
        rows += [row(variant, "linf_pgd", each, clean * math.exp(-25 * each)) for each in EPSILONS]
    return rows


def row(variant: str, threat: str, level: float, value: float) -> Row:
    return Row(variant, threat, level, "acc", value, value - 0.004, value + 0.004, 1000)


@pytest.fixture
def run_on(make_run: MakeRun) -> Callable[..., Path]:
    """Return the function that writes a run on 20 multipliers, two of them retrained."""

    def write(
        n: int = 20, more: Sequence[str] = (), unfinished: Sequence[str] = (), **facts: Any
    ) -> Path:
        multipliers = made_up_multipliers(n)
        names = list(multipliers)
        variants = [
            "float",
            "baseline",
            *names,
            f"{names[9]}+retrain",
            f"{names[12]}+retrain",
            *more,
        ]
        kinds = {"retrain": "approximation_aware", "s1": "desensitize"}
        kinds |= dict.fromkeys(names, "approximate")
        told = {
            "variants": variants,
            "multipliers": multipliers,
            "stages": {name: {"kind": kind} for name, kind in kinds.items()},
        }
        measured = [name for name in variants if name not in unfinished]
        rows = made_up_rows(measured, names)
        return make_run(variants=[], rows=rows, facts={**told, **facts})

    return write


def networks_of(folder: Path) -> list[Approximation]:
    return approximations(read_run(folder))


def drawings(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows behind each drawing of costs, by title."""
    found = [each for each in run_figures(read_run(folder)) if each.section == "multipliers"]
    return {each.title: json.loads(each.spec)["data"]["values"] for each in found}


class Text(HTMLParser):
    """Collects tags and text."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.parts: list[str] = []
        self.feed(write_report(folder).read_text(encoding="utf-8"))
        self.text = " ".join("".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def table_of(folder: Path) -> list[list[str]]:
    """Return the text of each cell of the table, head left out."""
    run = read_run(folder)
    return [[cell.text for cell in row] for row in cost_table(run, approximations(run)).rows]


def test_every_network_on_a_multiplier_has_a_row_by_rising_power(run_on: MakeRun) -> None:
    folder = run_on()
    powers = [each.multiplier.power_mw for each in networks_of(folder)]
    assert powers[-2:] == [None, None]
    costs = [each for each in powers if each is not None]
    assert costs == sorted(costs)
    first, *rows = table_of(folder)
    assert first[0] == "baseline\nexact baseline"
    assert len(rows) == 20 + 2
    assert rows[-1][1:3] == ["–", "–\n–"]


def test_a_row_tells_cost_errors_and_accuracies(run_on: MakeRun) -> None:
    folder = run_on()
    assert conditions(read_run(folder)) == [
        ("random_flips", 1e-3),
        ("linf_pgd", pytest.approx(EPSILONS[0])),
    ]
    (row,) = [each for each in table_of(folder) if "1K02\n" in each[0]]
    assert row[:8] == [
        "mul8s_1K02\nevo:mul8s_1K02, unsigned circuit",
        "0.415",
        "747\n1.4",
        "3.76\n0.33 %",
        "2.7 %\n74.0 %",
        "−12.3",
        "96.4\n96.0–96.8",
        "−0.1\n−0.6 to +0.5",
    ]
    assert len(row) == 8 + 4


def test_an_unsigned_circuit_between_sign_bits_says_so_everywhere(run_on: MakeRun) -> None:
    told = made_up_multipliers(20)
    told["mul8s_1K05"] |= {"signed": True, "circuit_signed": False}
    told["mul8s_1K05"]["label"] = "sign_magnitude:mul8u_18UH"
    folder = run_on(multipliers=told)
    (row,) = [each for each in table_of(folder) if "1K05" in each[0]]
    assert row[0].endswith("sign_magnitude:mul8u_18UH, unsigned circuit between sign bits")
    for spots in drawings(folder).values():
        circuits = {spot["name"]: spot["circuit"] for spot in spots}
        assert circuits["mul8s_1K05"] == "unsigned circuit between sign bits"
        assert circuits["mul8s_1K02"] == "unsigned circuit"
        assert circuits["mul8s_1K03"] == "signed circuit"


def test_rows_on_the_front_are_marked(run_on: MakeRun) -> None:
    folder = run_on()
    run = read_run(folder)
    networks = approximations(run)
    best = front(run, networks)
    clean = {each.variant: run.clean(each.variant) for each in networks}
    known = [
        (power, row.value, each in best)
        for each in networks
        if (power := each.multiplier.power_mw) is not None and (row := clean[each.variant])
    ]
    assert {on_front for *_, on_front in known} == {True, False}
    for power, value, on_front in known:
        beaten = any(p < power and v > value for p, v, _ in known)
        assert not (on_front and beaten)
    rows = cost_table(run, networks).rows
    marked = [row[0].text.split("\n")[0] for row in rows if row[0].look == "front"]
    assert sorted(marked) == sorted(each.variant for each in best)


def test_four_drawings_have_a_marker_for_each_network_with_a_cost(run_on: MakeRun) -> None:
    folder = run_on()
    found = drawings(folder)
    assert list(found) == [
        "Clean accuracy against power",
        "Clean accuracy against area",
        "Accuracy under random bit flips at BER = 10⁻³ against power",
        "Accuracy under L∞ PGD at ε = 2/255 against power",
    ]
    for spots in found.values():
        assert len(spots) == 18 + 2
        assert sum(spot["retrained"] for spot in spots) == 2
        assert sum(spot["cost2"] is not None for spot in spots) == 2
        assert 3 <= sum(bool(spot["label"]) for spot in spots) <= 12
        assert all(spot["front"] for spot in spots if spot["label"])
    assert f"as published ({SOURCE})" in Text(folder).text
    assert "Multipliers without published power, 2 in all" in Text(folder).text


def test_networks_without_rows_have_dashes_and_no_marker(run_on: MakeRun) -> None:
    folder = run_on(unfinished=["mul8s_1K03", "mul8s_1K09+retrain"], finished=None)
    rows = table_of(folder)
    assert len(rows) == 23
    (row,) = [each for each in rows if each[0].startswith("mul8s_1K03")]
    assert set(row[6:]) == {"–"}
    assert all(len(spots) == 18 for spots in drawings(folder).values())
    assert "No results yet for mul8s_1K03, mul8s_1K09+retrain." in Text(folder).text


def test_a_run_without_any_cost_has_a_table_and_no_drawing(run_on: MakeRun) -> None:
    bare: dict[str, dict[str, Any]] = {name: {} for name in made_up_multipliers(20)}
    folder = run_on(multipliers=bare)
    assert drawings(folder) == {}
    assert len(table_of(folder)) == 23
    text = Text(folder).text
    assert "No drawing of accuracy against cost" in text
    assert "Multipliers without published power, 20 in all" in text


def test_a_run_without_any_row_has_a_page(run_on: MakeRun) -> None:
    folder = run_on()
    (folder / "results.csv").write_text((folder / "results.csv").read_text().splitlines()[0] + "\n")
    assert "All networks on approximate multipliers" in Text(folder).text


def test_runs_without_multipliers_have_no_section(run_dir: Path) -> None:
    assert networks_of(run_dir) == []
    assert "Approximate multipliers" not in Text(run_dir).text


def test_the_page_shows_few_and_tells_who_is_left_out(run_on: MakeRun) -> None:
    text = Text(run_on(n=35)).text
    assert "Best trade of 37 networks on multipliers: “" in text
    assert "Of 37 networks on approximate multipliers, 6 are shown here" in text
    assert text.count("products of evo:mul8s") in range(1, 7)
    assert "Does one protection bring the other?" not in text


def test_multipliers_are_no_hardening(run_on: MakeRun) -> None:
    folder = run_on(more=["s1", "s1+mul8s_1K05", "s1+mul8s_1K05+retrain"])
    assert read_run(folder).full == "s1"
    text = Text(folder).text
    assert "the accuracy of “s1” (desensitize)" in text
    assert "Changes against the baseline" in text
    assert "asymmetry" not in text


def test_names_from_files_stay_text(run_on: MakeRun) -> None:
    folder = run_on(more=[NASTY])
    told = json.loads((folder / "run.json").read_text())
    one = {"power_mw": 0.3, "area_um2": 2.0, "source": NASTY, "label": f"{NASTY}!"}
    told["multipliers"][NASTY] = one
    (folder / "run.json").write_text(json.dumps(told))
    page = Text(folder)
    assert (folder / "report.html").read_text(encoding="utf-8").count("<script") == 1
    assert page.text.count(NASTY) > 5


def test_the_console_table_of_many_networks_is_narrow(run_on: MakeRun) -> None:
    header, *rows = result_table(run_on())
    assert header == ["variant", "mW", "clean", "BER 1e-3", "eps 2/255"]
    assert [line[0] for line in rows[:2]] == ["float", "baseline"]
    assert len(rows) == 2 + 20 + 2
    powers = [float(line[1]) for line in rows if line[1] != "-"]
    assert powers == sorted(powers)
    assert len(powers) == 20
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    assert sum(widths) + 3 * len(widths) + 1 <= 80


def test_ranks_leave_out_exact_circuits_and_networks_near_chance(run_on: MakeRun) -> None:
    told = made_up_multipliers(20)
    told["mul8s_1K05"] |= {"ep": 0}
    folder = run_on(multipliers=told)
    path = folder / "results.csv"
    lines = path.read_text().splitlines()
    weak = [
        "mul8s_1K19,clean,0,acc,0.2,0.19,0.21,9,fraction"
        if line.startswith("mul8s_1K19,clean")
        else line
        for line in lines
    ]
    path.write_text("\n".join(weak) + "\n")
    run = read_run(folder)
    exact = commonest_exact(run, approximations(run))
    found = ranks(run, approximations(run), exact)
    assert exact == "baseline"
    assert [each.condition[0] for each in found] == ["random_flips", "linf_pgd"]
    assert [each.networks for each in found] == [20 - 2 - 1] * 2
    for each in found:
        assert each.loss.value == pytest.approx(1.0)


def test_too_few_networks_have_no_ranks(run_on: MakeRun) -> None:
    folder = run_on(unfinished=[f"mul8s_1K{i:02d}" for i in range(1, 16)])
    assert ranks(read_run(folder), networks_of(folder), "baseline") == []


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=12))
def test_rank_correlation_lies_in_its_interval(pairs: list[tuple[float, float]]) -> None:
    found = spearman([a for a, _ in pairs], [b for _, b in pairs])
    if found is not None:
        assert -1 - 1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9


def run_of(make_run: MakeRun, accuracies: dict[str, float], powers: dict[str, float | None]) -> Run:
    """Return a run of multipliers with these powers, and of variants with these accuracies."""
    rows = [Row(name, "clean", 0.0, "acc", value) for name, value in accuracies.items()]
    told: dict[str, Any] = {name: {"power_mw": each} for name, each in powers.items()}
    facts = {"variants": list(accuracies), "multipliers": told, "stages": {}}
    return read_run(make_run(rows=rows, variants=[], facts=facts))


def test_variants_are_taken_apart_around_their_last_multiplier(make_run: MakeRun) -> None:
    names = ["baseline", "a", "s1+a+retrain+s2", "s1+b+a", "s1"]
    run = run_of(make_run, dict.fromkeys(names, 0.5), {"a": 0.2, "b": 0.3})
    found = {each.variant: each for each in approximations(run)}
    assert list(found) == ["a", "s1+a+retrain+s2", "s1+b+a"]
    assert (found["a"].exact, found["a"].before) == ("baseline", None)
    long = found["s1+a+retrain+s2"]
    assert (long.exact, long.before) == ("s1", "s1+a")
    assert (found["s1+b+a"].exact, found["s1+b+a"].name) == ("s1", "a")


def test_rows_go_by_power_and_those_without_come_last(make_run: MakeRun) -> None:
    run = run_of(make_run, dict.fromkeys("abcd", 0.5), {"a": None, "b": 0.3, "c": 0.0, "d": 0.1})
    assert [each.variant for each in approximations(run)] == ["c", "d", "b", "a"]


def test_who_lacks_a_figure_is_not_on_the_front(make_run: MakeRun) -> None:
    run = run_of(
        make_run, {"a": 0.9, "b": 0.8, "c": 0.7}, {"a": None, "b": 0.3, "c": 0.1, "d": 0.0}
    )
    best = front(run, approximations(run))
    assert [each.variant for each in best] == ["c", "b"]


@pytest.mark.parametrize("n", [6, 7, 35])
def test_few_are_shown_the_front_first(n: int, make_run: MakeRun) -> None:
    names = [f"m{i}" for i in range(n)]
    accuracies = {
        "float": 0.9,
        "baseline": 0.9,
        **{name: 0.5 + i / 100 for i, name in enumerate(names)},
    }
    powers: dict[str, float | None] = {name: 0.1 + i % 5 / 10 for i, name in enumerate(names)}
    run = run_of(make_run, accuracies, powers)
    found = shown(run)
    assert found[:2] == ("float", "baseline")
    assert len(found) == 2 + 6
    assert list(found) == [name for name in run.variants if name in found]
    best = front(run, approximations(run))
    assert {each.variant for each in best} <= set(found) or len(best) > 6


def test_runs_without_multipliers_show_all(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert shown(run) == run.variants
