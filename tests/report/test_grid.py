from collections.abc import Callable
from pathlib import Path

from bitproof.report.grid import accuracy_groups, chip_groups
from bitproof.report.run import read_run
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]


def test_every_condition_has_a_row_and_every_variant_a_cell(run_dir: Path) -> None:
    run = read_run(run_dir)
    groups = accuracy_groups(run, run.variants)
    assert [group.title for group in groups] == ["Clean", "Random bit flips", "L∞ PGD"]
    assert [group.note for group in groups] == [
        "1\N{NO-BREAK SPACE}800 images",
        "BER, 50 chips",
        "ε, 1\N{NO-BREAK SPACE}000 images",
    ]
    assert [row.label for row in groups[1].rows][-2:] == ["10⁻²", "AUC"]
    assert all(len(row.cells) == len(run.variants) for group in groups for row in group.rows)
    assert [row.label for group in groups for row in group.rows if row.focus] == ["10⁻³", "8/255"]


def test_cells_show_per_cent_and_what_is_missing(make_run: MakeRun) -> None:
    rows = [
        Row("baseline", "clean", 0.0, "acc", 0.965, 0.957, 0.973, 540),
        Row("s1", "heat", 85.0, "acc", 0.5),
    ]
    run = read_run(make_run(rows=rows, variants=["baseline", "s1"]))
    groups = accuracy_groups(run, run.variants)
    assert [(cell.main, cell.sub) for cell in groups[0].rows[0].cells] == [
        ("96.5", "95.7–97.3"),
        ("–", ""),
    ]
    assert (groups[1].title, groups[1].note, groups[1].rows[0].label) == ("heat", "level", "85")
    assert [cell.main for cell in groups[1].rows[0].cells] == ["–", "50.0"]


def test_the_worst_chip_is_told_with_the_spread(run_dir: Path) -> None:
    run = read_run(run_dir)
    (group,) = chip_groups(run, run.variants)
    worst = run.find("baseline", "random_flips", 1e-3, metric="acc_min")
    assert worst is not None
    cell = group.rows[3].cells[run.variants.index("baseline")]
    assert cell.main == f"{100 * worst.value:.1f}"
    assert cell.sub.startswith("σ ")
