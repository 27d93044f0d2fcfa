"""Silent data corruption on the console and on the page of a run."""

from bitproof.report import corruption_lines, write_report
from bitproof.stats.results import Row
from tests.report.conftest import MakeRun

NAME = "permanent_multiplier_faults"


def rows() -> list[Row]:
    """Return the results of two networks, of which one was counted."""
    clean = [Row(name, "clean", 0.0, "acc", 0.9, 0.88, 0.92, 100) for name in ("baseline", "s1")]
    counted = [
        Row("baseline", NAME, 1.0, "acc", 0.8, 0.7, 0.9, 50),
        Row("baseline", NAME, 1.0, "sdc1", 0.12, 0.05, 0.24, 50),
        Row("baseline", NAME, 1.0, "sdc5", 0.0, 0.0, 0.07, 50),
    ]
    return clean + counted


def test_rates_stand_beside_their_intervals(make_run: MakeRun) -> None:
    run_dir = make_run(rows=rows(), variants=["baseline", "s1"])
    header, *lines = corruption_lines(run_dir)
    assert header == ["variant", *(f"SDC-{n}, permanent multiplier faults 1" for n in (1, 5))]
    assert lines == [["baseline", "12 (5-24)", "0 (0-7)"]]
    page = write_report(run_dir).read_text()
    assert "Silent data corruption" in page
    assert "SDC-5" in page


def test_a_run_that_counted_none_shows_none(make_run: MakeRun) -> None:
    plain = make_run(rows=rows()[:2], variants=["baseline", "s1"])
    assert corruption_lines(plain) == []
    assert "Silent data corruption" not in write_report(plain).read_text()
