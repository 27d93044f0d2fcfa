from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from bitproof.core.flags import pack_flags
from bitproof.core.json_lines import JsonLines
from bitproof.report.page_table import PageTable
from bitproof.report.paired import paired_change
from bitproof.report.run import read_run
from bitproof.report.run_tables import accuracy_table, chip_table, matrix_table
from bitproof.stats.intervals import mean_interval, tango, wilson
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
    looks = [set(row[-1].look.split()) for row in table.rows if len(row) > 1]
    assert all("full" in look for look in looks)
    assert {"best"} <= set.union(*looks)


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


def tallies(folder: Path, counts: dict[tuple[str, str, float], list[int]], total: int) -> None:
    """Write the counts of single trials by network, threat and level."""
    lines = [
        {"variant": name, "threat": threat, "level": level, "trial": trial}
        | {"correct": correct, "total": total, "key": f"{name}{threat}{level}{trial}"}
        for (name, threat, level), found in counts.items()
        for trial, correct in enumerate(found)
    ]
    log = JsonLines(folder / "tallies.jsonl")
    for line in lines:
        log.append(line)


def bold(folder: Path) -> list[set[str]]:
    """Return which networks are bold in each row of accuracies."""
    run = read_run(folder)
    table = accuracy_table(run, run.variants)
    names = [cell.text for cell in table.head[1:]]
    rows = [row for row in table.rows if len(row) > 1]
    return [
        {n for n, cell in zip(names, row[1:], strict=True) if "best" in cell.look} for row in rows
    ]


def test_bold_are_the_best_and_what_its_interval_cannot_tell_from_it(make_run: MakeRun) -> None:
    values = {"baseline": 0.5, "s1": 0.7, "s2": 0.69, "s1+s2": 0.6}
    rows = [
        Row(name, "clean", 0.0, "acc", value, value - 0.02, value + 0.02, 100)
        for name, value in values.items()
    ]
    assert bold(make_run(rows=rows, variants=list(values))) == [{"s1", "s2"}]


def test_nothing_is_bold_where_all_tie_or_intervals_are_unknown(make_run: MakeRun) -> None:
    rows = [
        Row(name, threat, 0.0 if threat == "clean" else 0.1, "acc", value, low, high, 100)
        for name, value in (("baseline", 0.5), ("s1", 0.51))
        for threat, low, high in (("clean", 0.4, 0.6), ("linf_pgd", None, None))
    ]
    assert bold(make_run(rows=rows, variants=["baseline", "s1"])) == [set(), set()]


def test_shared_chips_tell_apart_what_separate_intervals_cannot(make_run: MakeRun) -> None:
    # Chips differ by far more than the networks on each of them.
    counts = {"baseline": [10, 30, 50, 70, 90], "s1": [13, 32, 54, 72, 93]}
    rows = []
    for name, found in counts.items():
        low, value, high = mean_interval([one / 100 for one in found])
        rows.append(Row(name, "random_flips", 1e-2, "acc", value, low, high, 5))
    folder = make_run(rows=rows, variants=list(counts))
    assert bold(folder)[-1] == set()
    tallies(folder, {(n, "random_flips", 1e-2): one for n, one in counts.items()}, 100)
    assert bold(folder)[-1] == {"s1"}
    one = paired_change(read_run(folder), "baseline", "s1", "random_flips", 1e-2)
    gained = np.array(counts["s1"]) / 100 - np.array(counts["baseline"]) / 100
    low, high = ttest_1samp(gained, 0.0).confidence_interval(0.95)
    assert one is not None
    assert one.paired
    assert (one.low, one.value, one.high) == pytest.approx((low, gained.mean(), high))


def images_of(folder: Path, right: dict[str, list[list[int]]], threat: str, level: float) -> None:
    """Write which images each network got right, a list for each block."""
    log = JsonLines(folder / "tallies.jsonl")
    for name, blocks in right.items():
        for trial, one in enumerate(blocks):
            names = {"variant": name, "threat": threat, "level": level, "trial": trial, "key": name}
            counts = {"correct": sum(one), "total": len(one), "right": pack_flags(bytes(one))}
            log.append({**names, **counts})


