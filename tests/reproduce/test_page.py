from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bitproof.core.errors import DataError
from bitproof.reproduce import (
    TABLES,
    CellResult,
    Job,
    JobPlan,
    Place,
    document,
    find_table,
    listing,
    read_cell,
    status_sheets,
)
from bitproof.reproduce.asymmetry import claims, tally_of_claims, verdict
from bitproof.reproduce.sheets import against_theirs, cell_table, value_text

TABLE = find_table("resq-matrix")
PLAN = JobPlan(seeds=[0], gain_ber=0.01, gain_epsilon=0.05)


def result(
    variant: str, threat: str, level: float, ends: Sequence[float], metric: str = "gain"
) -> CellResult:
    text = f"-{level:g}" if level else ""
    low, value, high = ends
    published = TABLE.find(
        variant, threat, metric, level=level, network="resnet18", dataset="cifar10"
    )
    return CellResult.model_validate(
        {
            "table": TABLE.name,
            "cell": f"lenet5-mnist.{variant}.{threat}{text}.{metric}",
            "network": "lenet5",
            "dataset": "mnist",
            "variant": variant,
            "threat": threat,
            "level": level,
            "metric": metric,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n": 10,
            "unit": "fraction",
            "seeds": [0],
            "digest": f"recipe:{'0' * 16} behaviour:{'1' * 16}",
            "versions": {"bitproof": "0", "torch": "2", "numpy": "2", "python": "3"},
            "device": "cpu",
            "seconds": 1.0,
            "published": published.value if published else None,
            "published_source": published.source if published else "",
            "trust": published.trust if published else "",
        }
    )


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ((0.01, 0.02, 0.03), "yes"),
        ((-0.01, 0.02, 0.05), "undecided"),
        ((-0.03, -0.02, -0.01), "no"),
        ((0.0, 0.0, 0.0), "undecided"),
    ],
)
def test_a_verdict_needs_an_interval_that_leaves_zero_out(
    ends: tuple[float, float, float], word: str
) -> None:
    assert verdict(result("s2", "linf_pgd", 0.05, ends)) == word


def test_the_claims_look_at_one_stage_alone(job: Job) -> None:
    results = [
        result("s2", "linf_pgd", 0.05, (0.01, 0.02, 0.03)),
        result("s1", "random_flips", 0.01, (-0.01, 0.0, 0.01)),
        result("s1", "linf_pgd", 0.05, (0.2, 0.3, 0.4)),
    ]
    assert claims(results, job) == [
        "s2 alone raises AR: yes (+2.00 points, +1.00 to +3.00)",
        "s1 alone raises FR: undecided (+0.00 points, -1.00 to +1.00)",
    ]
    assert tally_of_claims([(results, job), ([], job)]) == [
        "s2 alone raises AR, over 1 measured: 1 yes, 0 no, 0 undecided",
        "s1 alone raises FR, over 1 measured: 0 yes, 0 no, 1 undecided",
    ]
    assert claims([], job)[0] == "s2 alone raises AR: not measured"


def test_ours_is_the_best_gain_of_the_full_pipeline(job: Job) -> None:
    results = [
        result("s1+s2+s3", "linf_pgd", 0.05, (0.1, 0.2, 0.3)),
        result("s1+s2+s3", "linf_pgd", 0.1, (0.0, 0.1, 0.2)),
        result("s1", "linf_pgd", 0.05, (0.4, 0.5, 0.6)),
    ]
    assert against_theirs(TABLE, results, job.labels()) == [
        "largest gain in attack resilience: theirs +10.35 points [S], ours +20.00 points, +10.00 "
        "to +30.00 (lenet5 on mnist, s1+s2+s3, linf_pgd at 0.05), which is none of the paper's",
        "largest gain in fault resilience: theirs +12.47 points [S], ours not measured",
    ]


def test_a_grid_has_a_line_for_each_variant_and_gains_last(job: Job) -> None:
    results = [
        result("s1", "linf_pgd", 0.05, (0.01, 0.02, 0.03)),
        result("s1", "linf_pgd", 0.05, (0.5, 0.6, 0.7), "acc"),
        result("baseline", "linf_pgd", 0.05, (0.5, 0.58, 0.7), "acc"),
        result("float", "clean", 0.0, (0.89, 0.9, 0.91), "acc"),
    ]
    texts = {one.key: value_text(one) for one in results}
    grid = cell_table(texts, job.labels())
    assert grid.header == ("variant", "clean", "L∞ PGD 0.05", "gain: L∞ PGD 0.05")
    assert grid.rows == (
        ("float", "90.0 ± 1.0", "", ""),
        ("baseline", "", "58.0 ± 10.0", ""),
        ("s1", "", "60.0 ± 10.0", "+2.0 ± 1.0"),
    )


