import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bitproof.core.errors import DataError
from bitproof.report import write_campaign_report
from bitproof.report.campaign_charts import convergence_chart, scale_end, whisker_bar
from bitproof.report.campaign_heat import LIMITS, colour
from bitproof.report.campaign_page import headline, planned
from bitproof.report.campaign_summary import Convergence, read_summary
from bitproof.report.campaign_wording import grouped, span, value
from bitproof.stats.intervals import Interval, wilson

MakeCampaign = Callable[..., Path]
MakeSummary = Callable[..., dict[str, Any]]
NASTY = "<script>alert(1)</script>"
CDATA = "]]>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
VOID = {"meta", "col", "br", "img", "link"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

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

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page_of(folder: Path) -> Page:
    return Page(write_campaign_report(folder).read_text(encoding="utf-8"))


def test_the_page_tells_all_there_is_to_tell(make_campaign: MakeCampaign) -> None:
    page = page_of(make_campaign(rates=(1e-4, 1e-3, 1e-2)))
    for wanted in (
        "Single flips in ResNet",
        "Stopped early by its rule",
        "Of 4 kinds of faults",
        "What was done",
        "Protections, in this order: secded (sites = weight).",
        "17 694 720",  # possible faults
        "Leveugle, ±1 %",
        "Outcomes",
        "Where it hurts: layer by bit",
        "Hatched: not tried, 1 of 480 cells",
        "Vulnerability",
        "Most vulnerable channels",
        "Accuracy against the rate of faults",
        "Convergence of the estimate",
        "Silent data corruption",
        "SC 2017",
        "DATE 2009",
        "2.13.0+cpu",
        "2 min 03 s",
    ):
        assert wanted in page.words
    assert page.words.count("layer3.7.conv2") >= 2


def test_the_headline_is_a_sentence(make_campaign: MakeCampaign, summary: MakeSummary) -> None:
    told = summary(n_layers=1)
    told["totals"][0]["rates"]["sdc1"] = [0.0035, 0.0042, 0.005]
    assert headline(read_summary(make_campaign(told))) == [
        "One flipped weight bit changes the answer of 0.42\xa0% of images "
        "(95\xa0%: 0.35\xa0to\xa00.50\xa0%)."
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"extent": "3 places"}, "3 flipped weight bits together change the answer of"),
        ({"extent": "rate 0.001", "rate": 1e-3}, "At a rate of 10⁻³, flipped weight bits change"),
        ({"extent": "exhaustive"}, "One flipped weight bit changes"),
        ({"kind": {"kind": "stuck_at", "value": 1}}, "One weight bit stuck at 1 changes"),
        ({"kind": {"kind": "word_line"}}, "One fault of the kind “flip in weight” changes"),
        ({"extent": "together"}, "All kinds of faults together change"),
        ({"extent": "together", "population": 0}, "The listed faults change"),
        ({"sites": ["weight", "bias"]}, "One flipped weight or bias bit changes"),
    ],
)
def test_the_headline_says_what_broke(
    change: dict[str, Any], sentence: str, make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1)
    told["groups"][0] |= change
    assert sentence in headline(read_summary(make_campaign(told)))[0]


@pytest.mark.parametrize(
    ("extent", "asked"), [("one place", 9599), ("3 places", 9604), ("rate 0.1", 9604)]
)
def test_the_page_says_what_leveugle_asks_for(
    extent: str, asked: int, make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=60)
    told["groups"][0] |= {"extent": extent, "needed": 7}
    folder = make_campaign(told)
    assert planned(read_summary(folder))[0].asked == asked
    assert grouped(asked) in page_of(folder).text


def test_trials_of_all_kinds_together_have_one_sentence(make_campaign: MakeCampaign) -> None:
    folder = make_campaign(n_layers=0, rates=(1e-3,), together=True)
    page = page_of(folder)
    assert "All kinds of faults together change the answer of" in page.words
    assert "Every trial meets all kinds of faults at once." in page.words
    assert "no harm can be put down to one layer and bit" in page.words


def test_every_cell_tells_rate_interval_and_trials(make_campaign: MakeCampaign) -> None:
    page = page_of(make_campaign())
    notes = [text for name, text in page.attributes if name == "title"]
    assert len(notes) == 61 * 9
    assert "layer1.0.conv1, bit 7: 40 % (95 %: 22 to 61 %); trials: 20, places: 36\xa0864" in notes
    assert "layer1.1.conv2, bit 0: not tried, places: 36\xa0864" in notes


def test_a_sum_that_the_summary_lacks_is_not_called_untried(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=2)
    told["cells"] += [cell | {"site": "bias"} for cell in told["cells"]]
    page = page_of(make_campaign(told))
    assert "not tried" not in page.words.replace("over 30 % not tried", "")
    assert ("title", "all layers, all bits: not in the summary") in page.attributes


def test_the_headline_tells_detected_errors(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=1)
    told["totals"][0]["rates"]["due"] = [0.07, 0.08, 0.09]
    sentence = headline(read_summary(make_campaign(told)))[0]
    assert sentence.endswith("; errors are detected (DUE) in 8\xa0%.")