def test_shared_images_tell_apart_what_separate_counts_cannot(make_run: MakeRun) -> None:
    base = [1] * 450 + [0] * 550
    better = [1] * 462 + [0] * 538
    right = {"baseline": [base[:600], base[600:]], "s1": [better[:600], better[600:]]}
    counts = {"baseline": 450, "s1": 462}
    rows = [
        Row(name, "linf_pgd", 0.1, "acc", value, low, high, 1000)
        for name, found in counts.items()
        for low, value, high in [wilson(found, 1000)]
    ]
    folder = make_run(rows=rows, variants=list(counts))
    sizes = {(n, "linf_pgd", 0.1): [sum(one) for one in blocks] for n, blocks in right.items()}
    tallies(folder, sizes, 600)
    alone = paired_change(read_run(folder), "baseline", "s1", "linf_pgd", 0.1)
    assert alone is not None
    assert (alone.sign, alone.paired) == (0, False)
    assert bold(folder)[-1] == set()
    (folder / "tallies.jsonl").unlink()
    images_of(folder, right, "linf_pgd", 0.1)
    one = paired_change(read_run(folder), "baseline", "s1", "linf_pgd", 0.1)
    assert one is not None
    assert (one.sign, one.paired) == (1, True)
    assert (one.low, one.value, one.high) == pytest.approx(tango(12, 0, 1000))
    assert bold(folder)[-1] == {"s1"}


def test_clean_images_beside_a_threat_are_not_taken_for_those_of_clean_accuracy(
    make_run: MakeRun,
) -> None:
    names = ("baseline", "s1")
    rows = [Row(name, "clean", 0.0, "acc", 0.5, 0.4, 0.6, 100) for name in names]
    folder = make_run(rows=rows, variants=list(names))
    right = {"baseline": [[1] * 50 + [0] * 50], "s1": [[0] * 49 + [1] * 50 + [0]]}
    images_of(folder, right, "clean", 0.0)
    log = JsonLines(folder / "tallies.jsonl")
    for name in names:
        beside = {"variant": name, "threat": "clean", "level": 0.0, "trial": 0, "reference": True}
        log.append({**beside, "key": name, "correct": 2, "total": 2, "right": pack_flags(b"\1\1")})
    found = paired_change(read_run(folder), *names, "clean", 0.0)
    assert found is not None
    assert found.paired
    assert (found.low, found.value, found.high) == pytest.approx(tango(49, 49, 100))


def test_trials_of_other_counts_or_too_few_are_not_paired(make_run: MakeRun) -> None:
    names = ("baseline", "s1")
    rows = [Row(name, "random_flips", 1e-2, "acc", 0.5, 0.4, 0.6, 4) for name in names]
    for counts in ({"baseline": [50] * 4, "s1": [50] * 4}, {"baseline": [50] * 5, "s1": [60] * 5}):
        folder = make_run(rows=rows, variants=list(names))
        (folder / "tallies.jsonl").unlink(missing_ok=True)
        tallies(folder, {(n, "random_flips", 1e-2): one for n, one in counts.items()}, 100)
        found = paired_change(read_run(folder), *names, "random_flips", 1e-2)
        assert found is not None
        assert not found.paired  # few; and a mean that is not that of the table


def test_clean_accuracy_stands_beside_that_under_a_threat_on_the_same_images(
    make_run: MakeRun,
) -> None:
    rows = [
        Row("baseline", "clean", 0.0, "acc", 0.9, 0.8, 1.0, 1000),
        Row("baseline", "random_flips", 1e-2, "acc", 0.5, 0.4, 0.6, 2),
        Row("baseline", "linf_pgd", 0.1, "acc", 0.45, 0.4, 0.6, 200),
    ]
    folder = make_run(rows=rows, variants=["baseline"])
    counts = {("baseline", "random_flips", 1e-2): [50, 50]}
    tallies(folder, counts | {("baseline", "linf_pgd", 0.1): [40, 50]}, 100)
    for total, correct in ((1000, 900), (100, 80), (200, 170)):
        tallies(folder, {("baseline", "clean", 0.0): [correct]}, total)
    run = read_run(folder)
    found = {
        row[0]: row[1].split("\n")[0]
        for row in texts(accuracy_table(run, run.variants))[1:]
        if len(row) > 1
    }
    assert found == {
        "no threat": "90.0",
        "clean\nthe same 100 images": "80.0",
        "10⁻²": "50.0",
        "clean\nthe same 200 images": "85.0",
        "0.1": "45.0",
    }


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
