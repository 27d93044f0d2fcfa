from collections.abc import Callable
from pathlib import Path

from bitproof.report.page_table import PageTable
from bitproof.report.run import read_run
from bitproof.report.run_tables import accuracy_table, chip_table, matrix_table
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]


def texts(table: PageTable) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_every_condition_has_a_row_and_every_variant_a_cell(run_dir: Path) -> None:
    run = read_run(run_dir)
    table = accuracy_table(run, run.variants)
    assert [row[0].text for row in table.rows if len(row) == 1] == [
        "Clean\n1\N{NO-BREAK SPACE}800 images",
        "Random bit flips\nBER, 50 chips",
        "L∞ PGD\nε, 1\N{NO-BREAK SPACE}000 images",
    ]
    assert [row[0].text for row in table.rows][8:10] == ["10⁻²", "AUC"]
    assert {len(row) for row in table.rows} == {1, 1 + len(run.variants)}
    assert [row[0].text for row in table.rows if row[0].look == "focus"] == ["10⁻³", "8/255"]
    assert [row[-1].look for row in table.rows if len(row) > 1] == ["full"] * 12


def test_cells_show_per_cent_and_what_is_missing(make_run: MakeRun) -> None:
    rows = [
        Row("baseline", "clean", 0.0, "acc", 0.965, 0.957, 0.973, 540),
        Row("s1", "heat", 85.0, "acc", 0.5),
    ]
    run = read_run(make_run(rows=rows, variants=["baseline", "s1"]))
    assert texts(accuracy_table(run, run.variants)) == [
        ["Clean\n540 images"],
        ["no threat", "96.5\n95.7–97.3", "–"],
        ["heat\nlevel"],
        ["85", "–", "50.0"],
    ]


def test_the_worst_chip_is_told_with_the_spread(run_dir: Path) -> None:
    run = read_run(run_dir)
    table = texts(chip_table(run, run.variants))
    worst = run.find("baseline", "random_flips", 1e-3, metric="acc_min")
    assert worst is not None
    assert table[0] == ["Random bit flips\nBER"]
    assert table[4][1 + run.variants.index("baseline")].startswith(f"{100 * worst.value:.1f}\nσ ")


def test_the_matrix_compares_with_the_baseline(run_dir: Path) -> None:
    run = read_run(run_dir)
    table = matrix_table(run, run.variants)
    assert [cell.text for cell in table.head] == [
        *("network", "Clean", "Random bit flips\nBER = 10⁻³", "L∞ PGD\nε = 8/255")
    ]
    assert [row[0].text for row in table.rows] == [
        *("baseline", "s1", "s2", "s1+s2", "s2+s1", "s1+s2+s3")
    ]
    before, after = (run.find(v, "random_flips", 1e-3) for v in ("baseline", "s2"))
    assert before is not None
    assert after is not None
    s2 = table.rows[2][2]
    assert s2.text.startswith(f"{100 * (after.value - before.value):+.1f}\n")
    assert s2.look == "gain clear"
    assert table.rows[0][2].text == f"{100 * before.value:.1f} %"


def test_the_matrix_counts_the_levels_with_a_clear_gain(run_dir: Path) -> None:
    run = read_run(run_dir)
    rows = {row[0]: row for row in texts(matrix_table(run, run.variants))}
    assert rows["s1"][2].endswith("clear gain at 0/6")
    assert rows["s2"][3].endswith("clear gain at 3/4")
    assert "clear gain at" not in rows["s2"][1]
