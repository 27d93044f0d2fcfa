import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bitproof.core.errors import DataError
from bitproof.report import write_report

MakeRun = Callable[..., Path]
NASTY = "<script>alert(1)</script>"
CDATA = "]]><img src=x onerror=alert(2)>{{ 7 * 7 }}"
VOID = {"meta", "col", "br", "wbr", "img", "link"}


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def page_of(run_dir: Path) -> Page:
    return Page(write_report(run_dir).read_text(encoding="utf-8"))


def words(page: Page) -> str:
    return " ".join(page.text.split())


def test_the_page_tells_all_there_is_to_tell(run_dir: Path) -> None:
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    assert sorted(each.name for each in run_dir.iterdir()) == [
        *("recipe.toml", "records", "report.html", "results.csv", "run.json")
    ]
    text = words(Page(path.read_text(encoding="utf-8")))
    for wanted in (
        "Three-stage hardening of a small ResNet on digits",
        "1 warning from the checks of this run",
        "black-box Square finds more errors than PGD",
        "Compared with the quantized network without hardening",
        "Networks compared",
        "Accuracy as the threat grows",
        "The asymmetry claim holds here.",
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


def test_numbers_of_the_page_are_those_of_the_table(run_dir: Path) -> None:
    rows = [line.split(",") for line in (run_dir / "results.csv").read_text().splitlines()]
    text = page_of(run_dir).text
    for _, threat, _, metric, value, *_ in rows[1:]:
        if metric == "acc" or threat == "none":
            assert f"{100 * float(value):.1f}" in text


def test_the_same_run_gives_the_same_bytes(run_dir: Path) -> None:
    first = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == first


def test_the_page_asks_for_nothing_and_runs_nothing(run_dir: Path) -> None:
    page = page_of(run_dir)
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in {"src", "href", "xlink:href"}]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    raw = (run_dir / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", raw)


def test_hostile_names_stay_text(make_run: MakeRun) -> None:
    variants = ["none", NASTY, CDATA, f"{NASTY}+{CDATA}"]
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
    page = page_of(folder)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(NASTY) > 10
    assert page.text.count(CDATA) > 10


def test_text_that_utf8_cannot_hold_is_replaced(run_dir: Path) -> None:
    (run_dir / "run.json").write_text(r'{"title": "half a pair \ud800"}')
    (run_dir / "recipe.toml").write_bytes(b"name = '\xff'")
    assert "half a pair ?" in page_of(run_dir).text


def test_missing_facts_are_said_to_be_missing(run_dir: Path) -> None:
    (run_dir / "run.json").write_text("{}")
    (run_dir / "recipe.toml").unlink()
    text = words(page_of(run_dir))
    assert text.count("not recorded") > 12
    assert "Warnings of the checks (gradient masking and others): not recorded." in text


def test_a_run_without_warnings_says_that_it_checked(make_run: MakeRun) -> None:
    text = words(page_of(make_run(facts={"warnings": []})))
    assert "raised no warning." in text


def test_an_unfinished_run_has_no_warning_so_far(make_run: MakeRun) -> None:
    text = words(page_of(make_run(facts={"warnings": [], "finished": None})))
    assert "raised no warning so far." in text


def test_a_partial_run_says_so(make_run: MakeRun) -> None:
    planned = ["float", "none", "s1", "s2", "s1+s2+s3"]
    folder = make_run(variants=["none", "s1"], facts={"variants": planned, "finished": None})
    text = words(page_of(folder))
    assert "Partial run" in text
    assert "No results yet for float, s2, s1+s2+s3." in text
    assert "No finishing time is recorded" in text
    assert "No comparison yet: “s1+s2+s3” has no results so far." in text
    assert "cannot be judged" in text


@pytest.mark.parametrize("variants", [[], ["none"], ["float"], ["s1"]])
def test_small_runs_give_a_page(variants: list[str], make_run: MakeRun) -> None:
    assert "bitproof" in page_of(make_run(variants=variants)).text


def test_a_run_without_rows_gives_a_page(make_run: MakeRun) -> None:
    assert "Partial run" in page_of(make_run(rows=[])).text


@pytest.mark.parametrize(
    "facts",
    [
        {"stages": {"s1": {"kind": ["a", "list"], "deep": {"er": [1, None]}}}},
        {"data": {"name": ["x"], "n_train": {}}, "model": {"kind": 3, "parameters": "many"}},
        {"durations": {f"task {i}": float("nan") for i in range(3)}},
        {"baseline": "nobody"},
    ],
)
def test_odd_facts_give_a_page(facts: dict[str, object], make_run: MakeRun) -> None:
    assert "bitproof" in page_of(make_run(facts=facts)).text


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


def test_the_room_does_not_import_torch() -> None:
    code = "import sys, bitproof.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
