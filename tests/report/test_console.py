from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.report import result_table
from bitproof.report.campaign_summary import read_summary
from bitproof.report.console import ConsoleTable, compact, console_table, short_names
from bitproof.stats.intervals import wilson
from bitproof.stats.results import Row

MakeCampaign = Callable[..., Path]
MakeRun = Callable[..., Path]
MakeSummary = Callable[..., dict[str, Any]]


def width(table: ConsoleTable) -> int:
    """Return the columns that Rich needs: a border and two spaces beside each text."""
    texts = zip(table.header, *table.rows, strict=True)
    return 1 + sum(max(len(text) for text in column) + 3 for column in texts)


def test_layers_by_bits_fit_a_terminal(make_campaign: MakeCampaign) -> None:
    table, totals = console_table(read_summary(make_campaign()))
    bits = [f"bit {bit}" for bit in range(7, -1, -1)]
    assert table.header == ("layer", *bits, "all")
    assert len(table.rows) == 61
    assert table.rows[0][:3] == ("layer1.0.conv1", "40±20", "15±15")
    assert table.rows[3][8] == "-"
    assert table.rows[-1][0] == "all"
    assert table.rows[-1][-1] == "4.0±.4"
    assert width(table) <= 100
    assert width(totals) <= 100


def test_totals_have_a_row_for_each_outcome(make_campaign: MakeCampaign) -> None:
    totals = console_table(read_summary(make_campaign()))[-1]
    assert totals.header == ("outcome", "flip in weight")
    names = ["masked", "SDC-1", "SDC-5", "SDC-10 %", "SDC-20 %", "DUE", "accuracy", "trials"]
    assert [row[0] for row in totals.rows] == names
    assert totals.rows[1] == ("SDC-1", "4.0 (3.6-4.4)")


def test_totals_of_many_groups_have_a_row_for_each(make_campaign: MakeCampaign) -> None:
    rates = (1e-5, 1e-4, 1e-3, 1e-2)
    totals = console_table(read_summary(make_campaign(rates=rates)))[-1]
    assert len(totals.rows) == 5
    assert totals.header[:3] == ("faults", "masked", "SDC-1")
    assert width(totals) <= 100


def test_of_long_words_the_worst_bits_are_shown(make_campaign: MakeCampaign) -> None:
    table = console_table(read_summary(make_campaign(n_layers=2, bits=32)))[0]
    assert table.header[1:-1] == tuple(f"bit {bit}" for bit in range(31, 23, -1))
    assert "24 bits with lower rates not shown" in table.title
    assert width(table) <= 100


def test_trials_of_several_places_have_totals_alone(make_campaign: MakeCampaign) -> None:
    tables = console_table(read_summary(make_campaign(n_layers=0, rates=(1e-3,), together=True)))
    assert [table.header for table in tables] == [("outcome", "all together")]


def test_nothing_in_a_name_steers_the_terminal(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1)
    told["layers"][0]["layer"] = "a\x1b[2J\nb"
    for table in console_table(read_summary(make_campaign(told))):
        assert all(text.isprintable() for row in table.rows for text in row)


@pytest.mark.parametrize("n", [1, 9, 100, 5000, 10**6])
def test_compact_rates_take_six_characters(n: int) -> None:
    for successes in {0, 1, n // 9, n // 2, n - 1, n}:
        assert len(compact(wilson(successes, n))) <= 6


def test_short_names_stay_different() -> None:
    names = [f"features.block{i}.convolution.weight" for i in range(120)]
    found = short_names(names)
    assert len(set(found)) == 120
    assert max(len(name) for name in found) <= 14


def test_the_table_has_lowest_middle_and_highest_level(run_dir: Path) -> None:
    table = result_table(run_dir)
    assert table[0] == [
        "variant",
        "clean",
        *("BER 1e-5", "BER 1e-3", "BER 1e-2"),
        *("eps 2/255", "eps 8/255", "eps 16/255"),
    ]
    assert [line[0] for line in table[1:]] == [
        *("float", "baseline", "s1", "s2", "s1+s2", "s2+s1", "s1+s2+s3")
    ]
    assert {len(line) for line in table} == {8}


def test_cells_give_per_cent_and_half_the_interval(make_run: MakeRun) -> None:
    rows = [
        Row("baseline", "clean", 0.0, "acc", 0.965, 0.955, 0.979, 540),
        Row("baseline", "fgsm", 0.1, "acc", 0.25),
    ]
    assert result_table(make_run(rows=rows, variants=["baseline", "s1"])) == [
        ["variant", "clean", "fgsm 0.1"],
        ["baseline", "96.5 ±1.2", "25.0"],
        ["s1", "-", "-"],
    ]
