import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import DataError
from bitproof.report import result_table, write_report
from bitproof.stats.results import Row

MakeRun = Callable[..., Path]
Look = Callable[[Path], Any]
NASTY = "<script>alert(1)</script>"
CDATA = "]]>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"


def test_the_page_tells_all_there_is_to_tell(run_dir: Path, look: Look) -> None:
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    assert sorted(each.name for each in run_dir.iterdir()) == [
        *("recipe.toml", "records", "report.html", "results.csv", "run.json")
    ]
    text = look(path).words
    for wanted in (
        "Three-stage hardening of a small ResNet on digits",
        "1 warning from the checks of this run",
        "black-box Square finds more errors than PGD",
        "Compared with the quantized network without hardening",
        "Networks compared",
        "Accuracy as the threat grows",
        "clear gain at 3/4",
        "Chip-to-chip spread",
        "Critical layers",
        "Clip adjustment",
        "Training",
        "Bit error rate: the probability",
        "Projected gradient descent",
        "Environment",
        "2.13.0+cpu",
        "Durations",
        'kind = "random_flips"',
    ):
        assert wanted in text
    assert "Partial run" not in text


def test_numbers_of_the_page_are_those_of_the_table(run_dir: Path, look: Look) -> None:
    rows = [line.split(",") for line in (run_dir / "results.csv").read_text().splitlines()]
    text = look(write_report(run_dir)).text
    for _, threat, _, metric, value, *_ in rows[1:]:
        if metric == "acc" or threat == "clean":
            assert f"{100 * float(value):.1f}" in text


