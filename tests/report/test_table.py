from collections.abc import Callable
from pathlib import Path

from bitproof.report import result_table
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]


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