def sheets(place: Place) -> str:
    found = status_sheets([TABLE], ["full", "small"], results=place.results, work=place.work)
    parts = []
    for sheet in found:
        rows = [" ".join(row) for row in sheet.grid.rows] if sheet.grid else []
        parts += [sheet.title, *rows, *sheet.lines]
    return "\n".join(parts)


def test_the_status_of_nothing_is_one_line_a_job(job: Job, place: Place) -> None:
    text = sheets(place)
    assert "small resq-matrix tiny-digits: 0 done, 0 stale, 0 partial, 22 missing" in text
    assert "full resq-matrix\n0 done, 0 stale, 0 partial, 0 missing" in text
    assert "±" not in text


def test_the_status_tells_what_is_done(finished: Place) -> None:
    text = sheets(finished)
    assert "22 done, 0 stale, 0 partial, 0 missing" in text
    assert "scaled down: everything" in text
    assert "*" not in text.replace("* stale", "")
    assert "s1 alone raises FR: " in text
    assert "ours not measured" in text, "there is no s1+s2+s3"


def test_the_status_marks_what_is_under_way_and_stale(
    finished: Place, change: Callable[..., Job]
) -> None:
    change("[stages.s2]", "[stages.s2]\nsteps = 3")
    for path in (finished.results / "small" / "resq-matrix").glob("*.s1.*.json"):
        path.unlink()
    text = sheets(finished)
    assert "8 done, 7 stale, 7 partial, 0 missing" in text
    assert "7 stale: recipe changed" in text
    assert any(line.startswith("s2 ") and line.count(" *") == 7 for line in text.splitlines())
    assert any(line.startswith("s1 … … …") for line in text.splitlines())


def test_the_status_counts_results_of_no_cell(job: Job, finished: Place) -> None:
    folder = finished.results / "small" / "resq-matrix"
    stray = result("s1", "linf_pgd", 0.05, (0.01, 0.02, 0.03))
    (folder / f"{stray.cell}.json").write_text(stray.text())
    assert f"1 results belong to no cell of today, such as {stray.cell}" in sheets(finished)


def test_the_listing_tells_every_job(job: Job) -> None:
    grid = listing([TABLE], ["full", "small"])
    assert grid.rows == (
        (
            *("small", "resq-matrix", "tiny-digits", "22", "float baseline s1 s2"),
            *("clean, BER 1e-2, AUC-FR, L∞ PGD 0.05", "0"),
        ),
    )


def test_the_document_is_the_results_alone(finished: Place, change: Callable[..., Job]) -> None:
    text = document(finished.results)
    assert "#### tiny-digits" in text
    assert "Scaled down: everything" in text
    assert text.count("No cell is finished yet.") == 2 * len(TABLES) - 1, "all but this one"
    path = finished.results / "small" / "resq-matrix" / "tiny-digits.s1.clean.acc.json"
    assert f"`{read_cell(path).digest}`" in text
    assert value_text(read_cell(path)) in text
    change("[stages.s2]", "[stages.s2]\nsteps = 3")
    assert document(finished.results) == text, "a stale result stays what it was"


def test_the_document_of_nothing_says_so(folder: Path, tmp_path: Path) -> None:
    assert document(tmp_path / "nowhere").count("No cell is finished yet.") == 2 * len(TABLES)


def test_the_document_names_what_is_not_begun(finished: Place, folder: Path) -> None:
    plans = folder / "table.toml"
    more = plans.read_text().replace("tiny-digits", "other-digits")
    plans.write_text(plans.read_text() + more)
    (folder / "other-digits.toml").write_text((folder / "tiny-digits.toml").read_text())
    assert "Not begun: other-digits." in document(finished.results)


def test_a_damaged_result_stops_status_and_document(finished: Place) -> None:
    path = finished.results / "small" / "resq-matrix" / "tiny-digits.s1.clean.acc.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"tiny-digits\.s1\.clean\.acc\.json"):
        sheets(finished)
    with pytest.raises(DataError, match=r"tiny-digits\.s1\.clean\.acc\.json"):
        document(finished.results)