def test_the_same_run_gives_the_same_bytes(run_dir: Path) -> None:
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_the_page_asks_for_nothing_and_runs_its_own_script_alone(run_dir: Path, look: Look) -> None:
    page = look(write_report(run_dir))
    page.assert_harmless()
    assert len(page.programs) == 1
    raw = (run_dir / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", raw)


def test_hostile_names_stay_text(make_run: MakeRun, look: Look) -> None:
    variants = ["baseline", NASTY, CDATA, f"{NASTY}+{CDATA}"]
    folder = make_run(
        variants=variants,
        facts={
            "title": NASTY,
            "warnings": [CDATA],
            "durations": {NASTY: 1.0},
            "stages": {NASTY: {"kind": CDATA, NASTY: CDATA}},
            "platform": NASTY,
            "digest": CDATA,
        },
        recipe=f"name = '{NASTY}'\n# {CDATA}\n</pre>",
    )
    stage = {
        "stage": NASTY,
        "kind": "fault_aware",
        "record": {
            "critical": {"layers": [NASTY, CDATA], "scores": [[1.0, 2.0]], "top": [[CDATA]]},
            "alpha": {NASTY: {"chosen": 0.5}},
            "loss": [1.0],
        },
    }
    (folder / "records" / f"{CDATA}.json").write_text(json.dumps({"stages": [stage]}))
    page = look(write_report(folder))
    page.assert_harmless()
    assert page.tags.count("script") == 1
    assert page.text.count(NASTY) > 10
    assert page.text.count(CDATA) > 10


def test_text_that_utf8_cannot_hold_is_replaced(run_dir: Path, look: Look) -> None:
    (run_dir / "run.json").write_text(r'{"title": "half a pair \ud800"}')
    (run_dir / "recipe.toml").write_bytes(b"name = '\xff'")
    (run_dir / "records" / "s1.json").write_text(
        r'{"stages": [{"stage": "\ud800", "record": {"loss": [1.0]}}]}'
    )
    assert "half a pair ?" in look(write_report(run_dir)).text


def test_missing_facts_are_said_to_be_missing(run_dir: Path, look: Look) -> None:
    (run_dir / "run.json").write_text("{}")
    (run_dir / "recipe.toml").unlink()
    text = look(write_report(run_dir)).words
    assert text.count("not recorded") > 12
    assert "Warnings of the checks (gradient masking and others): not recorded." in text


THREATS = """
[[evaluation.threats]]
kind = "adversarial_examples"
levels = [0.1{more}]
"""
CHECK = """
[[evaluation.threats]]
kind = "black_box_check"
"""


@pytest.mark.parametrize(
    ("recipe", "made", "unmade"),
    [
        (
            THREATS.format(more=", 0.2") + CHECK,
            "attacks bring accuracy to chance at a huge radius; accuracy falls as the radius "
            "grows; an attack without gradients is not the stronger one – they raised no warning.",
            "integers compared with floats (not recorded).",
        ),
        (
            THREATS.format(more=""),
            "attacks bring accuracy to chance at a huge radius – they raised no warning.",
            "accuracy falls as the radius grows (attacks have one radius); an attack without "
            "gradients is not the stronger one (no black_box_check in the recipe).",
        ),
        (
            '[[evaluation.threats]]\nkind = "clean"',
            "No check ran.",
            "an attack without gradients is not the stronger one (no attack on inputs in the "
            "recipe).",
        ),
    ],
)
def test_a_run_without_warnings_says_what_was_checked_and_what_not(
    recipe: str, made: str, unmade: str, make_run: MakeRun, look: Look
) -> None:
    text = look(write_report(make_run(facts={"warnings": []}, recipe=recipe))).words
    assert made in text
    assert unmade in text.split("Not checked: ")[1]


def test_without_a_recipe_nothing_is_said_to_have_been_checked(
    make_run: MakeRun, look: Look
) -> None:
    text = look(write_report(make_run(facts={"warnings": []}))).words
    assert "No warning; which checks ran is not recorded." in text


def test_an_unfinished_run_has_no_warning_so_far(make_run: MakeRun, look: Look) -> None:
    facts: dict[str, Any] = {"warnings": [], "finished": None}
    text = look(write_report(make_run(facts=facts, recipe=THREATS.format(more="")))).words
    assert "raised no warning so far." in text


def test_a_partial_run_says_so(make_run: MakeRun, look: Look) -> None:
    planned = ["float", "baseline", "s1", "s2", "s1+s2+s3"]
    folder = make_run(variants=["baseline", "s1"], facts={"variants": planned, "finished": None})
    text = look(write_report(folder)).words
    assert "Partial run" in text
    assert "No results yet for float, s2, s1+s2+s3." in text
    assert "No finishing time is recorded" in text
    assert "No comparison yet: “s1+s2+s3” has no results so far." in text


@pytest.mark.parametrize("variants", [[], ["baseline"], ["float"], ["s1"]])
def test_small_runs_give_a_page(variants: list[str], make_run: MakeRun, look: Look) -> None:
    assert "bitproof" in look(write_report(make_run(variants=variants))).text


def test_a_run_without_rows_gives_a_page(make_run: MakeRun, look: Look) -> None:
    assert "Partial run" in look(write_report(make_run(rows=[]))).text


@pytest.mark.parametrize(
    "facts",
    [
        {"stages": {"s1": {"kind": ["a", "list"], "deep": {"er": [1, None]}}}},
        {"data": {"name": ["x"], "n_train": {}}, "model": {"kind": 3, "parameters": "many"}},
        {"durations": {f"task {i}": float("nan") for i in range(3)}},
        {"baseline": "nobody"},
    ],
)
def test_odd_facts_give_a_page(facts: dict[str, object], make_run: MakeRun, look: Look) -> None:
    assert "bitproof" in look(write_report(make_run(facts=facts))).text


def test_a_large_run_stays_small(make_run: MakeRun) -> None:
    bers = [10 ** (-6 + i / 4) for i in range(20)]
    epsilons = [(i + 1) / 255 for i in range(20)]
    path = write_report(make_run(bers=bers, epsilons=epsilons, n_layers=60))
    assert path.stat().st_size < 1_000_000


def test_a_broken_run_leaves_the_old_report(run_dir: Path) -> None:
    old = write_report(run_dir).read_bytes()
    (run_dir / "results.csv").write_text("rubbish")
    with pytest.raises(DataError):
        write_report(run_dir)
    assert (run_dir / "report.html").read_bytes() == old


def test_charts_may_be_live_and_still_ask_for_nothing(make_run: MakeRun, look: Look) -> None:
    folder = make_run(variants=["baseline", NASTY, "</script>"])
    text = write_report(folder, interactive=True).read_text(encoding="utf-8")
    page = look(folder / "report.html")
    page.assert_harmless()
    assert page.tags.count("script") == 3
    assert text.count("</script") == text.count("<script") == 3
    places = [value for name, value in page.attributes if name == "data-figure"]
    specs = json.loads(page.script)
    assert sorted(places) == sorted(specs)
    assert "<script>alert(1)</script>" in json.dumps(specs)
    assert write_report(folder, interactive=True).read_text(encoding="utf-8") == text


def test_a_threat_that_nobody_knew_is_shown_like_any_other(make_run: MakeRun, look: Look) -> None:
    threat = {"family": "compute_fault", "title": "Solar storm", "symbol": "flux"}
    rows = [
        Row(variant, name, level, "acc", value - level / 8, 0.3, 0.9, 20)
        for variant, value in (("baseline", 0.6), ("s1", 0.8))
        for name, level in (("clean", 0.0), ("storm", 0.1), ("storm", 0.2), ("odd", 3.0))
        if name != "odd" or variant == "s1"
    ]
    facts = {"threats": {"storm": threat | {"notation": "scientific"}}}
    folder = make_run(rows=rows, variants=["baseline", "s1"], facts=facts)
    text = look(write_report(folder)).words
    assert "under solar storm at flux = 2×10⁻¹" in text
    assert "Solar storm" in text.split("Accuracy as the threat grows")[2]
    assert "flux, 20 chips" in text
    assert "odd" in text
    assert result_table(folder)[0] == [
        *("variant", "clean", "flux 1e-1", "flux 2e-1"),
        "odd 3",
    ]


def test_the_package_loads_neither_torch_nor_the_plotting_library() -> None:
    heavy = {"torch", "altair", "vl_convert"}
    code = f"import sys, bitproof.report; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