def test_a_campaign_without_results_gives_a_page(
    make_campaign: MakeCampaign, summary: MakeSummary
) -> None:
    told = summary(n_layers=0)
    lists = ("groups", "outcomes", "totals", "layers", "bits", "cells", "channels", "convergence")
    told |= {name: [] for name in lists}
    told["campaign"] |= {"trials": 0, "stopped": False, "protections": []}
    page = page_of(make_campaign(told))
    assert "This campaign has no results yet." in page.words
    assert "Partial campaign" in page.words
    assert "The network has no protection." in page.words


def test_the_page_asks_for_nothing_and_runs_nothing(make_campaign: MakeCampaign) -> None:
    folder = make_campaign(rates=(1e-3,))
    page = page_of(folder)
    assert not {"script", "link", "img", "iframe", "object", "image", "use"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in {"src", "href", "xlink:href"}]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    raw = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\(|@import", raw)


def test_hostile_names_stay_text(make_campaign: MakeCampaign, summary: MakeSummary) -> None:
    text = json.dumps(summary(n_layers=2, rates=(1e-3,)))
    for name in ("layer1.0.conv1", "Single flips", "resnet18", "secded", "cifar10", "oneDNN"):
        text = text.replace(name, json.dumps(NASTY)[1:-1])
    for name in ("layer1.0.conv2", "flip in weight", '"weight', "2.13.0"):
        head = '"' if name.startswith('"') else ""
        text = text.replace(name, head + json.dumps(CDATA)[1:-1])
    page = page_of(make_campaign(json.loads(text)))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(NASTY) > 5
    assert page.text.count(CDATA) > 10


def test_the_same_summary_gives_the_same_bytes(make_campaign: MakeCampaign) -> None:
    folder = make_campaign(n_layers=3)
    assert write_campaign_report(folder).read_bytes() == write_campaign_report(folder).read_bytes()


def test_a_network_of_sixty_layers_stays_small(make_campaign: MakeCampaign) -> None:
    assert write_campaign_report(make_campaign()).stat().st_size < 300_000


def test_a_damaged_summary_leaves_the_old_report(make_campaign: MakeCampaign) -> None:
    folder = make_campaign(n_layers=1)
    old = write_campaign_report(folder).read_bytes()
    (folder / "summary.json").write_text("rubbish")
    with pytest.raises(DataError):
        write_campaign_report(folder)
    assert (folder / "report.html").read_bytes() == old


def test_colours_rise_with_the_rate() -> None:
    rates = [0.0, *(limit * factor for limit in LIMITS for factor in (0.9, 1.1)), 1.0]
    found = [int(colour(rate)[1:]) for rate in rates]
    assert found == sorted(found)
    assert set(found) == set(range(10))


@pytest.mark.parametrize("n", [3, 50, 1000, 100_000, 10_000_000])
def test_digits_shown_tell_the_ends_of_an_interval_from_the_rate(n: int) -> None:
    for successes in {0, 1, n // 7, n // 2, n}:
        rate = wilson(successes, n)
        low, high = span(rate).split(" to ")
        assert float(low) <= float(value(rate)) <= float(high)
        assert float(low) < float(high)
        assert abs(float(value(rate)) - 100 * rate.value) <= 100 * (rate.high - rate.low)
        assert (float(value(rate)) > 0) == (successes > 0)


def test_bars_end_at_a_round_number_above_every_rate() -> None:
    for highest in (1e-6, 0.0123, 0.0999, 0.37, 1.0):
        rate = Interval(highest / 2, highest, min(2 * highest, 1.0))
        assert highest <= scale_end([rate]) <= 1.0
    assert scale_end([]) == 1.0
    assert "M0,2H100V10H0z" in whisker_bar(Interval(0.0, 0.5, 1.0), 1.0)


def test_the_margin_is_drawn_unless_it_dwarfs_the_interval() -> None:
    ends = [wilson(n // 25, n) for n in (100, 1000, 10_000)]
    series = Convergence(
        group=0,
        outcome="sdc1",
        trials=(100, 1000, 10_000),
        low=tuple(end.low for end in ends),
        value=tuple(end.value for end in ends),
        high=tuple(end.high for end in ends),
    )
    assert convergence_chart(series, 0.01, "x").count("stroke-dasharray") == 2
    assert convergence_chart(series, 0.5, "x").count("stroke-dasharray") == 0
    assert convergence_chart(series, None, "x").count("stroke-dasharray") == 0


def test_long_convergence_is_thinned_and_keeps_its_end() -> None:
    n = 5000
    series = Convergence(
        group=0,
        outcome="sdc1",
        trials=tuple(range(n)),
        low=(0.1,) * n,
        value=(0.2,) * n,
        high=(0.3,) * n,
    )
    drawn = convergence_chart(series, None, "x")
    assert len(drawn) < 15_000
    assert "1\xa0000" in drawn
